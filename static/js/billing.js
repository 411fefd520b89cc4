// Draws the figure that the server made, in the page's own colours, and again when the colour scheme changes.
const chart = document.getElementById("chart");
const figure = JSON.parse(document.getElementById("figure").textContent);

function draw() {
  const style = getComputedStyle(chart);
  const ink = style.color;
  const line = getComputedStyle(document.querySelector(".panel")).borderTopColor;
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true };
  const layout = {
    ...figure.layout,
    font: { family: style.fontFamily, size: 12, color: ink },
    xaxis: { ...figure.layout.xaxis, ...axis, showgrid: false },
    yaxis: { ...figure.layout.yaxis, ...axis },
    hoverlabel: { align: "left" },
  };
  chart.querySelector("p")?.remove();
  Plotly.react(chart, figure.data, layout, { displayModeBar: false, responsive: true });
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
