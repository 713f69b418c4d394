// Stream a generation: two texts side by side, log-probabilities on hover, the first difference marked.
// The page still works without this: the server then waits and renders the finished result.
import { onContent, say } from "./page.js";

const open = new Set();

export function setUpSteering() {
  onContent((root) => {
    for (const job of [...(root.matches?.("[data-job]") ? [root] : []), ...root.querySelectorAll("[data-job]:not([data-bound])")]) {
      if (!job.dataset.bound) follow(job);
    }
  });
  addEventListener("pagehide", () => { for (const source of open) source.close(); });
}

function follow(job) {
  job.dataset.bound = "1";
  const sides = [...job.querySelectorAll("[data-side]")];
  const status = job.querySelector("[data-status]");
  const rows = sides.map(() => []);
  const source = new EventSource(job.dataset.job);
  open.add(source);
  const on = (name, act) => source.addEventListener(name, (event) => act(event.data ? JSON.parse(event.data) : {}));
  const close = () => {
    source.close();
    open.delete(source);
    for (const side of sides) side.removeAttribute("data-streaming");
    for (const element of job.querySelectorAll("[data-while-running]")) element.hidden = true;
  };
  on("queued", (data) => { status.textContent = data.position ? `waiting, ${data.position} before this one` : "waiting for the engine"; });
  on("started", () => {
    status.textContent = "generating";
    for (const side of sides) side.setAttribute("data-streaming", "");
  });
  on("token", (data) => {
    append(sides[data.row], rows, data);
    mark(sides, rows, data);
  });
  on("done", (data) => {
    close();
    status.textContent = finished(rows, data);
    say(status.textContent);
  });
  source.addEventListener("error", (event) => {
    if (!event.data) { // the connection, not the job: the browser reconnects by itself
      if (source.readyState === EventSource.CLOSED) fail(job, { cause: "The stream ended early.", remedy: "Try again." }, close);
      return;
    }
    fail(job, JSON.parse(event.data), close);
  });
}

function append(side, rows, data) {
  if (!side || rows[data.row].some((token) => token.index === data.index)) return; // a repeat after reconnecting
  const place = side.querySelector(".tokens");
  const token = document.createElement("i");
  for (const [at, part] of data.text.split("\n").entries()) {
    if (at) token.append(Object.assign(document.createElement("s"), { className: "nl", textContent: "\n" }));
    token.append(part);
  }
  token.dataset.at = data.index;
  token.dataset.name = data.text;
  if (data.logprob !== undefined && data.logprob !== null) token.dataset.logprob = data.logprob;
  place.append(token);
  rows[data.row].push({ index: data.index, text: data.text, element: token });
}

/** Mark where the two texts part, as soon as both have that token. */
function mark(sides, rows, data) {
  if (sides.length < 2) return;
  const place = rows[data.row].length - 1;
  const pair = rows.map((row) => row[place]);
  if (pair.some((token) => !token)) return;
  if (sides[1].querySelector(".first-difference")) return;
  const name = pair[0].text === pair[1].text ? "same" : "first-difference";
  for (const token of pair) token.element.classList.add(name);
}

function finished(rows, data) {
  const count = rows[0]?.length ?? 0;
  const first = rows.length > 1 ? rows[0].findIndex((token, at) => token.text !== rows[1][at]?.text) : -1;
  const parted = first < 0 ? "the texts are the same" : `they part at token ${first + 1}`;
  const why = { context: "the context is full", eos: "the model ended the text", abandoned: "stopped", cancelled: "stopped" }[data.stopped];
  return `${count} tokens; ${rows.length > 1 ? parted : "done"}${why ? `; ${why}` : ""}`;
}

function fail(job, error, close) {
  close();
  const box = job.querySelector("[data-problem]");
  box.hidden = false;
  box.querySelector("[data-cause]").textContent = error.cause;
  box.querySelector("[data-remedy]").textContent = error.remedy;
  box.querySelector("[data-cut]").hidden = error.code !== "prompt-too-long";
  job.querySelector("[data-status]").textContent = "not finished";
  say(`${error.cause} ${error.remedy}`);
}
