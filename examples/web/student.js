// From a crop to its embedding, and from two embeddings to a score.

/** crop: RGB bytes of `about.contract.size` squared -> Float32Array of unit norm. */
export async function loadStudent(ort, file, { contract }) {
  const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  const { size, mean, std, channels, layout } = contract;
  const order = channels === "BGR" ? [2, 1, 0] : [0, 1, 2];
  const area = size * size;
  return async (crop) => {
    const input = new Float32Array(3 * area);
    for (let pixel = 0; pixel < area; pixel++) {
      for (let c = 0; c < 3; c++) {
        input[layout === "NHWC" ? pixel * 3 + c : c * area + pixel] = (crop[pixel * 3 + order[c]] - mean[c]) / std[c];
      }
    }
    const shape = layout === "NHWC" ? [1, size, size, 3] : [1, 3, size, size];
    const found = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", input, shape) });
    return unit(found[session.outputNames[0]].data);
  };
}

function unit(vector) {
  const norm = Math.hypot(...vector);
  return Float32Array.from(vector, (value) => value / norm);
}

/** The cosine of two embeddings, from -1 to 1: higher is more alike. */
export function score(a, b) {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}
