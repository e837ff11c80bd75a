"use strict";
// Names and values are only ever put on the page as text: nothing here parses markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const NUM_COLOURS = 10;

function make(space, tag, attributes, children) {
  const made = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) made.append(child);
  }
  return made;
}

const el = (tag, attributes, ...children) => make(null, tag, attributes, children);
const svg = (tag, attributes, ...children) =>
  make("http://www.w3.org/2000/svg", tag, attributes, children);
const prose = (text) =>
  text.split("`").map((part, place) => place % 2 ? el("code", {}, part) : part);
const colour = (place) => `var(--c${place % NUM_COLOURS})`;

function shown(value) {
  if (value === null || value === undefined) return "\u2013";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
      if (power >= low - 1e-9 && power <= high + 1e-9) found.push(power);
    }
    return found.length > 1 ? found : [low, high];
  }
  const rough = (high - low) / 5 || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough - 1e-12);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) {
    found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  }
  return found;
}

// A scale from values to pixels; a range of one value gets some room.
function scaleOf(values, log, from, to, fixed) {
  const moved = log ? values.map(Math.log10) : values;
  let low = moved.reduce((a, b) => Math.min(a, b), Infinity);
  let high = moved.reduce((a, b) => Math.max(a, b), -Infinity);
  if (fixed) [low, high] = fixed;
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const place = (value) =>
    from + ((log ? Math.log10(value) : value) - low) / (high - low) * (to - from);
  return { place, low, high, ticks: ticks(low, high, log), value: (t) => (log ? 10 ** t : t) };
}

