// Headless Chromium that is told what to do by DevTools' protocol over two pipes.

import { spawn } from "node:child_process";
import { accessSync } from "node:fs";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export function chromium() {
  return [process.env.CHROMIUM, ...PLACES].find((path) => {
    try {
      return path && (accessSync(path), true);
    } catch {
      return false;
    }
  });
}

export async function openBrowser() {
  const profile = mkdtempSync(join(tmpdir(), "facekd-chromium-"));
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe", `--user-data-dir=${profile}`];
  const child = spawn(chromium(), [...flags, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const requests = [], complaints = [], waiting = new Map();
  let number = 0, session, text = "";
  child.stdio[4].setEncoding("utf8").on("data", (data) => {
    text += data;
    for (let end; (end = text.indexOf("\0")) >= 0; text = text.slice(end + 1)) {
      const { id, method, params, result, error } = JSON.parse(text.slice(0, end));
      if (method === "Network.requestWillBeSent") requests.push(params.request);
      if (method === "Log.entryAdded") complaints.push(params.entry.text);
      if (method === "Runtime.exceptionThrown") complaints.push(params.exceptionDetails.exception.description);
      if (!waiting.has(id)) continue;
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      error ? reject(new Error(JSON.stringify(error))) : resolve(result);
    }
  });
  const send = (method, params = {}) => new Promise((resolve, reject) => {
    waiting.set(++number, { resolve, reject });
    child.stdio[3].write(`${JSON.stringify({ id: number, method, params, sessionId: session })}\0`);
  });
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  session = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log", "Network", "DOM"]) await send(`${domain}.enable`);

  const value = async (expression) => {
    const found = await send("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (found.exceptionDetails) throw new Error(JSON.stringify(found.exceptionDetails));
    return found.result.value;
  };
  const wait = async (expression, seconds = 120) => {
    for (const end = Date.now() + 1000 * seconds; ; await new Promise((done) => setTimeout(done, 50))) {
      const found = await value(expression);
      if (found) return found;
      if (Date.now() > end) throw new Error(`never: ${expression}; the page says ${await value("document.body.innerText")}`);
    }
  };
  const choose = async (selector, path) => {
    const { root } = await send("DOM.getDocument");
    const { nodeId } = await send("DOM.querySelector", { nodeId: root.nodeId, selector });
    await send("DOM.setFileInputFiles", { nodeId, files: [path] });
  };
  const close = async () => {
    session = undefined;
    const ended = new Promise((done) => child.once("exit", done));
    await send("Browser.close").catch(() => {});
    await ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  return { send, value, wait, choose, close, requests, complaints };
}
