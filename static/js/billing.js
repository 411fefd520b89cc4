// Draws the figure that the server made, in the page's own colours; again when the colour scheme or the width changes.
// A click on a bar goes to its rows. With the keyboard: arrows choose a bar, Enter goes to its rows, Escape lets go.
const chart = document.getElementById("chart");
const figure = JSON.parse(document.getElementById("figure").textContent);
const buckets = figure.layout.meta.buckets;
const said = document.getElementById("chosen");
const TICK_WIDTH = 64;
let chosen = null;

// The value of a custom property as a colour that a canvas would take: light-dark() is resolved by the browser.
function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  chart.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function ticks() {
  const room = Math.max(2, Math.floor(chart.clientWidth / TICK_WIDTH));
  const step = [1, 2, 3, 4, 6, 7, 12, 14, 24, 28, 48].find((each) => buckets.length / each <= room) ?? 60;
  const shown = buckets.map((_, place) => place).filter((place) => place % step === 0);
  return { tickmode: "array", tickvals: shown, ticktext: shown.map((place) => buckets[place].tick) };
}

function draw() {
  const line = colour("line");
  const surface = colour("surface");
  const wide = chart.clientWidth / buckets.length > 12;
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: colour("edge"), automargin: true };
  const data = figure.data.map((trace) => ({
    ...trace,
    text: buckets.map(({ name }) => name),
    marker: { color: colour(trace.meta.color), line: { color: surface, width: wide ? 1 : 0 } },
  }));
  const layout = {
    ...figure.layout,
    height: chart.clientHeight,
    font: { family: getComputedStyle(chart).fontFamily, size: 12, color: colour("muted") },
    xaxis: { ...figure.layout.xaxis, ...axis, ...ticks() },
    yaxis: { ...figure.layout.yaxis, ...axis },
    hoverlabel: { align: "left", bgcolor: colour("ink"), bordercolor: colour("ink"), font: { color: colour("bg") } },
  };
  Plotly.react(chart, data, layout, { displayModeBar: false, responsive: false });
}

function rowsOf(trace, place) {
  const asked = new URLSearchParams(chart.dataset.asked);
  for (const [name, value] of Object.entries(figure.data[trace].meta.query)) {
    asked.delete(name);
    for (const one of [value].flat()) asked.append(name, one);
  }
  asked.set("at", buckets[place].at);
  return `${chart.dataset.rows}?${asked}`;
}

function choose(trace, place) {
  chosen = { trace, place };
  const { name, customdata } = figure.data[trace];
  Plotly.Fx.hover(chart, [{ curveNumber: trace, pointNumber: place }]);
  said.textContent = `${buckets[place].name}, ${name}: $${customdata[place]}`;
}

function move(event) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
  if (event.key === "Enter" && chosen) location.assign(rowsOf(chosen.trace, chosen.place));
  if (event.key === "Escape") {
    chosen = null;
    Plotly.Fx.unhover(chart);
  }
  if (!step) return;
  event.preventDefault();
  const last = chosen ?? { trace: 0, place: step[1] < 0 ? buckets.length : -1 };
  const within = (number, many) => Math.min(Math.max(number, 0), many - 1);
  choose(within(last.trace + step[0], figure.data.length), within(last.place + step[1], buckets.length));
}

function begin() {
  draw();
  chart.querySelector("p")?.remove();
  chart.tabIndex = 0;
  chart.on("plotly_click", ({ points: [point] }) => location.assign(rowsOf(point.curveNumber, point.pointNumber)));
  chart.addEventListener("keydown", move);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = chart.clientWidth;
  new ResizeObserver(() => {
    if (chart.clientWidth !== width) { width = chart.clientWidth; draw(); }
  }).observe(chart);
}

try {
  begin();
} catch (error) {
  const words = chart.querySelector("p") ?? chart.appendChild(document.createElement("p"));
  words.textContent = "The chart could not be drawn here. The table holds the same numbers.";
  console.error(error);
}
