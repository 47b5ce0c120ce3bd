// The page in headless Chromium, as a user has it, against facekd's own scores of the same photos.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { server } from "../serve.js";
import { chromium, openBrowser } from "./browser.js";
import { cosine, reference } from "./facekd.js";

const skip = chromium() ? false : "no Chromium; CHROMIUM may name one";
const FIRST = ".photo:nth-child(1) input", SECOND = ".photo:nth-child(2) input";
let browser, site, drawn, address;

before(async () => {
  if (skip) return;
  drawn = reference();
  site = server();
  await new Promise((done) => site.listen(0, "127.0.0.1", done));
  address = `http://127.0.0.1:${site.address().port}/`;
  browser = await openBrowser();
  await open();
});

after(async () => {
  await browser?.close();
  site?.close();
  drawn?.remove();
});

async function open(width = 1100, dark = false) {
  await browser.send("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: false });
  await browser.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
  await browser.send("Page.navigate", { url: address });
  await browser.wait(`document.readyState === "complete" && document.querySelector("#state")?.textContent === ""`);
}

/** What the page says of two photos. */
async function compared(one, other) {
  await browser.value(`document.querySelector("#result").hidden = true`);
  await browser.choose(FIRST, drawn.path(one));
  await browser.choose(SECOND, drawn.path(other));
  await browser.wait(`!document.querySelector("#result").hidden && document.querySelector("#state").textContent === ""`);
  return browser.value(`({ score: Number(document.querySelector("#result").dataset.score), verdict: document.querySelector("h2").textContent })`);
}

async function picture(name) {
  if (!process.env.PICTURES) return;
  const { data } = await browser.send("Page.captureScreenshot", { captureBeyondViewport: true });
  writeFileSync(`${process.env.PICTURES}/${name}.png`, Buffer.from(data, "base64"));
}

test("scores and verdicts are facekd's", { skip, timeout: 600_000 }, async () => {
  const rows = drawn.rows.filter((row) => row.embedding);
  const { threshold } = await (await fetch(`${address}web/models/student.json`)).json();
  let most = 0;
  for (const row of rows.slice(1)) {
    const wanted = cosine(rows[0].embedding, row.embedding);
    const found = await compared(rows[0].name, row.name);
    most = Math.max(most, Math.abs(found.score - wanted));
    assert.ok(Math.abs(found.score - wanted) <= 1e-3, `${row.name}: ${found.score}, not ${wanted}`);
    if (Math.abs(wanted - threshold) > 1e-3) {
      assert.equal(found.verdict, wanted >= threshold ? "The same person" : "Different people");
    }
  }
  console.log(`${rows.length - 1} pairs from photo to score: at most ${most.toExponential(1)} from facekd's`);
  assert.deepEqual(browser.complaints, []);
});

test("a photo without a face is named, and the rest stays usable", { skip: skip || Boolean(process.env.PHOTOS), timeout: 120_000 }, async () => {
  await open();
  await compared("one.png", "again.png");
  await picture("same");
  await browser.choose(SECOND, drawn.path("none.png"));
  const note = await browser.wait(`document.querySelectorAll(".note")[1].textContent`);
  assert.match(note, /^No face was found in none\.png\. Choose/);
  assert.equal(await browser.value(`document.querySelector("#result").hidden`), true);
  await picture("none");
  writeFileSync(drawn.path("text.png"), "no photo");
  await browser.choose(SECOND, drawn.path("text.png"));
  await browser.wait(`document.querySelectorAll(".note")[1].textContent.startsWith("text.png can't be read")`);
  await compared("one.png", "other.png");
  await picture("apart");
  assert.equal(await browser.value(`document.querySelectorAll(".note")[1].textContent`), "");
});

test("by keyboard another face is chosen", { skip: skip || Boolean(process.env.PHOTOS), timeout: 120_000 }, async () => {
  await open(420, true);
  const before = await compared("one.png", "two.png");
  await picture("narrow-dark");
  await browser.value(`document.querySelectorAll(".frame")[1].querySelector('button[aria-pressed="false"]').focus()`);
  for (const type of ["keyDown", "keyUp"]) {
    await browser.send("Input.dispatchKeyEvent", { type, key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, text: type === "keyDown" ? "\r" : undefined });
  }
  await browser.wait(`Number(document.querySelector("#result").dataset.score) !== ${before.score}`);
  const after = await browser.value(`Number(document.querySelector("#result").dataset.score)`);
  assert.ok(Math.max(before.score, after) > 0.99, "one of the two faces is the very photo");
  assert.equal(await browser.value(`document.documentElement.scrollWidth <= innerWidth`), true, "nothing is cut off");
});

test("two photos dropped at once fill both places", { skip: skip || Boolean(process.env.PHOTOS), timeout: 120_000 }, async () => {
  await open();
  const data = { items: [], files: [drawn.path("one.png"), drawn.path("other.png")], dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) await browser.send("Input.dispatchDragEvent", { type, x: 200, y: 250, data });
  await browser.wait(`!document.querySelector("#result").hidden`);
});

test("nothing is uploaded, and what is downloaded is said", { skip, timeout: 120_000 }, async () => {
  assert.ok(browser.requests.length > 5);
  for (const { method, url, hasPostData } of browser.requests) {
    assert.ok(/^(blob|data|about):/.test(url) || url.startsWith(address), url);
    assert.ok(method === "GET" && !hasPostData, `${method} ${url}`);
  }
  await assert.rejects(browser.value(`fetch("${address}web/index.html", { method: "POST", body: "x" }).then((r) => { if (!r.ok) throw r.status })`));
  await assert.rejects(browser.value(`fetch("http://127.0.0.1:9/").catch((e) => { throw e.message })`));
  const sizes = {};
  for (const url of new Set(browser.requests.map(({ url }) => url).filter((url) => url.startsWith(address)))) {
    const answer = await fetch(url);
    const kind = url.includes("student.onnx") ? "student" : /onnx$/.test(url) ? "detector and points" : url.includes("node_modules") ? "runtime" : "page";
    sizes[kind] = (sizes[kind] ?? 0) + (await answer.arrayBuffer()).byteLength;
  }
  console.log("downloads, MB:", Object.fromEntries(Object.entries(sizes).map(([kind, size]) => [kind, (size / 1e6).toFixed(2)])));
});

test("from crop to embedding in wasm, one thread", { skip, timeout: 300_000 }, async () => {
  await browser.send("Performance.enable", { timeDomain: "threadTicks" }); // of the page's own thread, whatever else runs
  const spent = async () => {
    const { metrics } = await browser.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration").value;
  };
  await browser.value(`(async () => {
    const ort = await import("/web/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs");
    const { loadStudent } = await import("/web/student.js");
    const about = await (await fetch("/web/models/student.json")).json();
    const embed = await loadStudent(ort, new Uint8Array(await (await fetch("/web/models/student.onnx")).arrayBuffer()), about);
    const crop = new Uint8Array(112 * 112 * 3).fill(100);
    globalThis.rounds = async (count) => {
      const times = [];
      for (let i = 0; i < count; i++) {
        const start = performance.now();
        await embed(crop);
        times.push(performance.now() - start);
      }
      return times;
    };
    await rounds(10);
  })()`);
  const before = await spent();
  const times = (await browser.value("rounds(50)")).sort((a, b) => a - b);
  const own = (1000 * (await spent() - before)) / 50;
  console.log(`crop to embedding: ${own.toFixed(1)} ms of the core; on the clock median ${times[25].toFixed(1)}, least ${times[0].toFixed(1)} ms`);
});
