// A copy of the picture to look at, no wider than the screen.

const PREVIEW = 640; // pixels

/** Returns it, and its scale. */
export function previewOf({ channels, height, width, data }) {
  const size = height * width;
  const whole = new ImageData(width, height);
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) whole.data[4 * i + c] = data[(channels === 3 ? c : 0) * size + i];
    whole.data[4 * i + 3] = 255;
  }
  const scale = Math.min(1, PREVIEW / Math.max(width, height));
  if (scale === 1) return { preview: whole, scale };
  const from = new OffscreenCanvas(width, height);
  from.getContext("2d").putImageData(whole, 0, 0);
  const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  const to = new OffscreenCanvas(w, h).getContext("2d");
  to.imageSmoothingQuality = "high";
  to.drawImage(from, 0, 0, w, h);
  return { preview: to.getImageData(0, 0, w, h), scale };
}
