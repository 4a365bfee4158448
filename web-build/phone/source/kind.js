// Whether a picture is of the kind that the model knows: consilium.learning.familiarity in
// double precision.

import { colourfulness, framed, inChannels } from "./picture.js";

export function strangeness(kind, plane) {
  const grid = framed(inChannels(plane, kind.channels), kind.grid, kind.frame).data;
  const n = grid.length;
  let mean = 0;
  for (const level of grid) mean += level / n;
  let variance = 0;
  for (const level of grid) variance += (level - mean) ** 2 / n;
  const spread = Math.max(Math.sqrt(variance), 1);
  const left = Float64Array.from(grid, (level, i) => (level - mean) / spread - kind.centre[i]);
  const offset = left.slice();
  for (const direction of kind.directions) {
    let along = 0;
    for (let i = 0; i < n; i++) along += offset[i] * direction[i];
    for (let i = 0; i < n; i++) left[i] -= along * direction[i];
  }
  let sum = 0;
  for (const rest of left) sum += rest * rest;
  return sum / n;
}

export function judged(kind, plane) {
  if (kind === null) return { verdict: "known", strangeness: 0 };
  if (colourfulness(plane) > kind.most_colour) return { verdict: "in colour", strangeness: 0 };
  const found = strangeness(kind, plane);
  return { verdict: found <= kind.limit ? "known" : "strange", strangeness: found };
}
