// DICOM objects of one plane: consilium.data.dicom_files for what a phone is likely to hold.
// Uncompressed, RLE, and JPEG baseline in grey; anything else is refused by name.

import * as dicomParser from "dicom-parser";
import { Refused, windowed } from "./picture.js";

const RAW = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"];
const BIG_ENDIAN = "1.2.840.10008.1.2.2";
const RLE = "1.2.840.10008.1.2.5";
const JPEG = "1.2.840.10008.1.2.4.50";
const MOST_VALUES = 2 ** 26;
const TABLES = ["x00283000", "x00283010", "x52009229", "x52009230"]; // look-up tables, enhanced

export const isDicom = (bytes) => String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";

/** Returns the plane, given how to decode a grey JPEG; `window` null takes the file's own. */
export async function readDicom(bytes, window, decodeJpeg) {
  let object;
  try {
    object = dicomParser.parseDicom(bytes);
  } catch (error) {
    throw new Refused(/inflater/.test(error?.exception ?? error) ? "syntax" : "dicom");
  }
  const facts = factsOf(object);
  if (facts.channels === 3) return colourPlane(object, facts, window, bytes);
  const stored = await storedValues(object, facts, bytes, decodeJpeg);
  const values = rescaled(stored, facts);
  const shown = ownWindow(object, facts, values);
  if (facts.inverted) {
    const sum = Math.fround(shown[0] + shown[1]);
    for (let i = 0; i < values.length; i++) values[i] = sum - values[i];
  }
  return plane(facts, 1, windowed(values, window ?? shown));
}

function factsOf(object) {
  const number = (tag, otherwise) => object.uint16(tag) ?? otherwise;
  const facts = {
    syntax: object.string("x00020010"),
    rows: number("x00280010", 0),
    columns: number("x00280011", 0),
    channels: number("x00280002", 1),
    allocated: number("x00280100", 0),
    bits: number("x00280101", 0),
    signed: number("x00280103", 0) === 1,
    planar: number("x00280006", 0) === 1,
    colours: object.string("x00280004"),
    slope: object.floatString("x00281053"),
    intercept: object.floatString("x00281052"),
    element: object.elements.x7fe00010,
  };
  facts.inverted = facts.colours === "MONOCHROME1";
  facts.size = facts.rows * facts.columns;
  check(facts, object);
  return facts;
}

function check(facts, object) {
  if (!facts.element || facts.size < 1) throw new Refused("nopixels");
  if (facts.size * facts.channels > MOST_VALUES) throw new Refused("large");
  if (Number(object.string("x00280008") ?? 1) !== 1) throw new Refused("frames");
  if (![...RAW, RLE, JPEG].includes(facts.syntax)) throw new Refused("syntax");
  const grey = ["MONOCHROME1", "MONOCHROME2"].includes(facts.colours) && facts.channels === 1;
  const colour = facts.colours === "RGB" && facts.channels === 3 && facts.syntax !== JPEG;
  if (TABLES.some((tag) => tag in object.elements) || !(grey || colour))
    throw new Refused("syntax");
  const whole = [8, 16].includes(facts.allocated) && facts.bits >= 1;
  if (!whole || facts.bits > facts.allocated) throw new Refused("syntax");
  if ((facts.syntax === JPEG || colour) && facts.allocated !== 8) throw new Refused("syntax");
  // Bytes of big-endian words lie in one of two orders, which only the element's VR tells.
  if (facts.syntax === BIG_ENDIAN && facts.allocated === 8) throw new Refused("syntax");
}

const plane = ({ rows, columns }, channels, data) => ({
  channels,
  height: rows,
  width: columns,
  data,
});

function colourPlane(object, facts, window, bytes) {
  const length = 3 * facts.size;
  const raw = facts.syntax === RLE ? rleBytes(object, facts, bytes, 3) : rawBytes(facts, bytes, length);
  const out = new Uint8Array(length);
  const apart = facts.planar || facts.syntax === RLE;
  for (let i = 0; i < facts.size; i++)
    for (let c = 0; c < 3; c++)
      out[c * facts.size + i] = apart ? raw[c * facts.size + i] : raw[3 * i + c];
  const shown = window ?? [0, 2 ** facts.bits - 1];
  const full = shown[0] === 0 && shown[1] === 255;
  return plane(facts, 3, full ? out : windowed(out, shown));
}

function rawBytes({ element, syntax }, bytes, length) {
  const raw = bytes.slice(element.dataOffset, element.dataOffset + length);
  if (element.encapsulatedPixelData || raw.length < length) throw new Refused("dicom");
  return raw;
}

