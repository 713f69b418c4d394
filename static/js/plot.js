// The density histogram of a dictionary: Plotly, in which brushing a range filters the list below.
// It is large, so it is asked for when the page has loaded and is idle, or when somebody reaches for the chart.
// Until then, and without it, the server's SVG stands in its place.

const box = document.querySelector("[data-plot]");
let asked = false;
if (box) {
  for (const name of ["pointerenter", "touchstart", "focusin"]) box.addEventListener(name, load, { once: true, passive: true });
  if (document.readyState === "complete") whenIdle();
  else addEventListener("load", whenIdle, { once: true });
  document.addEventListener("facet:theme", () => window.Plotly && draw());
}

function whenIdle() {
  if (window.requestIdleCallback) requestIdleCallback(load, { timeout: 4000 });
  else setTimeout(load, 600);
}

function load() {
  if (asked) return;
  asked = true;
  const script = Object.assign(document.createElement("script"), { src: box.dataset.plotly, async: true });
  script.addEventListener("load", draw);
  document.head.append(script);
}

function draw() {
  const figure = JSON.parse(document.getElementById(box.dataset.plot).textContent);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { color: colour("--muted"), gridcolor: colour("--line"), linecolor: colour("--line-strong"), zeroline: false, fixedrange: true, exponentformat: "power" };
  const layout = {
    ...figure.layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: style.getPropertyValue("--sans"), size: 12, color: colour("--soft") },
    xaxis: { ...axis, ...figure.layout.xaxis, showgrid: false },
    yaxis: { ...axis, ...figure.layout.yaxis },
    selections: [],
  };
  const data = figure.data.map((trace) => ({ ...trace, marker: { color: colour("--muted") }, selected: { marker: { color: colour("--ink") } }, unselected: { marker: { opacity: 0.35 } } }));
  box.replaceChildren();
  Plotly.react(box, data, layout, { displayModeBar: false, responsive: true }).then(() => {
    box.removeAllListeners?.("plotly_selected");
    box.on("plotly_selected", (event) => filter(event?.range?.x));
    box.on("plotly_deselect", () => filter(null));
  });
}

function filter(range) {
  const form = document.querySelector("form[data-filters]");
  if (!form) return;
  const low = range ? String(Number(Math.max(0, Math.min(...range)).toPrecision(3))) : "";
  const high = range ? String(Number(Math.max(...range).toPrecision(3))) : "";
  if (form.elements.min_density.value === low && form.elements.max_density.value === high) return; // told twice
  form.elements.min_density.value = low;
  form.elements.max_density.value = high;
  form.requestSubmit();
}
