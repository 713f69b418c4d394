// The keyboard. Single keys never fire in a text field, and can be switched off (WCAG 2.1.4).
const WIDTHS = { 1: "stacked", 2: "snippet", 3: "paragraph", 4: "full" };
const OFF = "facet-keys-off";

export function setUpKeys() {
  const toggle = document.querySelector("[data-keys-toggle]");
  toggle.checked = !localStorage.getItem(OFF);
  toggle.addEventListener("change", () => (toggle.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1")));
  document.addEventListener("keydown", onKey);
  keepPlaceInGroups();
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (opener) document.getElementById(opener.dataset.opens).showModal();
    const focuser = event.target.closest("[data-focus]");
    if (focuser) { event.preventDefault(); use(document.querySelector(`#facts [data-key="${focuser.dataset.focus}"]`)); }
  });
}

function onKey(event) {
  if (event.defaultPrevented) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") return take(event, () => focusPalette());
  const field = event.target.closest?.("input:not([type=checkbox], [type=radio], [type=range]), textarea, select, [contenteditable]");
  if (field) return inField(event, field);
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (localStorage.getItem(OFF) && event.key !== "?") return;
  const { key } = event;
  if (key === "/") return take(event, focusPalette);
  if (key === "?") return take(event, () => document.getElementById("help").showModal());
  if (key === "j" || key === "k") return take(event, () => moveRow(key === "j" ? 1 : -1));
  if (key === "x") return take(event, expand);
  if (WIDTHS[key]) { const button = document.querySelector(`[data-set-width="${WIDTHS[key]}"]`); return button && take(event, () => button.click()); }
  const target = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (target) take(event, () => use(target));
}

function take(event, act) {
  event.preventDefault();
  act();
}

function use(target) {
  if (!target) return;
  if (target.matches("input, textarea, select")) {
    const pane = target.closest(".facts");
    if (pane && pane.getClientRects().length === 0) document.querySelector(".tabs [data-pane='facts']")?.click();
    target.focus();
    target.scrollIntoView({ block: "nearest" });
    target.select?.();
  } else target.click();
}

function focusPalette() {
  const input = document.getElementById("palette");
  input.focus();
  input.select();
}

function inField(event, field) {
  if (event.key === "Escape") {
    if (field.id === "palette") event.preventDefault(); // keep what was typed: the palette closes, no more
    field.blur();
    return;
  }
  if (field.id !== "palette") return;
  const links = [...document.querySelectorAll("#palette-hits a")];
  if (!links.length || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
  event.preventDefault();
  links[event.key === "ArrowDown" ? 0 : links.length - 1].focus();
}

document.addEventListener("keydown", (event) => {
  const link = event.target.closest?.("#palette-hits a");
  if (!link || !["ArrowDown", "ArrowUp", "Escape"].includes(event.key)) return;
  event.preventDefault();
  const links = [...document.querySelectorAll("#palette-hits a")];
  const place = links.indexOf(link) + (event.key === "ArrowDown" ? 1 : -1);
  if (event.key === "Escape") link.blur(); // the palette shows its hits only while it has focus
  else if (place < 0) document.getElementById("palette").focus();
  else links[Math.min(place, links.length - 1)].focus();
});

/** Rows are elements with data-row; the one to focus is itself or the link inside it. */
function moveRow(step) {
  const rows = [...document.querySelectorAll("[data-rows] [data-row]")].filter((row) => row.getClientRects().length);
  if (!rows.length) return;
  const here = rows.indexOf(document.activeElement?.closest?.("[data-row]"));
  const row = rows[here < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, here + step))];
  (row.matches("[tabindex], a") ? row : row.querySelector("a, [tabindex]"))?.focus();
  row.scrollIntoView({ block: "nearest" });
}

function expand() {
  const here = document.activeElement?.closest?.("[data-group]");
  const button = here?.querySelector("[data-expand]") ?? document.querySelector("[data-expand]");
  button?.click();
}

/** A group that is replaced by its longer self keeps the reader's place: the same row, or the first new one. */
function keepPlaceInGroups() {
  let place = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    const group = event.detail.target?.closest?.("[data-group]");
    const focused = document.activeElement;
    if (!group?.contains(focused)) return;
    const rows = [...group.querySelectorAll("[data-row]")];
    const row = rows.indexOf(focused.closest("[data-row]"));
    place = { group: group.id, row: row < 0 ? rows.length : row };
  });
  document.addEventListener("htmx:afterSettle", () => {
    const rows = place && document.getElementById(place.group)?.querySelectorAll("[data-row]");
    if (rows?.length) rows[Math.min(place.row, rows.length - 1)].focus({ preventScroll: true });
    place = null;
  });
}