async function storedValues(object, facts, bytes, decodeJpeg) {
  const { syntax, allocated, size, bits, signed } = facts;
  if (syntax === JPEG) return jpegValues(object, facts, bytes, decodeJpeg);
  const wide = allocated === 16;
  const raw =
    syntax === RLE
      ? interleaved(rleBytes(object, facts, bytes, wide ? 2 : 1), size, wide)
      : rawBytes(facts, bytes, wide ? 2 * size : size);
  const view = new DataView(raw.buffer, raw.byteOffset);
  const little = syntax !== BIG_ENDIAN;
  const unused = 32 - bits;
  const out = new Int32Array(size);
  for (let i = 0; i < size; i++) {
    const value = (wide ? view.getUint16(2 * i, little) : raw[i]) << unused;
    out[i] = signed ? value >> unused : value >>> unused; // unused high bits are cleared
  }
  return out;
}

async function jpegValues(object, facts, bytes, decodeJpeg) {
  let frame;
  try {
    const { encapsulatedPixelData } = facts.element;
    if (!encapsulatedPixelData) throw new Refused("dicom");
    frame = dicomParser.readEncapsulatedPixelDataFromFragments(
      object,
      facts.element,
      0,
      facts.element.fragments.length,
    );
  } catch {
    throw new Refused("dicom");
  }
  const found = await decodeJpeg(frame.slice());
  if (found.channels !== 1 || found.height !== facts.rows || found.width !== facts.columns)
    throw new Refused("dicom");
  return Int32Array.from(found.data);
}

// -- RLE (PS3.5, annex G) ----------------------------------------------------------------

function rleBytes(object, facts, bytes, segments) {
  const { fragments } = facts.element;
  if (!fragments || fragments.length !== 1) throw new Refused("dicom");
  const { position, length } = fragments[0];
  const frame = bytes.subarray(position, position + length);
  const header = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < 64 || header.getUint32(0, true) !== segments) throw new Refused("dicom");
  const out = new Uint8Array(segments * facts.size);
  for (let s = 0; s < segments; s++) {
    const start = header.getUint32(4 + 4 * s, true);
    const end = s + 1 < segments ? header.getUint32(8 + 4 * s, true) : frame.length;
    unpack(frame.subarray(start, end), out.subarray(s * facts.size, (s + 1) * facts.size));
  }
  return out;
}

function unpack(packed, out) {
  let at = 0;
  for (let i = 0; i < packed.length && at < out.length; ) {
    const code = packed[i++];
    if (code < 128) {
      const literal = packed.subarray(i, i + code + 1).subarray(0, out.length - at);
      out.set(literal, at);
      at += literal.length;
      i += code + 1;
    } else if (code > 128) {
      const end = Math.min(out.length, at + 257 - code);
      out.fill(packed[i++], at, end);
      at = end;
    }
  }
  if (at < out.length) throw new Refused("dicom");
}

/** Most significant bytes first, as segments are, to little-endian words. */
function interleaved(segments, size, wide) {
  if (!wide) return segments;
  const out = new Uint8Array(2 * size);
  for (let i = 0; i < size; i++) {
    out[2 * i + 1] = segments[i];
    out[2 * i] = segments[size + i];
  }
  return out;
}

// -- Values ------------------------------------------------------------------------------

function rescaled(stored, { slope, intercept }) {
  if (slope === undefined || intercept === undefined) return Float32Array.from(stored);
  const out = Float32Array.from(stored, (value) => value * slope + intercept);
  if (!out.every(Number.isFinite)) throw new Refused("dicom");
  return out;
}

function ownWindow(object, facts, values) {
  const centre = object.floatString("x00281050");
  const width = object.floatString("x00281051");
  const exact = object.string("x00281056") === "LINEAR_EXACT";
  if (centre !== undefined && width !== undefined && width > (exact ? 0 : 1)) {
    if (exact) return [centre - width / 2, centre + width / 2];
    const half = (width - 1) / 2;
    return [centre - 0.5 - half, centre - 0.5 + half];
  }
  if (facts.bits <= 8 && facts.slope === undefined && !facts.signed)
    return [0, 2 ** facts.bits - 1];
  const sorted = values.slice().sort();
  const [low, high] = [percentile(sorted, 0.005), percentile(sorted, 0.995)];
  return low < high ? [low, high] : [low, low + 1];
}

/** numpy's percentile of sorted float32 values, linear between two of them. */
function percentile(sorted, share) {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const [a, b] = [sorted[below], sorted[Math.min(below + 1, sorted.length - 1)]];
  const step = Math.fround(b - a);
  const part = at - below;
  return part >= 0.5 ? b - step * (1 - part) : a + step * part;
}
