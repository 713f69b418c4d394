// The prompt page's links: hover a feature and its tokens light, hover a token and its features rise, click locks.
// Features carry `data-values="position:level,…"`; tokens of the ribbon stand in order of position.

let locked = null;

export function setUpRibbon() {
  document.addEventListener("pointerover", (event) => {
    if (locked) return;
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
  const field = document.querySelector("form[data-main] [name='at']");
  if (!field) return;
  const position = Number(token.dataset.at);
  const [first] = field.value.split("-").map(Number);
  if (extend && field.value) field.value = `${Math.min(first, position)}-${Math.max(first, position)}`;
  else field.value = field.value === String(position) ? "" : String(position);
  locked = null;
  field.form.requestSubmit();
}
