// What is drawn: the picture, and over it where the answer comes from.

const LEAST = 0.1; // a smaller drop of log odds is no reason to point anywhere

export function drawPreview(canvas, preview) {
  canvas.width = preview.width;
  canvas.height = preview.height;
  canvas.getContext("2d").putImageData(preview, 0, 0);
}

/** Draws drops of log odds over the picture; returns the ninth with the largest, if any. */
export function drawHeat(canvas, preview, { drops, side }, square) {
  const most = Math.max(...drops);
  if (most < LEAST) return undefined;
  const cells = new OffscreenCanvas(side, side);
  const shades = new ImageData(side, side);
  for (let i = 0; i < drops.length; i++)
    shades.data.set([255, 120, 0, (200 * Math.max(drops[i], 0)) / most], 4 * i);
  cells.getContext("2d").putImageData(shades, 0, 0);
  canvas.width = preview.width;
  canvas.height = preview.height;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(cells, square.left, square.top, square.width, square.height);
  const at = drops.indexOf(most);
  const third = (place) => Math.floor(((place + 0.5) * 3) / side);
  return third(Math.floor(at / side)) * 3 + third(at % side);
}
