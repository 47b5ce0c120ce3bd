// The faces in a photo: YuNet's boxes, and the five points of each face as MTCNN's last network measures them again.
// The same numbers as facekd/faces/yunet.py and refine.py, which say where each rule comes from.

const SCORE = 0.7; // faces scored lower are dropped
const OVERLAP = 0.3; // greatest intersection over union of two faces
const LONGEST = 1024, PIXELS = 1024 * 768; // what a photo is shrunk to, whichever leaves more of it
const ROOM = 512, SMALL = 224, LARGE = 300; // a photo with room for a large face is looked at as a small copy too
const STRIDES = [8, 16, 32];
const SMALLEST = 20; // px of a face's longer side
const SIZE = 48, SURE = Math.log(0.7 / 0.3); // of the network that measures points

/**
 * photo: {data, width, height}, RGBA as a canvas gives it -> its faces, best first:
 * {box: [x1, y1, x2, y2], score, points: five of [x, y], from the eye on the picture's left}.
 */
export async function loadDetector(ort, detectorFile, pointsFile) {
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3, enableMemPattern: false };
  const boxes = await ort.InferenceSession.create(detectorFile, options);
  const points = await ort.InferenceSession.create(pointsFile, options);
  return async (photo) => {
    const faces = await find(ort, boxes, photo);
    for (const face of faces) face.points = await measured(ort, points, photo, face);
    return faces;
  };
}

/** Which of several faces is meant: a large one near the middle; -1 where there is none. */
export function best(faces, { width, height }) {
  const values = faces.map(({ box: [x1, y1, x2, y2] }) => {
    const inside = (value, side) => Math.min(Math.max(value, 0), side);
    const visible = (inside(x2, width) - inside(x1, width)) * (inside(y2, height) - inside(y1, height));
    return visible - 2 * (((x1 + x2 - width) / 2) ** 2 + ((y1 + y2 - height) / 2) ** 2);
  });
  return values.indexOf(Math.max(...values));
}

async function find(ort, session, photo) {
  const { width, height } = photo;
  const longer = Math.max(width, height), shorter = Math.min(width, height);
  const shrink = Math.min(1, Math.max(LONGEST / longer, Math.sqrt(PIXELS / (width * height))));
  let faces = await look(ort, session, photo, shrink);
  if (shorter * shrink > ROOM) {
    const close = await look(ort, session, photo, SMALL / shorter);
    faces = faces.concat(close.filter((face) => side(face.box) * shrink >= LARGE));
  }
  const kept = [];
  for (const face of faces.sort((a, b) => b.score - a.score)) {
    if (kept.every((other) => overlap(other.box, face.box) <= OVERLAP)) kept.push(face);
  }
  return kept.filter((face) => side(face.box) >= SMALLEST);
}

const side = ([x1, y1, x2, y2]) => Math.max(x2 - x1, y2 - y1);

function overlap(a, b) {
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const both = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return both / (area(a) + area(b) - both);
}

