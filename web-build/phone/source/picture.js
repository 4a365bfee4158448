// From values to the square of bytes that the model sees. The twin of consilium.data.rendering,
// resizing and framing: whole numbers below 2**53, halves up, hence the same bytes.
// A plane is {channels, height, width, data: Uint8Array}, channel after channel.

export class Refused extends Error {
  constructor(reason, facts = {}) {
    super(reason);
    this.reason = reason; // a key of words/*.json, "refused.<reason>",
    this.facts = facts; // and what its words name
  }
}

/** Grey levels of values: black at `low` and below, white at `high` and above. */
export function windowed(values, [low, high]) {
  const out = new Uint8Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const scaled = ((values[i] - low) * 255) / (high - low);
    out[i] = Math.floor(Math.min(Math.max(scaled, 0), 255) + 0.5);
  }
  return out;
}

/** The plane in grey (ITU-R BT.601, as Pillow rounds it) or in three channels. */
export function inChannels(plane, channels) {
  if (plane.channels === channels) return plane;
  const { height, width, data } = plane;
  const size = height * width;
  const out = new Uint8Array(channels * size);
  if (channels === 3) for (let c = 0; c < 3; c++) out.set(data, c * size);
  else
    for (let i = 0; i < size; i++)
      out[i] = (19595 * data[i] + 38470 * data[size + i] + 7471 * data[2 * size + i] + 32768) >> 16;
  return { channels, height, width, data: out };
}

/** Mean over pixels of the largest less the smallest channel. */
export function colourfulness({ channels, height, width, data }) {
  if (channels === 1) return 0;
  const size = height * width;
  let sum = 0;
  for (let i = 0; i < size; i++) {
    const [r, g, b] = [data[i], data[size + i], data[2 * size + i]];
    sum += Math.max(r, g, b) - Math.min(r, g, b);
  }
  return sum / size;
}

/** How much of input pixel j lies in output pixel i, in 1/size of a pixel. */
function overlap(i, j, length, size) {
  return Math.min((i + 1) * length, (j + 1) * size) - Math.max(i * length, j * size);
}

/** Each pixel the mean over the area that it covers; no side grows. */
export function shrunk(plane, height, width) {
  const { channels, height: rows, width: columns, data } = plane;
  if (rows === height && columns === width) return plane;
  const out = new Uint8Array(channels * height * width);
  const area = rows * columns;
  const line = new Float64Array(columns);
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++) {
      line.fill(0);
      for (let j = Math.floor((y * rows) / height); j * height < (y + 1) * rows; j++) {
        const weight = overlap(y, j, rows, height);
        const start = (c * rows + j) * columns;
        for (let x = 0; x < columns; x++) line[x] += weight * data[start + x];
      }
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let k = Math.floor((x * columns) / width); k * width < (x + 1) * columns; k++)
          sum += overlap(x, k, columns, width) * line[k];
        out[(c * height + y) * width + x] = Math.floor((2 * sum + area) / (2 * area));
      }
    }
  return { channels, height, width, data: out };
}

function cut(plane, top, left, side) {
  const { channels, height, width, data } = plane;
  const out = new Uint8Array(channels * side * side);
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < side; y++) {
      const start = (c * height + top + y) * width + left;
      out.set(data.subarray(start, start + side), (c * side + y) * side);
    }
  return { channels, height: side, width: side, data: out };
}

function centredIn(plane, size) {
  const { channels, height, width, data } = plane;
  if (height === size && width === size) return plane;
  const out = new Uint8Array(channels * size * size);
  const [top, left] = [Math.floor((size - height) / 2), Math.floor((size - width) / 2)];
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++) {
      const start = (c * height + y) * width;
      out.set(data.subarray(start, start + width), (c * size + top + y) * size + left);
    }
  return { channels, height: size, width: size, data: out };
}

function fitted(height, width, size) {
  const longer = Math.max(height, width);
  if (longer <= size) return [height, width];
  const share = (side) => Math.max(1, Math.floor((2 * side * size + longer) / (2 * longer)));
  return [share(height), share(width)];
}

/** The picture as a square of `size`, by the rule `frame`: pad, squash or crop. */
export function framed(plane, size, frame) {
  const { height, width } = plane;
  if (frame === "pad") return centredIn(shrunk(plane, ...fitted(height, width, size)), size);
  if (Math.min(height, width) < size) throw new Refused("small");
  if (frame === "crop") {
    const side = Math.min(height, width);
    const [top, left] = [Math.floor((height - side) / 2), Math.floor((width - side) / 2)];
    plane = cut(plane, top, left, side);
  }
  return shrunk(plane, size, size);
}

/** Where that square lies on the picture, in pixels of the picture. */
export function squareOf({ height, width }, size, frame) {
  if (frame === "squash") return { left: 0, top: 0, width, height };
  const longer = Math.max(height, width);
  const side = frame === "crop" ? Math.min(height, width) : Math.max(longer, size);
  return { left: (width - side) / 2, top: (height - side) / 2, width: side, height: side };
}
