// The modules in node, against facekd's own numbers of the same pixels.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";

import * as ort from "onnxruntime-web/wasm";

import { similarity, warp } from "../../align/align.js";
import { best, loadDetector } from "../detector.js";
import { loadStudent, score } from "../student.js";
import { bytes, cosine, photoOf, reference } from "./facekd.js";

const { rows, remove } = reference([]);
after(remove);
ort.env.wasm.numThreads = 1;
const model = (name) => new Uint8Array(readFileSync(new URL(`../models/${name}`, import.meta.url)));
const about = JSON.parse(readFileSync(new URL("../models/student.json", import.meta.url), "utf8"));
const detect = await loadDetector(ort, model("detector.onnx"), model("points.onnx"));
const embed = await loadStudent(ort, model("student.onnx"), about);
const near = (found, wanted, most, what) => assert.ok(Math.abs(found - wanted) <= most, `${what}: ${found}, not ${wanted}`);
const shown = rows.filter((row) => row.pixels);
const withFace = shown.filter((row) => row.crop);

test("the faces are facekd's", async () => {
  for (const row of shown) {
    const faces = await detect(photoOf(row));
    assert.equal(faces.length, row.boxes.length, row.name);
    faces.forEach((face, i) => {
      near(face.score, row.scores[i], 1e-3, `${row.name} score`);
      face.box.forEach((value, k) => near(value, row.boxes[i][k], 0.05, `${row.name} box`));
      face.points.flat().forEach((value, k) => near(value, row.points[i].flat()[k], 0.05, `${row.name} point`));
    });
    assert.equal(best(faces, photoOf(row)), row.best ?? -1);
  }
  assert.ok(shown.length > 4);
  assert.deepEqual(new Set(shown.map((row) => row.boxes.length)), new Set([0, 1, 2]));
});

test("matrix and crop are facekd's", () => {
  for (const row of withFace) {
    const matrix = similarity(row.points[row.best]);
    matrix.forEach((value, k) => near(value, row.matrix[k], 1e-6, row.name));
    const wanted = bytes(row.crop);
    warp(photoOf(row), matrix).forEach((value, i) => near(value, wanted[i], 1, row.name));
  }
});

test("the embedding of the same crop is facekd's", async () => {
  for (const row of withFace) {
    const found = await embed(bytes(row.crop));
    assert.ok(cosine(found, row.embedding) >= 0.99999, `${row.name}: ${cosine(found, row.embedding)}`);
    near(Math.hypot(...found), 1, 1e-6, "norm");
  }
});

test("a student of BGR in rows of pixels is fed so", async () => {
  let fed;
  const session = { inputNames: ["x"], outputNames: ["y"], run: async ({ x }) => ((fed = x), { y: { data: [3, 4] } }) };
  const fake = { InferenceSession: { create: async () => session }, Tensor: class { constructor(_, data, shape) { Object.assign(this, { data, shape }); } } };
  const contract = { size: 1, mean: [1, 2, 3], std: [1, 2, 4], channels: "BGR", layout: "NHWC" };
  const found = await (await loadStudent(fake, null, { contract }))([10, 20, 30]);
  assert.deepEqual([[...fed.data], fed.shape], [[29, 9, 1.75], [1, 1, 1, 3]]);
  near(found[0], 0.6, 1e-6, "unit norm");
  near(score(found, found), 1, 1e-6, "score of itself");
});
