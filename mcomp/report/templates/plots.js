"use strict";

// A colour in a figure is the name of one of the page's: "@accent" is --accent of the theme that holds now.
function themed(value, style) {
  if (typeof value === "string" && value.startsWith("@")) {
    return style.getPropertyValue("--" + value.slice(1)).trim();
  }
  if (Array.isArray(value)) return value.map((each) => themed(each, style));
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, themed(each, style)]));
  }
  return value;
}

function draw(holder, figure) {
  const style = getComputedStyle(document.documentElement);
  const theme = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "@muted" },
    hoverlabel: { bgcolor: "@card", bordercolor: "@line", font: { color: "@ink" } },
  };
  const { data, layout } = themed({ data: figure.data, layout: { ...theme, ...figure.layout } }, style);
  Plotly.react(holder, data, layout, { displayModeBar: false, responsive: true });
}

const plots = Array.from(document.querySelectorAll(".plot"), (holder) => {
  const source = holder.querySelector("script");
  source.remove();
  return [holder, JSON.parse(source.textContent)];
});
const drawAll = () => plots.forEach(([holder, figure]) => draw(holder, figure));
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