function drawPlot(block) {
  const [width, height, left, right, top, bottom] = [560, 320, 62, 12, 22, 42];
  const usable = ([a, b]) => (!block.log_x || a > 0) && (!block.log_y || b > 0);
  const series = block.series.map((one) => ({ ...one, points: one.points.filter(usable) }));
  const points = series.flatMap((one) => one.points);
  const marks = (block.marks || []).filter(([at]) => !block.log_x || at > 0);
  const hasBars = series.some((one) => one.kind === "bars");
  const xs = points.map((point) => point[0]).concat(marks.map((mark) => mark[0]));
  let ys = points.map((point) => point[1]).concat(hasBars ? [0] : []);
  if (block.diagonal && !block.unit) ys = ys.concat(xs);
  const unit = block.unit ? [0, 1] : null;
  const x = scaleOf(block.diagonal && !block.unit ? ys : xs, block.log_x, left, width - right, unit);
  const y = scaleOf(ys, block.log_y, height - bottom, top, block.unit_y ? [0, 1] : unit);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": block.title });
  for (const tick of y.ticks) {
    const at = y.place(y.value(tick));
    drawing.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: at, y2: at }));
    drawing.append(svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, shown(y.value(tick))));
  }
  for (const tick of x.ticks) {
    const at = x.place(x.value(tick));
    drawing.append(svg("text", { x: at, y: height - bottom + 16, "text-anchor": "middle" }, shown(x.value(tick))));
  }
  drawing.append(svg("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, block.x));
  drawing.append(svg("text", { x: 6, y: 14 }, block.y));
  for (const [at, name] of marks) {
    const place = x.place(at);
    drawing.append(svg("line", { class: "mark", x1: place, x2: place, y1: top, y2: height - bottom }));
    drawing.append(svg("text", { x: place + 3, y: top + 10 }, String(name).slice(0, 24)));
  }
  if (block.diagonal) {
    const ends = unit || [Math.max(x.low, y.low), Math.min(x.high, y.high)];
    drawing.append(svg("line", { class: "mark", x1: x.place(ends[0]), y1: y.place(ends[0]), x2: x.place(ends[1]), y2: y.place(ends[1]) }));
  }
  series.forEach((one, place) => drawSeries(drawing, one, colour(place), x, y, height - bottom));
  if (block.named) nameSeries(drawing, series, x, y);
  const legend = el("div", { class: "legend" }, block.named ? [] : series.length > 1 || one_name(series)
    ? series.map((one, place) => el("span", {}, el("i", { style: `background:${colour(place)}` }), one.name)) : []);
  return el("figure", {}, el("h3", {}, block.title), drawing, legend);
}

const one_name = (series) => series.length === 1 && series[0].kind === "line";

// The names of single points beside them, where that is asked for.
function nameSeries(drawing, series, x, y) {
  for (const one of series) {
    const [a, b] = one.points[0];
    drawing.append(svg("text", { x: x.place(a) + 4, y: y.place(b) + 4 }, String(one.name).slice(0, 20)));
  }
}

function drawSeries(drawing, one, paint, x, y, floor) {
  const at = one.points.map(([a, b]) => [x.place(a), y.place(b)]);
  const titled = (shape, place) => {
    const [a, b] = one.points[place];
    shape.append(svg("title", {}, `${one.name}: ${shown(a)}, ${shown(b)}`));
    drawing.append(shape);
  };
  if (one.kind === "bars") {
    const width = at.length > 1 ? Math.max(1, Math.abs(at[1][0] - at[0][0]) - 1) : 20;
    at.forEach(([a, b], place) => titled(svg("rect", {
      x: a - width / 2, y: b, width, height: Math.max(0, floor - b), fill: paint,
    }), place));
    return;
  }
  if (one.kind === "line") {
    drawing.append(svg("polyline", {
      points: at.map((pair) => pair.map((value) => value.toFixed(1)).join(",")).join(" "),
      fill: "none", stroke: paint, "stroke-width": 2,
    }));
  }
  if (one.kind === "points" || one.dots || at.length < 60) {
    const radius = one.kind === "points" ? 2.2 : 3;
    at.forEach(([a, b], place) => titled(svg("circle", {
      cx: a.toFixed(1), cy: b.toFixed(1), r: radius, fill: paint,
      "fill-opacity": one.kind === "points" ? 0.55 : 1,
    }), place));
  }
}

const FIRST_ROWS = 60;

function drawTable(block) {
  let rows = block.rows.slice();
  let all = rows.length <= FIRST_ROWS;
  const isNumber = block.columns.map((_, place) =>
    rows.some((row) => typeof row[place] === "number") &&
    rows.every((row) => row[place] === null || typeof row[place] === "number"));
  const body = el("tbody", {});
  const more = el("button", { class: "more", click: () => { all = true; fill(); } }, `Show all ${rows.length} rows`);
  function fill() {
    const seen = all ? rows : rows.slice(0, FIRST_ROWS);
    body.replaceChildren(...seen.map((row) => el("tr", {}, row.map((cell, place) =>
      el("td", { class: isNumber[place] ? "number" : null }, shown(cell))))));
    more.hidden = all;
  }
  let last = -1;
  let falling = false;
  const sort = (place) => {
    falling = last === place ? !falling : isNumber[place];
    last = place;
    const sign = falling ? -1 : 1;
    rows = block.rows.slice().sort((a, b) => {
      if (a[place] === null || b[place] === null) return (a[place] === null) - (b[place] === null);
      if (isNumber[place]) return sign * (a[place] - b[place]);
      return sign * String(a[place]).localeCompare(String(b[place]));
    });
    fill();
  };
  const head = block.columns.map((name, place) =>
    el("th", { class: isNumber[place] ? "number" : null }, el("button", { title: "Sort", click: () => sort(place) }, name)));
  fill();
  const note = block.note ? el("p", { class: "soft" }, block.note) : null;
  return el("div", {}, el("h3", {}, block.title), note,
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, head)), body)), more);
}

function themeButton() {
  const root = document.documentElement;
  return el("button", { click: () => {
    const isDark = root.dataset.theme ? root.dataset.theme === "dark"
      : window.matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
  } }, "Light or dark");
}
