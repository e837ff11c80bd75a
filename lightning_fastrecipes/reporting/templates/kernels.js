// A kernel runs over an image: values are grey levels, a map is {height, width, values}.
const LARGEST = 7;
const IMAGE = { height: DATA.height, width: DATA.width, values: DATA.pixels };
const state = {
  rows: DATA.kernels[0].rows, stride: 1, padding: 0, dilation: 1, relu: false, pool: "none", poolSize: 2,
  stretched: false, at: null,
};

const reach = (size, dilation) => dilation * (size - 1) + 1;
const sideOf = (side, seen, stride, padding) => Math.floor((side + 2 * padding - seen) / stride) + 1;

function valueAt(map, row, column) {
  const isInside = row >= 0 && column >= 0 && row < map.height && column < map.width;
  return isInside ? map.values[row * map.width + column] : 0;
}

// The pairs that one output is the sum of, row by row: [place in the input, value, weight].
function productsAt(map, row, column) {
  const found = [];
  state.rows.forEach((weights, down) => weights.forEach((weight, along) => {
    const y = row * state.stride - state.padding + down * state.dilation;
    const x = column * state.stride - state.padding + along * state.dilation;
    found.push({ y, x, value: valueAt(map, y, x), weight });
  }));
  return found;
}

function filled(height, width, compute) {
  const values = [];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) values.push(compute(row, column));
  }
  return { height, width, values };
}

function convolved(map) {
  const seen = reach(state.rows.length, state.dilation);
  const height = sideOf(map.height, seen, state.stride, state.padding);
  const width = sideOf(map.width, seen, state.stride, state.padding);
  if (height < 1 || width < 1) return null;
  return filled(height, width, (row, column) =>
    productsAt(map, row, column).reduce((sum, one) => sum + one.value * one.weight, 0));
}

const rectified = (map) => ({ ...map, values: map.values.map((value) => Math.max(value, 0)) });

function windowOf(map, row, column) {
  const found = [];
  for (let down = 0; down < state.poolSize; down++) {
    for (let along = 0; along < state.poolSize; along++) {
      found.push(valueAt(map, row * state.poolSize + down, column * state.poolSize + along));
    }
  }
  return found;
}

function pooled(map) {
  const height = Math.floor(map.height / state.poolSize), width = Math.floor(map.width / state.poolSize);
  if (height < 1 || width < 1) return null;
  return filled(height, width, (row, column) => {
    const values = windowOf(map, row, column);
    return state.pool === "max" ? Math.max(...values) : values.reduce((sum, one) => sum + one, 0) / values.length;
  });
}

// A kernel of another size keeps its middle.
function resized(rows, size) {
  const shift = Math.floor(rows.length / 2) - Math.floor(size / 2);
  return Array.from({ length: size }, (_, row) => Array.from({ length: size }, (_, column) =>
    (rows[row + shift] || [])[column + shift] || 0));
}

function arithmetic(name, side) {
  const seen = reach(state.rows.length, state.dilation);
  const exact = (side + 2 * state.padding - seen) / state.stride + 1;
  const sum = `${name} (${side} + 2 x ${state.padding} - ${seen}) / ${state.stride} + 1 = ${shown(exact)}`;
  return Number.isInteger(exact) ? sum : `${sum}, which is no whole number: the last pixels are not seen`;
}

function ends(map) {
  let low = Infinity, high = -Infinity;
  for (const value of map.values) { low = Math.min(low, value); high = Math.max(high, value); }
  return { low, high };
}

function paint(canvas, map) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = canvas.getContext("2d"), pixels = context.createImageData(map.width, map.height);
  const { low, high } = state.stretched ? ends(map) : { low: 0, high: 255 };
  map.values.forEach((value, place) => {
    const level = high > low ? 255 * (value - low) / (high - low) : 0;
    pixels.data.set([level, level, level, 255], 4 * place);
  });
  context.putImageData(pixels, 0, 0);
}

function outline(canvas, squares) {
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(255 140 0 / 60%)";
  for (const [row, column] of squares) context.fillRect(column, row, 1, 1);
}

const parts = {
  before: el("canvas", { "aria-label": "the image" }),
  after: el("canvas", { tabindex: 0, role: "img", "aria-label": "what the kernel makes of it; arrow keys move" }),
  pooled: el("canvas", { "aria-label": "after pooling" }),
  sizes: el("p", { class: "soft" }), sum: el("div", { "aria-live": "polite" }),
  grid: el("div", { class: "kernel" }), pooledBox: null,
};

function view(title, canvas) {
  return el("figure", { class: "pixels" }, el("figcaption", {}, title), canvas);
}

function showGrid() {
  const size = state.rows.length;
  parts.grid.style.gridTemplateColumns = `repeat(${size}, minmax(3.2em, 4.5em))`;
  parts.grid.replaceChildren(...state.rows.flatMap((weights, row) => weights.map((weight, column) =>
    el("input", { type: "number", step: "any", value: Number(weight.toPrecision(4)),
      "aria-label": `row ${row + 1}, column ${column + 1}`, input: (event) => {
        const number = Number(event.target.value);
        if (!Number.isFinite(number)) return;
        state.rows = state.rows.map((one) => [...one]);
        state.rows[row][column] = number;
        choice.value = "own numbers";
        compute();
      } }))));
}

