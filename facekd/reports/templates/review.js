"use strict";
(() => {
  const { columns, rows } = JSON.parse(document.getElementById("cases").textContent);
  const cases = [...document.querySelectorAll("fieldset")];
  const count = document.getElementById("count");
  const meter = document.getElementById("meter");
  const save = document.getElementById("save");
  const told = document.getElementById("told");
  let unsaved = false;

  const choices = (one) => [...one.querySelectorAll("input")];
  const chosen = (one) => choices(one).find((input) => input.checked)?.value ?? "";
  const decided = () => cases.filter(chosen);

  function show() {
    for (const one of cases) {
      one.classList.toggle("decided", chosen(one) !== "");
      one.querySelector("button").hidden = chosen(one) === "";
    }
    count.textContent = `${decided().length} of ${cases.length} decided`;
    meter.value = decided().length;
    save.disabled = decided().length === 0;
  }

  function changed() {
    unsaved = true;
    told.textContent = "";
    show();
  }

  function undo(one) {
    for (const input of choices(one)) input.checked = false;
    choices(one)[0].focus();
    changed();
  }

  // As core/files.py writes: what a spreadsheet would run as a formula gets an apostrophe.
  function cell(value) {
    const safe = /^[=+\-@\t\r']/.test(value) ? "'" + value : value;
    return /[",;\t\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function download() {
    const lines = [columns];
    cases.forEach((one, place) => {
      if (chosen(one)) lines.push(columns.map((column) => (column === "choice" ? chosen(one) : rows[place][column])));
    });
    const text = "\ufeff" + lines.map((line) => line.map(cell).join(",") + "\r\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.download = "decisions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    told.textContent = `Saved ${lines.length - 1} as decisions.csv.`;
  }

  document.addEventListener("change", changed);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !cases.length) return;
    const one = document.activeElement?.closest("fieldset") ?? cases.find((other) => !chosen(other)) ?? cases[0];
    const input = choices(one)[Number(event.key) - 1];
    if (input) {
      input.checked = true;
      input.focus();
      changed();
    } else if (event.key === "0" || event.key === "Backspace" || event.key === "Delete") {
      undo(one);
    } else {
      return;
    }
    event.preventDefault();
  });
  for (const one of cases) one.querySelector("button").addEventListener("click", () => undo(one));
  save?.addEventListener("click", download);
  window.addEventListener("beforeunload", (event) => {
    if (unsaved) event.preventDefault();
  });
  if (cases.length) show();
})();
