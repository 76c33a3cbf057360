"use strict";
// Draw each figure in the colours of the style sheet, and draw it again when the page becomes dark, light, narrow or wide.
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 40rem)");

function config() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const [ink, muted, grid] = ["ink", "muted", "grid"].map(colour);
  const series = [1, 2, 3, 4, 5].map((number) => colour(`series-${number}`));
  const title = { titleColor: muted, titleFontWeight: "normal" };
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    aria: false,
    view: { stroke: null },
    axis: { labelColor: ink, domainColor: muted, tickColor: muted, gridColor: grid, labelFontSize: 11, titleFontSize: 11, ...title },
    axisY: { labelLimit: narrow.matches ? 118 : 230 },
    legend: { labelColor: ink, labelFontSize: 11, titleFontSize: 11, columns: narrow.matches ? 2 : 0, layout: { top: { direction: narrow.matches ? "vertical" : "horizontal", anchor: "start", margin: 6 } }, ...title },
    range: { category: series, symbol: ["circle", "square", "triangle-up", "diamond", "triangle-down"] },
    mark: { color: series[0] },
    style: {
      muted: { color: muted },
      strong: { color: ink },
      mark: { color: "white", stroke: "black", strokeWidth: 1 },
    },
  };
}

let drawn = Promise.resolve([]);

// Remove the earlier figures with their timers and listeners, and draw all again. One call waits for the other.
function draw() {
  drawn = drawn.catch(() => []).then((results) => {
    results.forEach((result) => result.finalize());
    const options = { actions: false, ast: true, renderer: "svg", config: config() };
    const boxes = [...document.querySelectorAll("[data-figure]")];
    return Promise.all(boxes.map((box) => vegaEmbed(box, figures[box.dataset.figure], options)));
  });
  return drawn;
}

function mark_drawn() {
  document.documentElement.dataset.drawn = "yes";
}

draw().then(mark_drawn);
dark.addEventListener("change", draw);
narrow.addEventListener("change", draw);

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = document.getElementById(button.dataset.copy);
    getSelection().selectAllChildren(code);
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Selected: press Ctrl+C";
    }
  });
}
