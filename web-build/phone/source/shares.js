// A picture as two shares, and an answer from two shares: docs/inference.md, "The format of
// shares". Words of b bits modulo 2**b, little-endian in b / 8 bytes; checked against Python by
// tests/vectors/inference_shares.json. Nothing here draws randomness or reaches the network.

const WHITE = 255;

/** What each of the 256 grey levels becomes, as consilium.learning.preprocessing: float32. */
export function values(levels, { mean, std, standardise_each_image }) {
  const [centre, spread] = standardise_each_image ? moments(levels) : [mean * WHITE, std * WHITE];
  return Float32Array.from({ length: 256 }, (_, level) => (level - centre) / spread);
}

/** Mean and spread of the levels, the latter at least 1; sums are whole numbers. */
function moments(levels) {
  let [total, squares] = [0, 0];
  for (const level of levels) {
    total += level;
    squares += level * level;
  }
  const n = levels.length;
  const variance = Number(BigInt(n) * BigInt(squares) - BigInt(total) ** 2n) / n ** 2;
  return [total / n, Math.max(Math.sqrt(variance), 1)];
}

/** The nearest whole number, halves to the even one. */
function nearest(x) {
  const below = Math.floor(x);
  const rest = x - below;
  return rest === 0.5 ? below + (below % 2 === 0 ? 0 : 1) : Math.round(x);
}

/**
 * round(x 2**image_fraction) of each pixel by row, column, channel, of levels by channel, row,
 * column; undefined where a value does not fit the ring.
 */
export function fixedPoint(levels, [height, width, channels], preprocessing, asked) {
  const { image_fraction, ring_bits } = asked;
  const limit = 2 ** Math.min(ring_bits - 1, 53);
  const units = Float64Array.from(values(levels, preprocessing), (x) =>
    nearest(x * 2 ** image_fraction),
  );
  if (!units.every((x) => Math.abs(x) < limit)) return undefined;
  const size = height * width;
  const out = new Float64Array(size * channels);
  for (let c = 0; c < channels; c++)
    for (let i = 0; i < size; i++) out[i * channels + c] = units[levels[c * size + i]];
  return out;
}

/** Random bytes that sharing `count` words takes: they are operator 0's share. */
export const shareSize = (count, bits) => (count * bits) / 8;

/** Operator 1's share of `words` (whole numbers) when `first` is operator 0's. */
export function secondShare(words, first, bits) {
  const size = bits / 8;
  const out = new Uint8Array(first.length);
  for (let i = 0, at = 0; i < words.length; i++) {
    let rest = words[i];
    let borrow = 0;
    for (let k = 0; k < size; k++, at++) {
      const higher = Math.floor(rest / 256);
      const digit = rest - 256 * higher - first[at] - borrow;
      borrow = digit < 0 ? 1 : 0;
      out[at] = digit; // modulo 256
      rest = higher;
    }
  }
  return out;
}

/** What two shares of an answer stand for, in units of `unit`; undefined where sizes differ. */
export function opened([first, second], count, { ring_bits, unit }) {
  const size = ring_bits / 8;
  if (first.length !== count * size || second.length !== count * size) return undefined;
  return Array.from({ length: count }, (_, i) => {
    const sum = word(first, i * size, size) + word(second, i * size, size);
    return Number(BigInt.asIntN(ring_bits, sum)) * unit;
  });
}

function word(bytes, at, size) {
  let found = 0n;
  for (let k = size - 1; k >= 0; k--) found = (found << 8n) | BigInt(bytes[at + k]);
  return found;
}

export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = logits.map((one) => Math.exp(one - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((one) => one / sum);
}
