// The encrypted page's hands: the whole picture, its shares and the answer are here and nowhere
// else. This worker's own policy lets it reach the two operators' origins and nothing else; what
// goes there is what operators.js sends: a share of uniform words to each, never the picture.

import { checkCanvas, decoded } from "./decode.js";
import { judged } from "./kind.js";
import { Operator } from "./operators.js";
import { Refused, framed, inChannels, squareOf } from "./picture.js";
import { previewOf } from "./preview.js";
import { fixedPoint, opened, secondShare, shareSize, softmax } from "./shares.js";
import { serve } from "./served.js";

const DRAW = 65_536; // bytes that a browser draws at once

let asked, operators, words;

async function start({ publication }) {
  checkCanvas();
  asked = publication;
  operators = asked.operators.map((origin) => new Operator(origin));
  return {};
}

async function look({ bytes }) {
  const { kind, input } = asked.card.about;
  const { channels, size, frame, window } = input;
  words = undefined;
  const plane = await decoded(new Uint8Array(bytes), window);
  const levels = framed(inChannels(plane, channels), size, frame).data;
  const { verdict, strangeness } = judged(kind, plane);
  if (verdict === "known") words = prepared(levels);
  const { preview, scale } = previewOf(plane);
  const square = squareOf(plane, size, frame);
  for (const side in square) square[side] *= scale;
  return { verdict, strangeness, preview, square, bytes: 2 * shareSize(levels.length, asked.ring_bits) };
}

function prepared(levels) {
  const found = fixedPoint(levels, asked.image, asked.card, asked);
  if (!found) throw new Refused("failed");
  return found;
}

/** Shares the picture that was looked at, once, and opens the answer. */
async function ask(_request, progress) {
  const secret = words;
  if (!secret) throw new Refused("failed");
  const stop = new AbortController();
  const both = (does) => together(operators.map(does), stop);
  progress("checking");
  await both((one) => one.check(asked, stop.signal));
  progress("sending");
  const messages = shared(secret);
  const begun = performance.now();
  await both((one, k) => one.send(messages[k], stop.signal));
  progress("waiting");
  const answers = await both((one, k) => one.answer(messages[k], stop.signal));
  const logits = opened(answers, asked.card.classes.length, asked);
  if (!logits) throw new Refused("answer");
  const { temperature } = asked.card.about;
  const probabilities = softmax(logits.map((one) => one / temperature));
  return { logits, probabilities, seconds: (performance.now() - begun) / 1000 };
}

/** Waits for both; where one fails the other's request ends, too. */
async function together(promises, stop) {
  try {
    return await Promise.all(promises);
  } catch (error) {
    stop.abort();
    throw error;
  }
}

/** What each operator is sent: the same session, another token, another share. */
function shared(secret) {
  const { publication, ring_bits: bits } = asked;
  const session = hexadecimal(drawn(16));
  const first = drawn(shareSize(secret.length, bits));
  const second = secondShare(secret, first, bits);
  return [first, second].map((share) => ({
    publication,
    session,
    token: hexadecimal(drawn(32)),
    share,
  }));
}

function drawn(size) {
  const out = new Uint8Array(size);
  for (let at = 0; at < size; at += DRAW) crypto.getRandomValues(out.subarray(at, at + DRAW));
  return out;
}

function hexadecimal(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

serve({ start, look, ask });
