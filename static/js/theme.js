// Follow the system until the reader chooses; the choice is a cookie, so the server renders it and nothing flashes.
import { remember, say } from "./page.js";

export function setUpTheme() {
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const next = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
    root.dataset.theme = next;
    remember("theme", next);
    say(`${next} theme`);
    document.dispatchEvent(new CustomEvent("facet:theme"));
  });
}