/** All that YuNet takes for a face in a copy of the photo, in the photo's pixels. */
async function look(ort, session, photo, factor) {
  const width = factor < 1 ? Math.max(1, Math.round(photo.width * factor)) : photo.width;
  const height = factor < 1 ? Math.max(1, Math.round(photo.height * factor)) : photo.height;
  const pixels = resized(photo, [0, 0, photo.width, photo.height], width, height);
  const [wide, high] = [Math.ceil(width / 32) * 32, Math.ceil(height / 32) * 32];
  const input = new Float32Array(3 * wide * high);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) input[((2 - c) * high + y) * wide + x] = pixels[(y * width + x) * 3 + c]; // BGR
    }
  }
  const maps = await session.run({ input: new ort.Tensor("float32", input, [1, 3, high, wide]) });
  const [scaleX, scaleY] = [photo.width / width, photo.height / height];
  const faces = [];
  for (const stride of STRIDES) {
    const [isFace, isObject, box, points] = ["cls", "obj", "bbox", "kps"].map((kind) => maps[`${kind}_${stride}`].data);
    for (let place = 0; place < isFace.length; place++) {
      const product = isFace[place] * isObject[place];
      if (product < SCORE ** 2) continue;
      const columns = wide / stride, column = place % columns, row = Math.floor(place / columns);
      const x = (column + box[place * 4]) * stride, y = (row + box[place * 4 + 1]) * stride;
      const [halfX, halfY] = [2, 3].map((k) => (Math.exp(box[place * 4 + k]) * stride) / 2);
      faces.push({
        box: [(x - halfX) * scaleX, (y - halfY) * scaleY, (x + halfX) * scaleX, (y + halfY) * scaleY],
        score: Math.sqrt(product),
        points: [0, 1, 2, 3, 4].map((k) => [
          (points[place * 10 + 2 * k] + column) * stride * scaleX,
          (points[place * 10 + 2 * k + 1] + row) * stride * scaleY,
        ]),
      });
    }
  }
  return faces;
}

/** A face's points measured in the square around its box; the detector's own where the network sees no face there. */
async function measured(ort, session, photo, { box: [x1, y1, x2, y2], points }) {
  const long = Math.max(x2 - x1, y2 - y1);
  const [left, top, length] = [(x1 + x2 - long) / 2, (y1 + y2 - long) / 2, long].map(Math.round);
  if (length < 1 || length > 3 * Math.max(photo.width, photo.height)) return points;
  const pixels = resized(photo, [left, top, length, length], SIZE, SIZE);
  const input = new Float32Array(3 * SIZE * SIZE);
  for (let i = 0; i < pixels.length; i++) input[(i % 3) * SIZE * SIZE + Math.floor(i / 3)] = pixels[i];
  const found = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", input, [1, 3, SIZE, SIZE]) });
  const row = found[session.outputNames[0]].data;
  return row[0] < SURE ? points : [5, 6, 7, 8, 9].map((k) => [row[k] * length + left, row[k + 5] * length + top]);
}

/** RGB bytes of a part of the photo [left, top, width, height] at another size, by area means; black beyond the edge. */
export function resized(photo, [left, top, fromWidth, fromHeight], width, height) {
  const across = shares(fromWidth, width), down = shares(fromHeight, height);
  const rows = new Float32Array(fromHeight * width * 3); // made narrow first
  for (let y = 0; y < fromHeight; y++) {
    if (y + top < 0 || y + top >= photo.height) continue;
    for (let x = 0; x < width; x++) {
      for (const [from, share] of across[x]) {
        if (from + left < 0 || from + left >= photo.width) continue;
        const at = ((y + top) * photo.width + from + left) * 4, to = (y * width + x) * 3;
        for (let c = 0; c < 3; c++) rows[to + c] += share * photo.data[at + c];
      }
    }
  }
  const made = new Uint8ClampedArray(width * height * 3); // which rounds as OpenCV does
  for (let y = 0; y < height; y++) {
    for (let i = 0; i < width * 3; i++) {
      let sum = 0;
      for (const [from, share] of down[y]) sum += share * rows[from * width * 3 + i];
      made[y * width * 3 + i] = sum;
    }
  }
  return made;
}

/** Of each of `to` pixels, the [pixel, share] of `from` that it is the mean of; an enlarged one lies between two. */
function shares(from, to) {
  const ratio = from / to;
  return Array.from({ length: to }, (_, place) => {
    const start = place * ratio, end = Math.min(start + ratio, from);
    if (ratio < 1) {
      const first = Math.floor(start), part = Math.max(0, place + 1 - (first + 1) / ratio);
      return [[first, 1 - part], [Math.min(first + 1, from - 1), part]];
    }
    const found = [];
    for (let one = Math.floor(start + 1e-9); one < end - 1e-9; one++) {
      found.push([one, (Math.min(one + 1, end) - Math.max(one, start)) / (end - start)]);
    }
    return found;
  });
}
