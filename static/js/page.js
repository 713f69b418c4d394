// Small things that several modules need.

/** Remember a choice of the reader for a year, where the server reads it too. */
export function remember(name, value) {
  document.cookie = `${name}=${encodeURIComponent(value)}; path=/; max-age=31536000; samesite=lax`;
}

/** Say something to screen readers without moving focus. */
export function say(text) {
  document.getElementById("spoken").textContent = text;
}

/** Run a function for an element's present and future copies: now, and after each htmx swap. */
export function onContent(bind) {
  bind(document);
  document.addEventListener("htmx:afterSwap", (event) => bind(event.detail.target ?? document));
  document.addEventListener("htmx:oobAfterSwap", (event) => bind(event.detail.target ?? document));
}

/** Format with three significant figures. */
export function figure(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return size < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
}

/** Show a token's text as chips do: dots for spaces at its borders, signs for newline and tab. */
export function shown(text) {
  const signs = text.replaceAll("\n", "↵").replaceAll("\t", "→");
  const body = signs.trim();
  if (!body) return signs.length > 4 ? `·×${signs.length}` : "·".repeat(signs.length) || "∅";
  const lead = signs.length - signs.trimStart().length;
  const trail = signs.length - signs.trimEnd().length;
  return `${"·".repeat(Math.min(lead, 4))}${body}${"·".repeat(Math.min(trail, 4))}`;
}

export const SVG = "http://www.w3.org/2000/svg";
