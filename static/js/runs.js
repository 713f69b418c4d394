// A run's page is written anew at every report: what the reader has opened stays open, and where it was scrolled to.

const opened = new Map();

export function setUpRuns() {
  const run = document.getElementById("run");
  if (!run) return;
  run.addEventListener("toggle", (event) => {
    if (event.target.open) opened.set(event.target.id, opened.get(event.target.id) ?? 0);
    else if (event.target.isConnected) opened.delete(event.target.id);
  }, true);
  run.addEventListener("scroll", (event) => {
    const details = event.target.closest?.("details[id]");
    if (details) opened.set(details.id, event.target.scrollTop);
  }, true);
  for (const name of ["htmx:sseMessage", "htmx:afterSwap"]) document.addEventListener(name, openAgain);
}

function openAgain() {
  for (const [id, top] of opened) {
    const details = document.getElementById(id);
    if (!details) continue;
    details.open = true;
    details.querySelector(":scope > div").scrollTop = top;
  }
}
