// The page on this machine: node serve.js [PORT]. Only reading is answered, and only what the page is made of.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const HOME = fileURLToPath(new URL("..", import.meta.url)); // examples/
const PAGE = /^\/(web\/(index\.html|[a-z]+\.(js|css)|models\/[a-z]+\.(onnx|json)|node_modules\/onnxruntime-web\/dist\/[\w.-]+\.(mjs|wasm))|align\/align\.js)$/;
const TYPES = {
  ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript",
  ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json", ".onnx": "application/octet-stream",
};

export function server() {
  return createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://localhost").pathname).replace(/^\/(web\/)?$/, "/web/index.html");
    const answer = (status, type, body) => {
      response.writeHead(status, { "content-type": type, "cache-control": "no-cache", "x-content-type-options": "nosniff" });
      response.end(body);
    };
    if (request.method !== "GET") return answer(405, "text/plain", "this page is only read\n");
    if (request.url === "/") {
      response.writeHead(302, { location: "/web/" });
      return response.end();
    }
    if (!PAGE.test(path)) return answer(404, "text/plain", "no such file\n");
    try {
      answer(200, TYPES[extname(path)], await readFile(HOME + path));
    } catch {
      const advice = path.includes("/models/") ? "python examples/web/prepare.py" : "npm --prefix examples/web ci";
      answer(404, "text/plain", `${path} is missing: ${advice}\n`);
    }
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] ?? 8008);
  server().listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/web/`));
}