function showSum(map) {
  const output = results.convolved, { row, column } = state.at;
  const products = productsAt(map, row, column), size = state.rows.length;
  const cells = products.map((one) => el("td", { class: "number" },
    `${shown(one.value)} x ${shown(Number(one.weight.toPrecision(4)))} = ${shown(one.value * one.weight)}`));
  const lines = Array.from({ length: size }, (_, line) => el("tr", {}, cells.slice(line * size, (line + 1) * size)));
  const sum = valueAt(output, row, column), text = [`Row ${row}, column ${column}: the sum is ${shown(sum)}`];
  if (state.relu) text.push(`after ReLU ${shown(Math.max(sum, 0))}`);
  if (results.pooled) {
    const y = Math.floor(row / state.poolSize), x = Math.floor(column / state.poolSize);
    if (y < results.pooled.height && x < results.pooled.width) {
      const values = windowOf(results.rectified, y, x).map(shown).join(", ");
      const word = state.pool === "max" ? "largest" : "mean";
      text.push(`the ${word} of ${values} is ${shown(valueAt(results.pooled, y, x))}`);
    }
  }
  parts.sum.replaceChildren(el("p", {}, text.join("; ")), el("div", { class: "scroll" }, el("table", { class: "products" }, lines)));
}

const results = {};

function draw() {
  paint(parts.before, IMAGE);
  parts.pooledBox.hidden = !results.pooled;
  if (!results.convolved) {
    parts.sum.replaceChildren();
    parts.after.width = parts.after.height = 1;
    return;
  }
  paint(parts.after, results.rectified);
  if (results.pooled) paint(parts.pooled, results.pooled);
  const { row, column } = state.at;
  outline(parts.before, productsAt(IMAGE, row, column).map((one) => [one.y, one.x]));
  outline(parts.after, [[row, column]]);
  if (results.pooled) outline(parts.pooled, [[Math.floor(row / state.poolSize), Math.floor(column / state.poolSize)]]);
  showSum(IMAGE);
}

function compute() {
  results.convolved = convolved(IMAGE);
  results.rectified = results.convolved && (state.relu ? rectified(results.convolved) : results.convolved);
  results.pooled = results.convolved && state.pool !== "none" ? pooled(results.rectified) : null;
  const lines = [arithmetic("width:", IMAGE.width), arithmetic("height:", IMAGE.height)];
  if (!results.convolved) lines.push("the kernel is larger than the image: nothing comes out");
  if (results.pooled) lines.push(`after pooling ${results.pooled.width} x ${results.pooled.height}`);
  parts.sizes.textContent = lines.join("; ");
  if (results.convolved) move(state.at ? state.at.row : Math.floor(results.convolved.height / 2),
    state.at ? state.at.column : Math.floor(results.convolved.width / 2));
  else draw();
}

function move(row, column) {
  const { height, width } = results.convolved;
  state.at = { row: Math.min(Math.max(row, 0), height - 1), column: Math.min(Math.max(column, 0), width - 1) };
  draw();
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
parts.after.addEventListener("keydown", (event) => {
  if (!ARROWS[event.key] || !results.convolved) return;
  event.preventDefault();
  move(state.at.row + ARROWS[event.key][0], state.at.column + ARROWS[event.key][1]);
});
parts.after.addEventListener("pointermove", (event) => {
  if (!results.convolved) return;
  const box = parts.after.getBoundingClientRect();
  move(Math.floor((event.clientY - box.top) / box.height * results.convolved.height),
    Math.floor((event.clientX - box.left) / box.width * results.convolved.width));
});

function field(name, control) {
  return el("label", {}, `${name} `, control);
}

function options(name, values, change) {
  return field(name, el("select", { change: (event) => { change(event.target.value); compute(); } },
    values.map((value) => el("option", { value }, String(value)))));
}

function tick(name, change) {
  return field(name, el("input", { type: "checkbox", change: (event) => { change(event.target.checked); compute(); } }));
}

const numbers = (first, last) => Array.from({ length: last - first + 1 }, (_, place) => first + place);
const size = el("select", { change: (event) => {
  state.rows = resized(state.rows, Number(event.target.value));
  choice.value = "own numbers";
  showGrid();
  compute();
} }, numbers(1, LARGEST).map((value) => el("option", { value }, `${value} x ${value}`)));
const choice = el("select", { change: (event) => {
  const chosen = DATA.kernels.find((kernel) => kernel.name === event.target.value);
  if (!chosen) return;
  state.rows = chosen.rows;
  size.value = chosen.rows.length;
  showGrid();
  compute();
} }, [...DATA.kernels.map((kernel) => kernel.name), "own numbers"].map((name) => el("option", { value: name }, name)));
size.value = state.rows.length;
parts.pooledBox = view("after pooling", parts.pooled);
document.getElementById("page").replaceChildren(
  el("h1", {}, "Kernels"), el("p", { class: "soft" }, `${DATA.told}. Point at a pixel on the right, or move with the arrow keys.`),
  el("nav", {}, themeButton()),
  el("div", { class: "controls" }, field("kernel", choice), field("size", size),
    options("stride", numbers(1, 4), (value) => { state.stride = Number(value); }),
    options("padding", numbers(0, 6), (value) => { state.padding = Number(value); }),
    options("dilation", numbers(1, 4), (value) => { state.dilation = Number(value); }),
    tick("ReLU", (value) => { state.relu = value; }),
    options("pooling", ["none", "max", "average"], (value) => { state.pool = value; }),
    options("pooling size", numbers(2, 4), (value) => { state.poolSize = Number(value); }),
    tick("from darkest to brightest", (value) => { state.stretched = value; })),
  parts.grid, parts.sizes,
  el("div", { class: "maps" }, view("the image", parts.before), view("after the kernel", parts.after), parts.pooledBox),
  parts.sum);
showGrid();
compute();
