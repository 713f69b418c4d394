// One tooltip for the page, by delegation: tokens on hover, focus and arrow keys; click pins, Escape closes.
// The token at hand is also marked on the histogram of activations.
import { figure, say, shown, SVG } from "./page.js";

const ENTER_DELAY = 80;
let tip, timer, current = null, pinned = null, pointerHeld = false;

export function setUpTooltip() {
  tip = document.getElementById("tip");
  document.addEventListener("pointerover", (event) => {
    const token = event.target.closest?.(".tokens i");
    if (pinned || event.shiftKey) return;
    clearTimeout(timer);
    if (!token) return leave();
    timer = setTimeout(() => show(token), current ? 0 : ENTER_DELAY);
  });
  document.addEventListener("pointerdown", () => { pointerHeld = true; });
  document.addEventListener("pointerup", () => { pointerHeld = false; });
  document.addEventListener("click", (event) => {
    const token = event.target.closest?.(".tokens i");
    if (token?.closest("[data-ribbon]")) return;
    if (pinned && !event.target.closest("#tip")) unpin();
    if (token && !getSelection().toString()) pin(token);
  });
  document.addEventListener("focusin", (event) => {
    if (pointerHeld) return;
    const context = event.target.closest?.("[data-ids]");
    if (context && event.target === context) show(strongest(context), true);
  });
  document.addEventListener("focusout", () => { if (!pinned) leave(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && (pinned || current)) { unpin(); leave(); }
    if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
    const context = document.activeElement?.closest?.("[data-ids]");
    if (!context || document.activeElement !== context) return;
    const tokens = visible(context);
    const step = event.key === "ArrowRight" ? 1 : -1;
    const place = current && context.contains(current) ? tokens.indexOf(current) + step : 0;
    event.preventDefault();
    unpin();
    show(tokens[Math.max(0, Math.min(tokens.length - 1, place))], true);
  });
  addEventListener("scroll", () => { if (!pinned) leave(); }, { passive: true, capture: true });
}

function visible(context) {
  return [...context.querySelectorAll(".tokens i, :scope > i, :scope > span i")].filter((token) => token.offsetParent !== null || token.getClientRects().length);
}

function strongest(context) {
  let best = null;
  for (const token of context.querySelectorAll("i[data-v]")) {
    if (token.getClientRects().length && (!best || Math.abs(token.dataset.v) > Math.abs(best.dataset.v))) best = token;
  }
  return best ?? context.querySelector("i");
}

/** Count the tokens before this element: an element stands for `data-n` tokens, one unless said otherwise. */
export function positionOf(token, container) {
  if (token.dataset.at) return Number(token.dataset.at);
  let position = 0;
  for (const other of container.querySelectorAll("i")) {
    if (other === token) return position;
    position += Number(other.dataset.n ?? 1);
  }
  return position;
}

function show(token, spoken = false) {
  if (!token) return;
  const container = token.closest("[data-ids]") ?? token.closest(".tokens");
  if (!container || tip.dataset.off) return;
  current?.classList.remove("hot");
  current = token;
  token.classList.add("hot");
  const facts = read(token, container);
  tip.replaceChildren(...render(facts));
  tip.classList.add("on");
  place(token);
  markChart(facts.unit === "activation" ? facts.value : null);
  token.dispatchEvent(new CustomEvent("facet:token", { bubbles: true, detail: facts }));
  if (spoken) {
    say(facts.value === null ? `token ${facts.text}` : `token ${facts.text}, ${facts.unit} ${figure(facts.value)}${facts.share === null ? "" : `, ${Math.round(facts.share * 100)} % of ${facts.whole}`}`);
  }
}

function read(token, container) {
  const position = positionOf(token, container);
  const ids = (container.dataset.ids ?? "").split(",").filter(Boolean);
  const count = Number(token.dataset.n ?? 1);
  const maximum = Number(container.dataset.max ?? 0);
  const value = token.dataset.v === undefined ? (container.dataset.max ? 0 : null) : Number(token.dataset.v);
  return {
    text: token.dataset.name ?? token.textContent,
    position,
    ids: ids.slice(position, position + count).join(" + "),
    count,
    value,
    unit: container.dataset.unit ?? "activation",
    whole: container.dataset.of ?? "maximum",
    share: value !== null && maximum > 0 ? value / maximum : null,
    logprob: token.dataset.logprob === undefined ? null : Number(token.dataset.logprob),
  };
}

function render(facts) {
  const chip = document.createElement("span");
  chip.className = "chip";
  chip.textContent = shown(facts.text);
  const list = document.createElement("dl");
  const add = (name, value) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    list.append(dt, dd);
  };
  if (facts.value !== null) add(facts.unit, figure(facts.value));
  if (facts.share !== null && facts.value) add(`of ${facts.whole}`, `${figure(facts.share * 100)} %`);
  if (facts.logprob !== null) {
    add("log-probability", facts.logprob.toFixed(3));
    add("probability", `${figure(Math.exp(facts.logprob) * 100)} %`);
  }
  if (facts.ids) add(facts.count > 1 ? "token ids" : "token id", facts.ids);
  add(facts.count > 1 ? "positions" : "position", facts.count > 1 ? `${facts.position}–${facts.position + facts.count - 1}` : facts.position);
  const parts = [chip, list];
  if (facts.share) parts.push(scale(facts.share));
  return parts;
}

function scale(share) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "scale");
  svg.setAttribute("viewBox", "0 0 100 4");
  svg.setAttribute("preserveAspectRatio", "none");
  for (const width of [100, Math.min(100, Math.abs(share) * 100)]) {
    const bar = document.createElementNS(SVG, "rect");
    bar.setAttribute("width", width);
    bar.setAttribute("height", 4);
    svg.append(bar);
  }
  return svg;
}

function place(token) {
  const box = token.getClientRects()[0];
  if (!box) return;
  const size = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(innerWidth - size.width - 8, box.left + box.width / 2 - size.width / 2));
  const above = box.top - size.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above < 56 ? box.bottom + 8 : above}px`;
}

function pin(token) {
  unpin();
  show(token, true);
  pinned = token;
  token.classList.add("pinned");
  tip.classList.add("pinned");
}

function unpin() {
  pinned?.classList.remove("pinned");
  pinned = null;
  tip.classList.remove("pinned");
}

function leave() {
  clearTimeout(timer);
  if (!current) return;
  current.classList.remove("hot");
  current.dispatchEvent(new CustomEvent("facet:token", { bubbles: true, detail: null }));
  current = null;
  tip.classList.remove("on");
  markChart(null);
}

/** Put the line on the histogram of activations where this value lies. */
function markChart(value) {
  for (const chart of document.querySelectorAll("[data-chart='activations']")) {
    const line = chart.querySelector(".mark");
    const low = Number(chart.dataset.low), high = Number(chart.dataset.high);
    const on = value !== null && value > 0 && high > low;
    line.classList.toggle("on", on);
    if (!on) continue;
    const share = "log" in chart.dataset && low > 0 ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    const x = 300 * Math.max(0, Math.min(1, share));
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  }
}
