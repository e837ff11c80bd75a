// Gradient descent on the mean squared error, of a line and of a small network.
const BATCHES = [1, 4, 16, DATA.x.length];
const SHOWN_LOSSES = 400;

// A linear congruential generator with the numbers of Numerical Recipes: the same at every visit.
function drawer(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function normal(draw) {
  return Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
}

// Batches of places, every place once an epoch, in an order that is drawn.
class Batches {
  constructor(size, seed) { this.size = size; this.draw = drawer(seed); this.left = []; }
  next() {
    if (this.left.length < this.size) {
      this.left = DATA.x.map((_, place) => place);
      for (let last = this.left.length - 1; last > 0; last--) {
        const other = Math.floor(this.draw() * (last + 1));
        [this.left[last], this.left[other]] = [this.left[other], this.left[last]];
      }
    }
    return this.left.splice(0, this.size);
  }
}

const meanOver = (places, value) => places.reduce((sum, place) => sum + value(place), 0) / places.length;
const everywhere = DATA.x.map((_, place) => place);

class Line {
  constructor() { this.a = -1; this.b = 0; }
  predict(x) { return this.a * x + this.b; }
  gradients(places) {
    const error = (place) => this.predict(DATA.x[place]) - DATA.line[place];
    return { a: meanOver(places, (place) => 2 * error(place) * DATA.x[place]), b: meanOver(places, (place) => 2 * error(place)) };
  }
  step(places, lr) {
    this.slope = this.gradients(places);
    this.a -= lr * this.slope.a;
    this.b -= lr * this.slope.b;
  }
  loss() { return meanOver(everywhere, (place) => (this.predict(DATA.x[place]) - DATA.line[place]) ** 2); }
  told() {
    const slope = this.slope ? `; slopes of the last batch: ${shown(this.slope.a)} along a, ${shown(this.slope.b)} along b` : "";
    return `y = ${shown(this.a)} x + ${shown(this.b)}${slope}`;
  }
}

// Layers are {weights: rows of inputs for each output, biases}; ReLU stands between them, or nothing.
class Network {
  constructor(width, depth, relu, seed) {
    const draw = drawer(seed), sizes = [1, ...Array(depth).fill(width), 1];
    this.relu = relu;
    this.layers = sizes.slice(1).map((outputs, place) => ({
      weights: Array.from({ length: outputs }, () => Array.from({ length: sizes[place] },
        () => normal(draw) * Math.sqrt((relu && place < depth ? 2 : 1) / sizes[place]))),
      // Bends that lie apart, since one weight alone cannot move a bend that starts at 0.
      biases: Array.from({ length: outputs }, () => (place < depth ? normal(draw) : 0)),
    }));
  }
  forward(x) {
    const values = [[x]];
    this.layers.forEach((layer, place) => {
      const before = values[place], isLast = place === this.layers.length - 1;
      values.push(layer.weights.map((row, output) => {
        const sum = row.reduce((total, weight, input) => total + weight * before[input], layer.biases[output]);
        return this.relu && !isLast ? Math.max(sum, 0) : sum;
      }));
    });
    return values;
  }
  predict(x) { return this.forward(x).at(-1)[0]; }
  step(places, lr) {
    const sums = this.layers.map((layer) => ({
      weights: layer.weights.map((row) => row.map(() => 0)), biases: layer.biases.map(() => 0),
    }));
    for (const place of places) {
      const values = this.forward(DATA.x[place]);
      let slopes = [2 * (values.at(-1)[0] - DATA.curve[place]) / places.length];
      for (let depth = this.layers.length - 1; depth >= 0; depth--) {
        const layer = this.layers[depth], before = values[depth];
        slopes.forEach((slope, output) => {
          sums[depth].biases[output] += slope;
          before.forEach((value, input) => { sums[depth].weights[output][input] += slope * value; });
        });
        slopes = before.map((value, input) => {
          const slope = slopes.reduce((total, one, output) => total + one * layer.weights[output][input], 0);
          return depth > 0 && this.relu && value <= 0 ? 0 : slope;
        });
      }
    }
    this.layers.forEach((layer, depth) => {
      layer.weights.forEach((row, output) => row.forEach((_, input) => { row[input] -= lr * sums[depth].weights[output][input]; }));
      layer.biases.forEach((_, output) => { layer.biases[output] -= lr * sums[depth].biases[output]; });
    });
  }
  loss() { return meanOver(everywhere, (place) => (this.predict(DATA.x[place]) - DATA.curve[place]) ** 2); }
  told() {
    const count = this.layers.reduce((sum, layer) => sum + layer.biases.length * (1 + layer.weights[0].length), 0);
    return `${count} parameters, ${this.relu ? "with ReLU" : "linear layers alone: together they are a line"}`;
  }
}

const WIDTH = 460, HEIGHT = 280, EDGE = 34;

function scaler(low, high, from, to) {
  return (value) => from + (value - low) / (high - low || 1) * (to - from);
}

function pathOf(points) {
  return points.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function drawFit(targets, model) {
  const low = Math.min(...targets) - 0.5, high = Math.max(...targets) + 0.5;
  const x = scaler(-2, 2, EDGE, WIDTH - 8), y = scaler(low, high, HEIGHT - 24, 8);
  const dots = DATA.x.map((value, place) => svg("circle", { cx: x(value), cy: y(targets[place]), r: 3, fill: colour(0) }));
  const points = Array.from({ length: 201 }, (_, place) => -2 + place / 50)
    .map((value) => [x(value), y(Math.min(Math.max(model.predict(value), low), high))]);
  const curve = points.every(([, at]) => Number.isFinite(at)) ? pathOf(points) : "";
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "points, and what is fitted" },
    dots, svg("path", { d: curve, stroke: colour(1), "stroke-width": 3, fill: "none" }),
    svg("text", { x: EDGE, y: HEIGHT - 6 }, "x from -2 to 2"));
}

