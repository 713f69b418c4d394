// Where a feature of attention's outputs comes from: one text, coloured for the token that is chosen. A token is chosen
// by its button, or where the pointer, the focus or the arrow keys are in the text beside the panel.
import { say } from "./page.js";

export function setUpTraced() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-destination]");
    if (button) choose(button);
  });
  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.("[data-destination]")) choose(event.target);
  });
  document.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("[data-destination]");
    if (!button) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...button.parentElement.querySelectorAll("[data-destination]")];
    all[(all.indexOf(button) + step + all.length) % all.length].focus();
  });
  document.addEventListener("facet:token", (event) => {
    const position = event.detail?.position;
    const place = event.target.closest?.("#test-result, [data-ribbon]");
    if (position === undefined || !place) return;
    const panel = document.querySelector("[data-traced]");
    const button = panel?.querySelector(`[data-destination="${position}"]`);
    if (button) choose(button, false);
  });
}

function choose(button, spoken = true) {
  if (button.getAttribute("aria-checked") === "true") return;
  const panel = button.closest("[data-traced]");
  for (const other of panel.querySelectorAll("[data-destination]")) {
    other.setAttribute("aria-checked", String(other === button));
    other.tabIndex = other === button ? 0 : -1;
  }
  const at = button.dataset.destination;
  for (const details of panel.querySelectorAll("[data-details]")) details.hidden = details.dataset.details !== at;
  for (const scale of panel.querySelectorAll("[data-scale-of]")) scale.textContent = button.dataset.scale;
  paint(panel.querySelector("[data-traced-text]"), button);
  if (spoken) say(`sources of ${button.querySelector(".mono").textContent}`);
}

function paint(text, button) {
  text.dataset.at = button.dataset.destination;
  text.dataset.max = button.dataset.whole;
  const marks = new Map();
  for (const mark of button.dataset.marks.split(",").filter(Boolean)) {
    const [position, name, value] = mark.split(":");
    marks.set(position, [name, value]);
  }
  for (const token of text.querySelectorAll("i")) {
    const rest = [...token.classList].filter((name) => !/^[pn]\d+$/.test(name) && name !== "destination" && name !== "sp");
    const [name, value] = marks.get(token.dataset.at) ?? [];
    const spaced = name && token.textContent.startsWith(" ") ? ["sp"] : [];
    const beyond = Number(button.dataset.destination) - Number(token.dataset.at);
    const here = beyond >= 0 && beyond < Number(token.dataset.n ?? 1) ? ["destination"] : [];
    token.className = [...(name ? [name] : []), ...spaced, ...here, ...rest].join(" ");
    if (name) token.dataset.v = value;
    else delete token.dataset.v;
  }
}
