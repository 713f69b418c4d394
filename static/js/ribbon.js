// The prompt page's links: hover a feature and its tokens light, hover a token and its features rise, click locks.
// Features carry `data-values="position:level,…"`; tokens of the ribbon stand in order of position.

let locked = null;
let dragged = null; // { from, to }: positions of the tokens that a held pointer has crossed

export function setUpRibbon() {
  followDrags();
  followText();
  document.addEventListener("pointerover", (event) => {
    if (locked || dragged) return;
    const feature = event.target.closest?.("[data-values]");
    if (feature) paint(feature);
    else if (event.target.closest?.("[data-fired]") === null && !event.target.closest?.("[data-ribbon]")) clear();
  });
  document.addEventListener("focusin", (event) => {
    const feature = event.target.closest?.("[data-values]");
    if (feature && !locked) paint(feature);
  });
  document.addEventListener("facet:token", (event) => {
    if (!event.target.closest("[data-ribbon]") || locked) return;
    dim(event.detail ? event.detail.position : null);
  });
  document.addEventListener("click", (event) => {
    const feature = event.target.closest?.("[data-values]");
    if (feature && !event.target.closest("a, button")) return lock(feature === locked ? null : feature);
    const token = event.target.closest?.("[data-ribbon] i");
    if (token) select(token, event.shiftKey);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && locked) lock(null);
    if ((event.key === "Enter" || event.key === " ") && event.target.matches?.("[data-values]")) {
      event.preventDefault();
      lock(event.target === locked ? null : event.target);
    }
  });
}

function tokens() {
  return [...document.querySelectorAll("[data-ribbon] i")];
}

function paint(feature) {
  clear();
  const byPosition = new Map(tokens().map((token) => [token.dataset.at, token]));
  for (const pair of feature.dataset.values.split(",").filter(Boolean)) {
    const [position, level, value] = pair.split(":");
    const token = byPosition.get(position);
    if (!token) continue;
    token.classList.add(`p${level}`);
    token.dataset.v = value;
  }
  document.querySelector("[data-ribbon]").dataset.max = feature.dataset.max ?? "";
  feature.classList.add("here");
}

function clear() {
  for (const token of tokens()) {
    token.className = token.className.replace(/\bp\d+\b/g, "").trim();
    delete token.dataset.v;
  }
  for (const feature of document.querySelectorAll("[data-values].here")) feature.classList.remove("here");
}

function dim(position) {
  for (const feature of document.querySelectorAll("[data-values]")) {
    const fires = position === null || feature.dataset.values.split(",").some((pair) => pair.startsWith(`${position}:`));
    feature.classList.toggle("dim", !fires);
  }
}

function lock(feature) {
  locked?.classList.remove("locked");
  locked = null;
  if (!feature) return clear();
  paint(feature);
  feature.classList.add("locked");
  locked = feature;
}

/** Restrict the ranking to a token, or with Shift to a range, by the form's field `at`. */
function select(token, extend) {
  const field = positionsField();
  if (!field) return;
  const position = Number(token.dataset.at);
  const [first] = field.value.split("-").map(Number);
  if (extend && field.value) rankFor(field, span(first, position));
  else rankFor(field, field.value === String(position) ? "" : String(position));
}

function positionsField() {
  return document.querySelector("form[data-main] [name='at']");
}

function span(one, other) {
  return `${Math.min(one, other)}-${Math.max(one, other)}`;
}

function rankFor(field, positions) {
  field.value = positions;
  locked = null;
  field.form.requestSubmit();
}

/** A drag over tokens ranks for their range. Touch is left to scrolling; its taps select as clicks do. */
function followDrags() {
  document.addEventListener("pointerdown", (event) => {
    const token = event.target.closest?.("[data-ribbon] i");
    if (!token || event.button !== 0 || event.pointerType === "touch" || event.shiftKey || !positionsField()) return;
    dragged = { from: Number(token.dataset.at), to: Number(token.dataset.at) };
  });
  document.addEventListener("pointerover", (event) => {
    const token = dragged && event.target.closest?.("[data-ribbon] i");
    if (!token) return;
    dragged.to = Number(token.dataset.at);
    markRange(dragged);
  });
  document.addEventListener("pointerup", (event) => {
    const range = dragged;
    dragged = null;
    if (!range || range.from === range.to) return;
    rankFor(positionsField(), span(range.from, range.to));
  });
  document.addEventListener("pointercancel", () => { dragged = null; });
}

function markRange({ from, to }) {
  for (const token of tokens()) {
    const at = Number(token.dataset.at);
    token.classList.toggle("in-selection", at >= Math.min(from, to) && at <= Math.max(from, to));
  }
}

/** Say that the results belong to a text which the field no longer holds. */
function followText() {
  const form = document.getElementById("prompt-form");
  const note = document.querySelector("[data-stale-note]");
  if (!form || !note) return;
  const field = form.elements.text;
  let ran = field.value;
  const compare = () => {
    const stale = field.value !== ran && document.querySelector("#prompt-result [data-fired]") !== null;
    for (const id of ["prompt-result", "prompt-ribbon"]) document.getElementById(id).classList.toggle("stale", stale);
    const words = stale ? "These results are for the previous text. Enter runs the new one." : "";
    if (note.textContent !== words) note.textContent = words;
  };
  let sent = ran;
  field.addEventListener("input", compare);
  form.addEventListener("htmx:beforeRequest", () => { sent = field.value; });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target?.id !== "prompt-result") return;
    ran = sent;
    compare();
  });
}
