// Joint angles beside the viewer: a small chart for each, a line at the viewer's time, and a click goes to a time.

const STYLE = `
.jd-angles { box-sizing: border-box; height: 100%; overflow-y: auto; padding: 8px 12px; background: #f7f8fa;
  color: #20242a; font: 13px/1.3 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.jd-angles h2 { margin: 4px 0 8px; font-size: 14px; font-weight: 600; }
.jd-angles select { font: inherit; }
.jd-angles figure { display: inline-block; width: 190px; margin: 0 8px 8px 0; }
.jd-angles figcaption span { display: block; min-height: 1.3em; white-space: pre; font-variant-numeric: tabular-nums; }
.jd-angles figcaption span + span { font-size: 12px; opacity: 0.75; }
.jd-angles svg { display: block; width: 100%; height: 84px; cursor: pointer; }
.jd-angles .frame { fill: none; stroke: #cfd5dc; }
.jd-angles .zero { stroke: #cfd5dc; stroke-dasharray: 3 3; }
.jd-angles .now { stroke: #5b636e; }
.jd-angles text { fill: #5b636e; font-size: 10px; }
@media (prefers-color-scheme: dark) {
  .jd-angles { background: #14171c; color: #eceff3; }
  .jd-angles :is(.frame, .zero) { stroke: #3d444e; }
  .jd-angles :is(.now, text) { stroke: none; fill: #aab2bd; }
  .jd-angles .now { stroke: #aab2bd; }
}`;
const COLORS = { left: "#1f77d0", right: "#f07f13", middle: "#7b828c" };
const [WIDTH, HEIGHT, LEFT] = [190, 84, 26];
const LEAST_SPAN = 20; // degrees of a chart, so that noise does not look like movement
const SVG = "http://www.w3.org/2000/svg";

function add(parent, tag, attributes = {}, text = "") {
  const element = ["svg", "path", "line", "rect", "text"].includes(tag)
    ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  parent.append(element);
  return element;
}

/** Lowest and highest of the numbers, not closer together than `LEAST_SPAN`. */
function rangeOf(series) {
  const values = series.flatMap(({ degrees }) => degrees).filter((value) => value !== null);
  if (!values.length) return [-LEAST_SPAN / 2, LEAST_SPAN / 2];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0, LEAST_SPAN - (high - low)) / 2 + 2;
  return [low - room, high + room];
}

/** A path through the known values of `degrees`, in pieces where one is missing or goes round. */
function pathOf(degrees, x, y) {
  let before = null;
  return degrees
    .map((value, frame) => {
      const starts = value !== null && (before === null || Math.abs(value - before) > 180);
      before = value;
      return value === null ? "" : `${starts ? "M" : "L"}${x(frame).toFixed(1)} ${y(value).toFixed(1)}`;
    })
    .join("");
}

class Chart {
  constructor(element, title, series, times, viewer) {
    this.series = series;
    const figure = add(element, "figure");
    const caption = add(figure, "figcaption");
    add(caption, "span", {}, title);
    this.values = add(caption, "span");
    const svg = add(figure, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
    const [low, high] = rangeOf(series);
    const end = Math.max(times[times.length - 1], 1e-6);
    this.x = (frame) => LEFT + ((WIDTH - LEFT - 1) * times[frame]) / end;
    const y = (value) => 1 + ((HEIGHT - 2) * (high - value)) / (high - low);
    add(svg, "rect", { class: "frame", x: LEFT, y: 1, width: WIDTH - LEFT - 1, height: HEIGHT - 2 });
    if (low < 0 && high > 0) add(svg, "line", { class: "zero", x1: LEFT, x2: WIDTH - 1, y1: y(0), y2: y(0) });
    add(svg, "text", { x: 0, y: 10 }, `${Math.round(high)}`);
    add(svg, "text", { x: 0, y: HEIGHT - 2 }, `${Math.round(low)}`);
    for (const { side, degrees } of series) {
      add(svg, "path", { d: pathOf(degrees, this.x, y), fill: "none", stroke: COLORS[side], "stroke-width": 1.5 });
    }
    this.now = add(svg, "line", { class: "now", y1: 1, y2: HEIGHT - 1 });
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width) * WIDTH - LEFT;
      viewer.seek((Math.max(share, 0) / (WIDTH - LEFT - 1)) * end);
    });
  }

  show(frame) {
    this.now.setAttribute("x1", this.x(frame));
    this.now.setAttribute("x2", this.x(frame));
    const texts = this.series.map(({ side, degrees, deviations }) => {
      const [value, deviation] = [degrees[frame], deviations[frame]];
      if (value === null) return `${side[0].toUpperCase()} –`;
      const spread = deviation === null ? "" : `±${Math.round(deviation)}`;
      return `${side === "middle" ? "" : `${side[0].toUpperCase()} `}${Math.round(value)}${spread}`;
    });
    this.values.textContent = `${texts.join("  ")}°`;
  }
}

/**
 * Shows the angles of one person at a time.
 * @param element fills it
 * @param data `{times: [frames], people: [{id, charts: [{title, series: [{side, degrees, deviations}]}]}]}`
 * @param viewer the handle of the viewer whose time is shown
 */
export function mountAngles(element, data, viewer) {
  add(element, "style", {}, STYLE);
  const root = add(element, "div", { class: "jd-angles" });
  const head = add(root, "h2", {}, "Joint angles, degrees ");
  const place = add(root, "div");
  let charts = [];
  let shown = -1;
  const choose = (index) => {
    place.replaceChildren();
    const { charts: given } = data.people[index];
    charts = given.map(({ title, series }) => new Chart(place, title, series, data.times, viewer));
    shown = -1;
  };
  if (data.people.length > 1) {
    const select = add(head, "select", { "aria-label": "Person" });
    data.people.forEach(({ id }, index) => add(select, "option", { value: index }, `person ${id}`));
    select.addEventListener("change", () => choose(Number(select.value)));
  }
  if (data.people.length) choose(0);
  const follow = () => {
    const { frame } = viewer.inspect();
    if (frame !== shown) charts.forEach((chart) => chart.show(frame));
    shown = frame;
    requestAnimationFrame(follow);
  };
  follow();
}
