// Behaviour of lists and panels: width of contexts, panes on small screens, tabs, counts of charts, the rail.
import { onContent, remember, say } from "./page.js";

export function setUpContexts() {
  document.addEventListener("click", onClick);
  onContent((root) => {
    for (const panel of root.querySelectorAll("[data-initially-hidden]")) {
      panel.hidden = true;
      panel.removeAttribute("data-initially-hidden");
    }
  });
  centreRail();
  measureStrip();
  keepTestInAddress();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const sentinel = event.detail.target;
    if (sentinel?.matches?.("[data-keep-scroll]")) keepScroll(sentinel.closest("[data-rail]"));
  });
}

function onClick(event) {
  const width = event.target.closest("[data-set-width]");
  if (width) setWidth(width.dataset.setWidth);
  const counts = event.target.closest("[data-counts]");
  if (counts) setCounts(counts);
  const tab = event.target.closest("[data-tab]");
  if (tab) selectTab(tab);
  const more = event.target.closest("[data-more-effects]");
  if (more) {
    const all = more.closest("[data-effects]").classList.toggle("all");
    more.setAttribute("aria-expanded", String(all));
    more.textContent = all ? "Fewer" : "All";
  }
  const pane = event.target.closest(".tabs [data-pane]");
  if (pane) {
    event.preventDefault();
    showPane(pane);
  }
}

function setWidth(name) {
  const contexts = document.querySelector(".contexts");
  if (!contexts) return;
  const anchor = document.activeElement?.closest?.(".example");
  const before = anchor?.getBoundingClientRect().top;
  contexts.dataset.width = name;
  if (anchor) scrollBy(0, anchor.getBoundingClientRect().top - before);
  for (const button of document.querySelectorAll("[data-set-width]")) {
    button.setAttribute("aria-pressed", String(button.dataset.setWidth === name));
  }
  remember("width", name);
  const address = new URL(location);
  address.searchParams.set("width", name);
  history.replaceState(history.state, "", address);
  say(`contexts ${name}`);
}

function setCounts(button) {
  for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
  for (const bar of button.closest(".fact").querySelectorAll(".chart rect")) {
    bar.dataset.log ??= bar.getAttribute("height");
    const height = bar.dataset[button.dataset.counts];
    bar.setAttribute("height", height);
    bar.setAttribute("y", 100 - height);
  }
}

function selectTab(tab) {
  for (const other of tab.parentElement.querySelectorAll("[data-tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
}

function showPane(link) {
  document.querySelector(".three").dataset.pane = link.dataset.pane;
  for (const other of link.parentElement.children) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  scrollTo(0, 0);
  centreRail();
}

function centreRail() {
  const rail = document.querySelector("[data-rail]");
  const here = rail?.querySelector("[aria-current]");
  if (here && rail.clientHeight < rail.scrollHeight) rail.scrollTop = here.offsetTop - rail.clientHeight / 2;
}

/** Rows that arrive above the reader must not move the rows that the reader looks at. */
function keepScroll(rail) {
  const below = rail.scrollHeight - rail.scrollTop;
  document.addEventListener("htmx:afterSettle", () => { rail.scrollTop = rail.scrollHeight - below; }, { once: true });
}

/** Group headers stick under the test strip, whatever its height at the moment. */
function measureStrip() {
  const strip = document.getElementById("strip");
  if (!strip) return;
  const publish = () => document.documentElement.style.setProperty("--strip-height", `${strip.offsetHeight}px`);
  new ResizeObserver(publish).observe(strip);
  publish();
}

/** The text under test belongs to the address, so that a link shows the same page. */
function keepTestInAddress() {
  const input = document.getElementById("test-text");
  if (!input) return;
  const follow = () => {
    const address = new URL(location);
    if (input.value && input.value.length < 1000) address.searchParams.set("text", input.value);
    else address.searchParams.delete("text");
    history.replaceState(history.state, "", address);
    for (const link of document.querySelectorAll("a[rel='prev'], a[rel='next'], a[data-key='r']")) {
      const target = new URL(link.href);
      if (input.value && input.value.length < 1000) target.searchParams.set("text", input.value);
      else target.searchParams.delete("text");
      link.href = target;
    }
  };
  input.addEventListener("input", follow);
  if (input.value) follow();
}
