// The same as _runtime_side.py for ONNX Runtime in JavaScript: node _runtime_side.mjs PACKAGE FILE MODULES
// PACKAGE is onnxruntime-node, or onnxruntime-web, whose wasm runs in node as in a browser. One thread.
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import path from "node:path";

const [name, file, modules] = process.argv.slice(2);
const find = createRequire(path.join(path.resolve(modules), "x.js"));
const loaded = await import(pathToFileURL(find.resolve(name)).href);
const ort = loaded.default ?? loaded;
if (name === "onnxruntime-web") ort.env.wasm.numThreads = 1;
const settings =
  name === "onnxruntime-web"
    ? { executionProviders: ["wasm"] }
    : { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(file)), settings);

function readCrops(npy) {
  // uint8[N, S, S, 3] of a .npy of version 1: the header says its length and shape
  const data = readFileSync(npy);
  const start = 10 + data.readUInt16LE(8);
  const shape = /\((\d+), (\d+), (\d+), 3\)/.exec(data.subarray(10, start).toString("latin1")).slice(1).map(Number);
  return { pixels: data.subarray(start), count: shape[0], size: shape[1] };
}

async function embed({ pixels, size }, first, count) {
  const plane = size * size;
  const images = new Float32Array(count * 3 * plane);
  for (let n = 0; n < count; n++)
    for (let c = 0; c < 3; c++)
      for (let i = 0; i < plane; i++)
        images[(n * 3 + c) * plane + i] = (pixels[((first + n) * plane + i) * 3 + c] - 127.5) / 127.5;
  const found = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", images, [count, 3, size, size]) });
  return found[session.outputNames[0]].data;
}

console.log(JSON.stringify("ready"));
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let said = "done";
  if (asked.embed) {
    const [npy, out, batch] = asked.embed;
    const crops = readCrops(npy);
    const parts = [];
    for (let at = 0; at < crops.count; at += batch)
      parts.push(Buffer.from(Float32Array.from(await embed(crops, at, Math.min(batch, crops.count - at))).buffer));
    writeFileSync(out, Buffer.concat(parts)); // plain float32
  } else {
    const crops = readCrops(asked.crops);
    said = [];
    for (let at = 0; at < asked.time; at++) {
      const start = performance.now();
      await embed(crops, at % crops.count, 1);
      said.push((performance.now() - start) / 1e3);
    }
  }
  console.log(JSON.stringify(said));
}
