// PNG pictures of 16 bits a value, which browsers turn into 8 bits each in their own way.
// Grey keeps its 16 bits until the window; of colour the high byte counts, as Pillow has it.

import { Refused, windowed } from "./picture.js";

const CHANNELS = { 0: 1, 2: 3, 4: 2, 6: 4 }; // by colour type

export async function readPng16(bytes, header, window) {
  if (header.interlaced) throw new Refused("format");
  const { width, height, colour } = header;
  const samples = CHANNELS[colour];
  const lines = unfiltered(await inflated(bytes), width * samples * 2, height, samples * 2);
  const size = width * height;
  if (samples < 3) {
    const values = new Uint16Array(size);
    for (let i = 0; i < size; i++)
      values[i] = lines[2 * i * samples] * 256 + lines[2 * i * samples + 1];
    return { channels: 1, height, width, data: windowed(values, window ?? [0, 65535]) };
  }
  const data = new Uint8Array(3 * size);
  for (let i = 0; i < size; i++)
    for (let c = 0; c < 3; c++) data[c * size + i] = lines[2 * (i * samples + c)];
  return { channels: 3, height, width, data };
}

async function inflated(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === "IDAT")
      parts.push(bytes.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  try {
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Refused("damaged");
  }
}

function unfiltered(raw, length, height, step) {
  if (raw.length !== (length + 1) * height) throw new Refused("damaged");
  const out = new Uint8Array(length * height);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (length + 1)];
    for (let x = 0; x < length; x++) {
      const left = x >= step ? out[y * length + x - step] : 0;
      const up = y > 0 ? out[(y - 1) * length + x] : 0;
      const corner = x >= step && y > 0 ? out[(y - 1) * length + x - step] : 0;
      out[y * length + x] = raw[y * (length + 1) + 1 + x] + predicted(filter, left, up, corner);
    }
  }
  return out;
}

function predicted(filter, left, up, corner) {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return up;
  if (filter === 3) return (left + up) >> 1;
  if (filter !== 4) throw new Refused("damaged");
  const [a, b, c] = [left, up, corner].map((one) => Math.abs(left + up - corner - one));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
