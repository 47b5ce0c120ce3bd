// The page: two photos in, the faces found, score and verdict out. Nothing is sent anywhere.

import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { similarity, warp } from "../align/align.js";
import { best, loadDetector } from "./detector.js";
import { loadStudent, score } from "./student.js";

ort.env.wasm.numThreads = 1; // more need a page that is isolated from others

const state = document.querySelector("#state");
const result = document.querySelector("#result");
const sides = [...document.querySelectorAll(".photo")].map((element) => ({ element, turn: 0, embedding: null, crop: null }));
const ready = load();
ready.catch((error) => {
  state.textContent = error.message;
  state.className = "wrong";
});

async function load() {
  const [detectorFile, pointsFile, studentFile, about] = await Promise.all([
    ...["detector.onnx", "points.onnx", "student.onnx"].map(async (name) => new Uint8Array(await (await fetched(name)).arrayBuffer())),
    (async () => (await fetched("student.json")).json())(),
  ]);
  const detect = await loadDetector(ort, detectorFile, pointsFile);
  const embed = await loadStudent(ort, studentFile, about);
  state.textContent = "";
  return { detect, embed, about };
}

async function fetched(name) {
  const answer = await fetch(`models/${name}`);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer;
}

/** The upright pixels of a photo, in its own colors, as facekd reads them. */
async function pixelsOf(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return { canvas, photo: context.getImageData(0, 0, canvas.width, canvas.height) };
}

async function show(side, file) {
  const turn = ++side.turn; // a photo chosen meanwhile goes first
  const note = side.element.querySelector(".note");
  const frame = side.element.querySelector(".frame");
  Object.assign(side, { embedding: null, crop: null });
  note.textContent = "";
  answer();
  try {
    const { detect } = await ready;
    state.textContent = `Looking at ${file.name} …`;
    const { canvas, photo } = await pixelsOf(file).catch(() => {
      if (turn === side.turn) frame.hidden = true; // what it shows is another photo
      throw new Error(`${file.name} can't be read as a photo. Choose a JPEG, PNG or WebP file.`);
    });
    const faces = await detect(photo);
    if (turn !== side.turn) return;
    frame.replaceChildren(canvas);
    frame.hidden = false;
    side.element.classList.add("filled");
    if (!faces.length) throw new Error(`No face was found in ${file.name}. Choose a photo in which the face is larger or seen from the front.`);
    const buttons = faces.map((face, place) => faceButton(face, place, photo, () => choose(place)));
    const choose = async (place) => {
      buttons.forEach((button, other) => button.setAttribute("aria-pressed", other === place));
      await compare(side, photo, faces[place]);
    };
    frame.append(...buttons);
    await choose(best(faces, photo));
  } catch (error) {
    if (turn === side.turn) note.textContent = error.message;
  }
  if (turn === side.turn) state.textContent = "";
}

function faceButton({ box: [x1, y1, x2, y2] }, place, photo, chosen) {
  const button = Object.assign(document.createElement("button"), { type: "button", onclick: chosen });
  button.setAttribute("aria-label", `Face ${place + 1}`);
  const percent = (value, whole) => `${(100 * value) / whole}%`;
  Object.assign(button.style, {
    left: percent(x1, photo.width), top: percent(y1, photo.height),
    width: percent(x2 - x1, photo.width), height: percent(y2 - y1, photo.height),
  });
  return button;
}

async function compare(side, photo, face) {
  const { embed, about } = await ready;
  side.crop = warp(photo, similarity(face.points), about.contract.size);
  side.embedding = await embed(side.crop);
  answer(about);
}

function answer(about) {
  const [a, b] = sides;
  result.hidden = !(a.embedding && b.embedding);
  if (result.hidden) return;
  const found = score(a.embedding, b.embedding);
  const same = found >= about.threshold;
  result.className = same ? "same" : "apart";
  result.dataset.score = found;
  result.querySelector("h2").textContent = same ? "The same person" : "Different people";
  result.querySelector("p").textContent =
    `Score ${found.toFixed(3)}; the threshold is ${about.threshold.toFixed(3)}, which 1 of ${Math.round(1 / about.far).toLocaleString("en")} pairs of strangers reach.`;
  const place = (value) => `${100 * Math.min(Math.max(value, 0), 1)}%`;
  result.querySelector(".mark").style.left = place(found);
  result.querySelector(".limit").style.left = place(about.threshold);
  result.querySelectorAll("canvas").forEach((canvas, i) => draw(canvas, sides[i].crop, about.contract.size));
}

function draw(canvas, crop, size) {
  Object.assign(canvas, { width: size, height: size });
  const picture = new ImageData(size, size);
  picture.data.fill(255);
  crop.forEach((value, i) => (picture.data[Math.floor(i / 3) * 4 + (i % 3)] = value));
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

for (const [place, side] of sides.entries()) {
  const drop = side.element.querySelector(".drop");
  const input = drop.querySelector("input");
  input.addEventListener("change", () => {
    if (input.files.length) show(side, input.files[0]);
    input.value = ""; // so that the same photo can be chosen again
  });
  side.element.addEventListener("dragover", () => drop.classList.add("over"));
  side.element.addEventListener("dragleave", () => drop.classList.remove("over"));
  side.element.addEventListener("drop", (event) => {
    const files = [...event.dataTransfer.files].slice(0, 2); // two at once fill both places
    drop.classList.remove("over");
    files.forEach((file, i) => show(sides[files.length > 1 ? i : place], file));
  });
}
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
