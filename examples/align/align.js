// From five points of a face to its 112 x 112 crop: for node and for browsers, without a library.

export const TEMPLATE = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]];

const mean = (points, k) => points.reduce((sum, point) => sum + point[k], 0) / points.length;

/** [a, -b, x, b, a, y], photo -> crop: turn, scale and shift that lay five points on the template by least squares. */
export function similarity(points) {
  const [px, py, tx, ty] = [mean(points, 0), mean(points, 1), mean(TEMPLATE, 0), mean(TEMPLATE, 1)];
  let a = 0, b = 0, spread = 0;
  points.forEach(([x, y], i) => {
    const [sx, sy, u, v] = [x - px, y - py, TEMPLATE[i][0] - tx, TEMPLATE[i][1] - ty];
    a += sx * u + sy * v;
    b += sx * v - sy * u;
    spread += sx * sx + sy * sy;
  });
  a /= spread;
  b /= spread;
  return [a, -b, tx - (a * px - b * py), b, a, ty - (b * px + a * py)];
}

/**
 * The photo through the matrix: bilinear, black beyond the edge; a photo larger than the crop is first averaged down by
 * whole blocks, so that every pixel counts. photo: {data, width, height}, RGBA as a canvas gives it. Returns RGB bytes.
 */
export function warp(photo, [a, , mx, b, , my], size = 112) {
  const scale = a * a + b * b; // squared
  const back = (u, v) => [(a * (u - mx) + b * (v - my)) / scale, (a * (v - my) - b * (u - mx)) / scale]; // crop -> photo
  const block = Math.max(1, Math.floor(1 / Math.sqrt(scale) + 1e-9));
  const corners = [back(0, 0), back(size, 0), back(0, size), back(size, size)];
  // Blocks begin at the upper left of what the crop sees; there are `count` of them in each direction.
  const from = [0, 1].map((k) => Math.floor(Math.min(...corners.map((corner) => corner[k]))) - block);
  const to = [0, 1].map((k) => Math.ceil(Math.max(...corners.map((corner) => corner[k]))) + block);
  const sides = [photo.width, photo.height];
  const start = sides.map((side, k) => (block > 1 ? Math.min(Math.max(from[k], 0), side - 1) : 0));
  const count = sides.map((side, k) => Math.floor((block > 1 ? Math.min(to[k], side) - start[k] : side) / block));
  const block_mean = (column, row, c) => {
    if (column < 0 || row < 0 || column >= count[0] || row >= count[1]) return 0;
    let sum = 0;
    for (let y = start[1] + row * block; y < start[1] + (row + 1) * block; y++) {
      for (let x = start[0] + column * block; x < start[0] + (column + 1) * block; x++) {
        sum += photo.data[(y * photo.width + x) * 4 + c];
      }
    }
    return Math.round(sum / (block * block));
  };
  const crop = new Uint8Array(size * size * 3);
  for (let place = 0; place < crop.length; place++) {
    const c = place % 3, pixel = (place - c) / 3;
    const at = back(pixel % size, Math.floor(pixel / size)).map((value, k) => (value + 0.5 - start[k]) / block - 0.5);
    const [left, top] = at.map(Math.floor);
    const [fx, fy] = [at[0] - left, at[1] - top];
    crop[place] = Math.round(
      (block_mean(left, top, c) * (1 - fx) + block_mean(left + 1, top, c) * fx) * (1 - fy)
      + (block_mean(left, top + 1, c) * (1 - fx) + block_mean(left + 1, top + 1, c) * fx) * fy,
    );
  }
  return crop;
}
