// The density histogram of a dictionary: Plotly, deferred, brushing a range filters the list below.
// Until it has loaded, and without it, the server's SVG stands in its place.

const box = document.querySelector("[data-plot]");
if (box && window.Plotly) draw();
else if (box) document.querySelector("script[data-plotly]")?.addEventListener("load", draw);
document.addEventListener("facet:theme", () => box && window.Plotly && draw());

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
  form.elements.min_density.value = range ? Number(Math.max(0, Math.min(...range)).toPrecision(3)) : "";
  form.elements.max_density.value = range ? Number(Math.max(...range).toPrecision(3)) : "";
  form.requestSubmit();
}