function drawLosses(losses) {
  const every = Math.ceil(losses.length / SHOWN_LOSSES);
  const logs = losses.filter((_, place) => place % every === 0).map((loss) => Math.log10(Math.max(loss, 1e-6)));
  const top = Math.min(Math.max(...logs), 6), bottom = Math.min(...logs, top - 0.5), left = 64;
  const x = scaler(0, Math.max(logs.length - 1, 1), left, WIDTH - 8), y = scaler(bottom, top, HEIGHT - 30, 14);
  const points = logs.map((value, place) => [x(place), y(Math.min(value, top))]);
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "the loss at each step" },
    svg("path", { d: pathOf(points), stroke: colour(0), "stroke-width": 2, fill: "none" }),
    svg("text", { x: 6, y: 18 }, shown(Number((10 ** top).toPrecision(3)))),
    svg("text", { x: 6, y: HEIGHT - 28 }, shown(Number((10 ** bottom).toPrecision(3)))),
    svg("text", { x: left, y: HEIGHT - 8 }, `loss at all points, steps 0 to ${losses.length - 1}`));
}

class Part {
  constructor(title, text, targets, build, rates, controls) {
    Object.assign(this, { targets, build, batch: DATA.x.length, lr: rates[1][1], timer: null });
    this.plots = el("div", { class: "plots" });
    this.told = el("p", { "aria-live": "polite" });
    this.runs = el("button", { click: () => this.toggle() }, "Run");
    const rate = el("select", { change: (event) => { this.lr = Number(event.target.value); } },
      rates.map(([name, lr]) => el("option", { value: lr, selected: lr === this.lr }, `${lr} (${name})`)));
    const batch = el("select", { change: (event) => { this.batch = Number(event.target.value); this.reset(); } },
      BATCHES.map((size) => el("option", { value: size, selected: size === this.batch },
        size === DATA.x.length ? `${size}, all points` : String(size))));
    this.section = el("section", {}, el("h2", {}, title), el("p", {}, text),
      el("div", { class: "controls" }, el("label", {}, "rate ", rate), el("label", {}, "batch ", batch), controls.map((one) => one(this)),
        el("button", { click: () => this.advance(1) }, "One step"), el("button", { click: () => this.advance(100) }, "100 steps"),
        this.runs, el("button", { click: () => this.reset() }, "From the start")),
      this.told, this.plots);
    this.reset();
  }
  reset() {
    this.stop();
    this.model = this.build(this);
    this.batches = new Batches(this.batch, DATA.seed);
    this.losses = [this.model.loss()];
    this.draw();
  }
  advance(steps) {
    for (let step = 0; step < steps; step++) {
      if (!Number.isFinite(this.losses.at(-1)) || this.losses.at(-1) > 1e6) { this.stop(); break; }
      this.model.step(this.batches.next(), this.lr);
      this.losses.push(this.model.loss());
    }
    this.draw();
  }
  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.runs.textContent = "Run";
  }
  toggle() {
    if (this.timer) { this.stop(); return; }
    this.runs.textContent = "Stop";
    this.timer = setInterval(() => this.advance(1), 60);
  }
  draw() {
    const loss = this.losses.at(-1), isLost = !Number.isFinite(loss) || loss > 1e6;
    const word = isLost ? "; the rate is too high: every step overshoots, and the loss explodes. Start again with a lower one" : "";
    this.told.textContent = `Step ${this.losses.length - 1}: loss ${shown(loss)}; ${this.model.told()}${word}.`;
    this.told.className = isLost ? "warning" : "";
    this.plots.replaceChildren(drawFit(this.targets, this.model), drawLosses(this.losses));
  }
}

function choose(name, key, values, start) {
  return (part) => {
    part[key] = start;
    return el("label", {}, `${name} `, el("select", { change: (event) => {
      part[key] = event.target.value === String(Number(event.target.value)) ? Number(event.target.value) : event.target.value;
      part.reset();
    } }, values.map((value) => el("option", { value, selected: value === start }, String(value)))));
  };
}

const line = new Part("A line, by gradient descent",
  "The slopes of the error along a and b say which way is down; each step goes a rate times as far. Full batches go straight,"
  + " mini-batches zigzag, yet learn as much from far fewer points.",
  DATA.line, () => new Line(), [["too low", 0.002], ["it fits", 0.1], ["nearly too high", 0.5], ["too high", 1]], []);
const curve = new Part("A curve, by a network",
  "Layers without an activation are one line, however many they are. With ReLU every hidden number can bend the line once;"
  + " width and depth say how often.",
  DATA.curve, (part) => new Network(part.width, part.depth, part.activation === "ReLU", DATA.seed + 1),
  [["low", 0.005], ["it fits", 0.03], ["high", 0.2], ["too high", 1]],
  [choose("activation", "activation", ["none", "ReLU"], "none"), choose("width", "width", [1, 2, 4, 8, 16, 32], 16),
    choose("depth", "depth", [1, 2, 3], 1)]);
document.getElementById("page").replaceChildren(el("h1", {}, "Fitting"), el("nav", {}, themeButton()), line.section, curve.section);
