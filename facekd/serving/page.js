// Each photo is asked about by itself, two at a time; its boxes are drawn over the user's own file.
"use strict";

const AT_ONCE = 2, TRIES = 20;
const by = (id) => document.getElementById(id);
const waiting = [];
let busy = 0, open = 0;

const tell = (card, text, wrong = false) => {
  const state = card.querySelector(".state");
  state.textContent = text;
  state.classList.toggle("wrong", wrong);
};

const count = (number, one, several) => `${number} ${number === 1 ? one : several}`;

function take(files) {
  for (const file of files) {
    const card = by("photo").content.cloneNode(true).querySelector("li");
    const image = card.querySelector("img");
    card.querySelector(".name").textContent = file.name;
    image.src = URL.createObjectURL(file);
    image.onload = () => URL.revokeObjectURL(image.src);
    image.onerror = () => { image.remove(); };  // a format that the browser can't show; the server may read it
    by("photos").prepend(card);
    waiting.push({ file, card });
    open += 1;
  }
  go();
}

function go() {
  while (busy < AT_ONCE && waiting.length && by("locked").dataset.asked !== "yes") {
    const next = waiting.shift();
    busy += 1;
    ask(next).finally(() => { busy -= 1; go(); });
  }
  by("said").textContent = open ? `${count(open, "photo", "photos")} to go …` : "";
}

async function ask(job) {
  tell(job.card, "looking …");
  const token = by("token").value.trim(), headers = { "Content-Type": "application/octet-stream" };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await fetch("identify", { method: "POST", headers, body: job.file });
      if (answer.status === 503 && attempt < TRIES) {
        await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("Retry-After") || 1)));
        continue;
      }
      const found = await answer.json();
      if (answer.status === 401) {
        waiting.unshift(job);
        unlock(token);
        tell(job.card, "waits for the token");
        return;
      }
      if (answer.ok) show(job.card, found.photos[0]);
      else tell(job.card, found.error, true);
      break;
    }
  } catch {
    tell(job.card, "the server did not answer", true);
  }
  open -= 1;
}

function unlock(tried) {
  by("locked").hidden = false;
  by("locked").dataset.asked = "yes";
  by("locked").querySelector("label").textContent = tried ? "The token is not the right one" : "This server asks for a token";
  by("token").focus();
}

function drawn(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function show(card, photo) {
  const known = photo.faces.filter((face) => face.person !== null).length;
  if (photo.status !== "ok") tell(card, photo.status === "no_face" ? "no face" : photo.reason);
  else tell(card, `${count(photo.faces.length, "face", "faces")}, ${known} known`);
  if (!photo.faces.length) return;
  const svg = card.querySelector("svg"), rows = card.querySelector("tbody");
  svg.setAttribute("viewBox", `0 0 ${photo.width} ${photo.height}`);
  photo.faces.forEach((face, place) => {
    const [x1, y1, x2, y2] = face.box, size = Math.max(photo.width / 24, (x2 - x1) / 5);
    const box = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    svg.append(drawn("rect", { ...box, class: "halo" }), drawn("rect", { ...box, class: face.verdict }));
    const above = y1 > size * 1.2;  // else inside: the number may not leave the photo
    const at = { x: x1 + size * 0.1, y: y1 + (above ? -0.3 : 1) * size, "font-size": size, "stroke-width": size / 6 };
    svg.append(drawn("text", at, place + 1));
    const row = rows.insertRow();
    row.className = face.verdict;
    row.insertCell().textContent = place + 1;
    const name = document.createElement("bdi");
    name.textContent = face.person ?? "unknown";
    row.insertCell().append(name);
    const score = row.insertCell();
    score.className = "number";
    score.textContent = face.score === null ? "–" : face.score.toFixed(3);  // null: nobody is enrolled
    const threshold = row.insertCell();
    threshold.className = "number";
    threshold.textContent = face.threshold.toFixed(3);
  });
  card.querySelector(".scroll").hidden = false;
}

const drop = by("drop");
by("files").onchange = (event) => { take(event.target.files); event.target.value = ""; };
by("ask").onsubmit = (event) => { event.preventDefault(); by("locked").dataset.asked = "no"; go(); };
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
