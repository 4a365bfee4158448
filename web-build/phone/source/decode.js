// From the bytes of a file to a plane. Sizes are read from the header before a pixel is decoded;
// pixels go through a canvas of this browser, so nothing else of the file (EXIF) goes on.

import { isDicom, readDicom } from "./dicom.js";
import { Refused } from "./picture.js";
import { readPng16 } from "./png.js";

const MOST_VALUES = 2 ** 26;
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** Returns the plane in `bytes`; `window` (black, white) null takes the file's own. */
export async function decoded(bytes, window) {
  if (isDicom(bytes)) return readDicom(bytes, window, (frame) => coded(frame, jpegHeader(frame)));
  if (PNG.every((byte, i) => bytes[i] === byte)) {
    const header = pngHeader(bytes);
    return header.depth === 16 ? readPng16(bytes, header, window) : coded(bytes, header);
  }
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return coded(bytes, jpegHeader(bytes));
  throw new Refused("format");
}

function checked(header) {
  const values = header.width * header.height * header.channels;
  if (!(values >= 1)) throw new Refused("damaged");
  if (values > MOST_VALUES) throw new Refused("large");
  return header;
}

function pngHeader(bytes) {
  if (bytes.length < 33) throw new Refused("damaged");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const colour = bytes[25];
  return checked({
    width: view.getUint32(16),
    height: view.getUint32(20),
    depth: bytes[24],
    colour,
    channels: colour === 0 || colour === 4 ? 1 : 3,
    interlaced: bytes[28] !== 0,
    type: "image/png",
  });
}

function jpegHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 2; at + 9 < bytes.length; ) {
    if (bytes[at] !== 0xff) throw new Refused("damaged");
    const marker = bytes[at + 1];
    if (marker === 0xff) {
      at += 1; // fill
      continue;
    }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      const channels = bytes[at + 9];
      if (channels !== 1 && channels !== 3) throw new Refused("format");
      const [height, width] = [view.getUint16(at + 5), view.getUint16(at + 7)];
      return checked({ width, height, channels, type: "image/jpeg" });
    }
    at += 2 + view.getUint16(at + 2);
  }
  throw new Refused("damaged");
}

async function coded(bytes, { channels, type }) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type }), {
      colorSpaceConversion: "none",
      imageOrientation: "from-image",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Refused("damaged");
  }
  const { width, height } = bitmap;
  const pixels = levelsOf(bitmap, width, height);
  bitmap.close();
  return planeOf(pixels, channels, height, width);
}

function levelsOf(bitmap, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  canvas.width = canvas.height = 0;
  return data;
}

function planeOf(pixels, channels, height, width) {
  const size = height * width;
  const data = new Uint8Array(channels * size);
  for (let i = 0; i < size; i++) {
    if (pixels[4 * i + 3] !== 255) throw new Refused("transparent");
    for (let c = 0; c < channels; c++) data[c * size + i] = pixels[4 * i + c];
  }
  return { channels, height, width, data };
}

/** Refuses a browser that changes what a canvas holds, as some do against fingerprinting. */
export function checkCanvas() {
  const canvas = new OffscreenCanvas(16, 16);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const made = new ImageData(16, 16);
  for (let i = 0; i < made.data.length; i++) made.data[i] = i % 4 === 3 ? 255 : (i * 37) % 256;
  context.putImageData(made, 0, 0);
  const found = context.getImageData(0, 0, 16, 16).data;
  if (found.some((level, i) => level !== made.data[i])) throw new Refused("canvas");
}
