// Draw lines over time as SVG, with a legend and a description in words.

import { h, s } from "./dom.js";

const WIDTH = 560;
const HEIGHT = 150;
const LEFT = 62;
const BOTTOM = 20;

// series: [{ name, values: [number | null] }], at most three; labels: the first and the last place.
export function chart(series, { unit = "", from = "", to = "", least = 0 }) {
  const values = series.flatMap((one) => one.values).filter((value) => value !== null && value !== undefined);
  const highest = Math.max(least, ...values) || 1;
  const top = niceAbove(highest);
  const text = (value) => `${Number(value.toPrecision(3))}${unit}`;
  const lastOf = (one) => one.values.filter((value) => value !== null && value !== undefined).at(-1);
  const summary = series.map((one) => `${one.name} ${lastOf(one) === undefined ? "nothing yet" : text(lastOf(one))}`).join(", ");
  const svg = s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${summary}; up to ${values.length ? text(highest) : "nothing"}` });
  for (const portion of [0, 0.5, 1]) {
    const y = yOf(portion * top, top);
    svg.append(s("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y, y2: y }), s("text", { x: LEFT - 4, y: y + 4, "text-anchor": "end" }, text(portion * top)));
  }
  svg.append(s("text", { x: LEFT, y: HEIGHT - 5 }, from), s("text", { x: WIDTH, y: HEIGHT - 5, "text-anchor": "end" }, to));
  series.forEach((one, number) => {
    for (const points of runs(one.values, top)) {
      if (points.length === 1) points.push(`${Number(points[0].split(",")[0]) + 2},${points[0].split(",")[1]}`);
      svg.append(s("polyline", { class: `line-${number + 1}`, points: points.join(" ") }));
    }
  });
  const legend = h("ul", { class: "legend" }, ...series.map((one, number) => h("li", {},
    s("svg", { viewBox: "0 0 16 6", "aria-hidden": "true" }, s("line", { class: `line-${number + 1}`, x1: 0, x2: 16, y1: 3, y2: 3 })),
    `${one.name} ${lastOf(one) === undefined ? "–" : text(lastOf(one))}`)));
  return [svg, legend];
}

function yOf(value, top) {
  return HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - 8) * value) / top;
}

// The points of each stretch without a gap.
function runs(values, top) {
  const found = [[]];
  values.forEach((value, place) => {
    if (value === null || value === undefined) {
      if (found.at(-1).length) found.push([]);
      return;
    }
    const x = LEFT + ((WIDTH - LEFT - 4) * place) / Math.max(1, values.length - 1);
    found.at(-1).push(`${x.toFixed(1)},${yOf(value, top).toFixed(1)}`);
  });
  return found.filter((points) => points.length);
}

function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
