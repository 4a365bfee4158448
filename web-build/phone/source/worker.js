// Everything that touches a picture or the model. Its own policy (sw.js, serving.py) gives this
// worker no way to the network: bytes come and answers go by messages of the page alone.

import * as ort from "onnxruntime-web/wasm";
import { checkCanvas, decoded } from "./decode.js";
import { judged } from "./kind.js";
import { Refused, framed, inChannels, squareOf } from "./picture.js";
import { previewOf } from "./preview.js";
import { serve } from "./served.js";

const CELLS = 8; // a side; what is covered is two cells wide, one cell further each time
const NOTHING = { logits: [], probabilities: [] };

let card, model, session, last;

async function start(request) {
  ({ card, model } = request);
  checkCanvas();
  const found = await digest();
  if (found !== card.sha256) throw new Refused("digest");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = request.wasm;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { digest: found };
}

async function digest() {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", model));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function look({ bytes }) {
  const { channels, size, frame, window } = card.input;
  const plane = await decoded(new Uint8Array(bytes), window);
  const levels = framed(inChannels(plane, channels), size, frame);
  const { verdict, strangeness } = judged(card.kind, plane);
  const { preview, scale } = previewOf(plane);
  const square = squareOf(plane, size, frame);
  for (const side in square) square[side] *= scale;
  const { logits, probabilities } = verdict === "known" ? await run(levels.data) : NOTHING;
  last = verdict === "known" ? { levels, logits } : undefined;
  return { verdict, strangeness, probabilities, preview, square, levels: levels.data };
}

async function run(levels) {
  const { channels, size } = card.input;
  const image = new ort.Tensor("uint8", levels, [1, channels, size, size]);
  const { logits, probabilities } = await session.run({ image });
  return { logits: Array.from(logits.data), probabilities: Array.from(probabilities.data) };
}

/** Where covering the picture changes the answer most: drops of the answer's log odds. */
async function where(_request, progress) {
  const { levels, logits } = last;
  const top = logits.indexOf(Math.max(...logits));
  const grey = means(levels);
  const side = CELLS - 1;
  const drops = new Float32Array(side * side);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) {
      const found = await run(covered(levels, grey, y, x));
      drops[y * side + x] = logOdds(logits, top) - logOdds(found.logits, top);
      progress((y * side + x + 1) / drops.length);
    }
  return { drops, side };
}

function logOdds(logits, top) {
  const others = logits.filter((_, i) => i !== top);
  const most = Math.max(...others);
  return logits[top] - most - Math.log(others.reduce((sum, one) => sum + Math.exp(one - most), 0));
}

function means({ channels, height, width, data }) {
  const size = height * width;
  return Array.from({ length: channels }, (_, c) => {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += data[c * size + i];
    return Math.round(sum / size);
  });
}

function covered({ channels, height, width, data }, grey, y, x) {
  const out = data.slice();
  const edge = (cell, length) => Math.floor((cell * length) / CELLS);
  for (let c = 0; c < channels; c++)
    for (let row = edge(y, height); row < edge(y + 2, height); row++) {
      const start = (c * height + row) * width;
      out.fill(grey[c], start + edge(x, width), start + edge(x + 2, width));
    }
  return out;
}

serve({ start, look, where, digest });
