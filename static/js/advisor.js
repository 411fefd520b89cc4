// Draws the break-even in the page's own colours, anew when the advice or the colour scheme changes; and keeps what is
// empty out of the address.
function draw() {
  const chart = document.getElementById("chart");
  if (!chart) return;
  const figure = JSON.parse(document.getElementById("figure").textContent);
  const style = getComputedStyle(chart);
  const line = getComputedStyle(document.querySelector(".panel")).borderTopColor;
  // A custom property is text: an element that uses it says what colour that is now.
  const probe = document.createElement("span");
  chart.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const data = figure.data.map((trace) => {
    const drawn = { ...trace };
    const color = colour(trace.meta);
    if (trace.line) drawn.line = { ...trace.line, color };
    if (trace.marker) drawn.marker = { ...trace.marker, color, line: { ...trace.marker.line, color } };
    return drawn;
  });
  probe.remove();
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true };
  const layout = {
    ...figure.layout,
    font: { family: style.fontFamily, size: 12, color: style.color },
    xaxis: { ...figure.layout.xaxis, ...axis },
    yaxis: { ...figure.layout.yaxis, ...axis },
    hoverlabel: { align: "left" },
  };
  chart.querySelector("p")?.remove();
  Plotly.react(chart, data, layout, { displayModeBar: false, responsive: true });
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
document.body.addEventListener("htmx:afterSettle", draw);
document.body.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.elt.id !== "advisor") return;
  for (const [name, value] of new FormData(event.detail.elt)) {
    if (value === "") delete event.detail.parameters[name];
  }
});
