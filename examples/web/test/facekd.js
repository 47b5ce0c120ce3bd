// facekd's own numbers of drawn photos, or of those that PHOTOS names (paths with ":" between them).

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const WEB = fileURLToPath(new URL("..", import.meta.url));
const PYTHON = process.env.PYTHON ?? "python3";

export function reference(photos = (process.env.PHOTOS ?? "").split(":").filter(Boolean)) {
  const folder = mkdtempSync(join(tmpdir(), "facekd-web-"));
  if (!existsSync(join(WEB, "models", "student.json"))) execFileSync(PYTHON, [join(WEB, "prepare.py")], { stdio: "inherit" });
  execFileSync(PYTHON, [join(WEB, "test", "reference.py"), folder, ...photos], { stdio: "inherit" });
  const rows = JSON.parse(readFileSync(join(folder, "reference.json"), "utf8"));
  const path = (name) => photos.find((photo) => photo.endsWith(name)) ?? join(folder, name);
  return { rows, path, remove: () => rmSync(folder, { recursive: true }) };
}

export const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));

export const cosine = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0) / (Math.hypot(...a) * Math.hypot(...b));

/** {data, width, height} RGBA of a row's RGB pixels. */
export function photoOf({ pixels, size: [width, height] }) {
  const rgb = bytes(pixels);
  const data = new Uint8ClampedArray(width * height * 4).fill(255);
  rgb.forEach((value, i) => (data[Math.floor(i / 3) * 4 + (i % 3)] = value));
  return { data, width, height };
}
