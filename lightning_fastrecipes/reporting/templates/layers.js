// An image walks through a network. A map is {height, width, values, low, high}.
const LEVELS = 65535;

function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.values), (sign) => sign.charCodeAt(0));
  const view = new DataView(bytes.buffer), unit = (packed.high - packed.low) / LEVELS;
  const values = Array.from({ length: bytes.length / 2 }, (_, place) => packed.low + unit * view.getUint16(2 * place, true));
  return { ...packed, values };
}

const largest = (packed) => Math.max(Math.abs(packed.low), Math.abs(packed.high));
const valueAt = (map, row, column) => map.values[row * map.width + column];

// Zero is black, what is above orange, what is below blue.
function hue(share) {
  const size = Math.min(1, Math.abs(share)), root = Math.sqrt(size);
  return share > 0 ? [255 * root, 190 * size, 90 * size * size] : [90 * size * size, 150 * size, 255 * root];
}

function paint(canvas, map, colours) {
  canvas.width = map.width;
  canvas.height = map.height;
  const context = canvas.getContext("2d"), pixels = context.createImageData(map.width, map.height);
  for (let place = 0; place < map.width * map.height; place++) pixels.data.set([...colours(place), 255], 4 * place);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

const paintMap = (canvas, map, scale) => paint(canvas, map, (place) => hue(scale ? map.values[place] / scale : 0));

// A layer of numbers has one place a channel, which is seen beside the layer's largest.
function scaleFor(step, packed) {
  const isOne = step.shape[1] === 1 && step.shape[2] === 1;
  return isOne ? Math.max(...step.channels.map((channel) => largest(channel.map))) : largest(packed);
}

function outline(canvas, squares) {
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(120 255 120 / 65%)";
  for (const [row, column] of squares) context.fillRect(column, row, 1, 1);
}

function photo(place) {
  const image = DATA.images[place];
  return el("img", { src: `data:image/jpeg;base64,${image.thumb}`, alt: image.name, title: image.name });
}

function exciting(channel) {
  return el("div", { class: "gallery" }, channel.best.map(([place, value]) => el("figure", {},
    el("span", { class: "picture" }, photo(place)),
    el("figcaption", {}, shown(value), el("br", {}), el("span", { class: "soft" }, DATA.images[place].truth)))));
}

// The places of the input that one place of a pooling is the largest of.
function windowAt(step, map, row, column) {
  const { size, stride, padding, dilation } = step.window, found = [];
  for (let down = 0; down < size[0]; down++) {
    for (let along = 0; along < size[1]; along++) {
      const y = row * stride[0] - padding[0] + down * dilation[0], x = column * stride[1] - padding[1] + along * dilation[1];
      if (y >= 0 && x >= 0 && y < map.height && x < map.width) found.push([y, x]);
    }
  }
  return found;
}

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

class Viewer {
  constructor(step, channel) {
    Object.assign(this, { step, channel, map: unpack(channel.map), taken: channel.taken && unpack(channel.taken) });
    this.scale = scaleFor(step, channel.map);
    const peak = this.map.values.indexOf(this.map.values.reduce((a, b) => Math.max(a, b)));
    this.at = { row: Math.floor(peak / this.map.width), column: peak % this.map.width };
    this.canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": "values of the channel; arrow keys move",
      keydown: (event) => this.press(event), pointermove: (event) => this.point(event) });
    this.before = this.taken ? el("canvas", { role: "img", "aria-label": "what the pooling takes" }) : null;
    this.told = el("p", { "aria-live": "polite" });
    this.draw();
  }
  press(event) {
    if (!ARROWS[event.key]) return;
    event.preventDefault();
    this.move(this.at.row + ARROWS[event.key][0], this.at.column + ARROWS[event.key][1]);
  }
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    this.move(Math.floor((event.clientY - box.top) / box.height * this.map.height),
      Math.floor((event.clientX - box.left) / box.width * this.map.width));
  }
  move(row, column) {
    const clamp = (place, count) => Math.min(Math.max(place, 0), count - 1);
    this.at = { row: clamp(row, this.map.height), column: clamp(column, this.map.width) };
    this.draw();
  }
  draw() {
    const { row, column } = this.at, value = shown(valueAt(this.map, row, column));
    paintMap(this.canvas, this.map, this.scale);
    outline(this.canvas, [[row, column]]);
    let text = `Row ${row}, column ${column}: ${value}`;
    if (this.taken) {
      const places = windowAt(this.step, this.taken, row, column);
      paintMap(this.before, this.taken, largest(this.taken));
      outline(this.before, places);
      text += `, the largest of ${places.map(([y, x]) => shown(valueAt(this.taken, y, x))).join(", ")}`;
    }
    this.told.textContent = `${text}.`;
  }
}

const titleOf = (step, number) => `${number + 1}. ${step.name}`;

function openChannel(place, row) {
  const step = DATA.steps[place], dialog = el("dialog", { class: "wide", close: () => dialog.remove() });
  function fill(row) {
    const channel = step.channels[row], viewer = new Viewer(step, channel);
    const next = (text, to) => el("button", { disabled: !step.channels[to], click: () => fill(to) }, text);
    const view = (title, canvas) => canvas && el("figure", { class: "pixels" }, el("figcaption", {}, title), canvas);
    dialog.replaceChildren(
      el("h3", {}, `${titleOf(step, place)}: channel ${channel.number}`),
      el("div", { class: "controls" }, next("Stronger", row - 1), next("Weaker", row + 1),
        el("button", { click: () => dialog.close() }, "Close")),
      viewer.told,
      el("div", { class: "maps" }, view("what it takes", viewer.before), view("what it gives", viewer.canvas)),
      channel.best.length ? el("h3", {}, "Training images that excite it most") : el("span", {}), exciting(channel));
  }
  fill(row);
  document.body.append(dialog);
  dialog.showModal();
}

function tile(place, row) {
  const step = DATA.steps[place], channel = step.channels[row], map = unpack(channel.map);
  return el("figure", {}, el("button", { class: "picture", "aria-label": `${step.name}, channel ${channel.number}`,
    click: () => openChannel(place, row) }, paintMap(el("canvas", {}), map, scaleFor(step, channel.map))),
  el("figcaption", { class: "soft" }, `${channel.number}: ${shown(channel.peak)}`));
}

function drawStep(step, place) {
  const [channels, height, width] = step.shape, isOne = height === 1 && width === 1;
  const words = [`${step.kind}, ${shown(channels)} ${isOne ? "numbers" : `channels of ${height} x ${width}`}`];
  if (step.channels.length < channels) words.push(`the ${step.channels.length} strongest`);
  if (step.factor > 1) words.push(`a pixel is the mean of ${step.factor} x ${step.factor}`);
  if (step.window) words.push("open one of the first to see which pixels each is the largest of");
  return el("section", { id: `step${place}` }, el("h3", {}, titleOf(step, place)), el("p", { class: "soft" }, `${words.join("; ")}.`),
    el("div", { class: "tiles" }, step.channels.map((_, row) => tile(place, row))));
}

function filterCanvas(packed, scale) {
  const map = unpack(packed), canvas = el("canvas", {});
  if (!DATA.filters.colour) return paintMap(canvas, map, scale);
  const height = map.height / 3, size = height * map.width;
  const level = (value) => scale ? 127.5 * (1 + value / scale) : 127.5;
  return paint(canvas, { height, width: map.width }, (place) => [0, 1, 2].map((channel) => level(map.values[channel * size + place])));
}

function filterTile(item) {
  const scale = Math.max(largest(item.after), item.before ? largest(item.before) : 0);
  const change = item.change === null ? "" : `, changed by ${shown(Number((100 * item.change).toPrecision(2)))} %`;
  return el("figure", {}, el("span", { class: item.before ? "picture pair" : "picture", role: "img", "aria-label": `filter ${item.number}${change}` },
    item.before ? filterCanvas(item.before, scale) : null, filterCanvas(item.after, scale)),
  el("figcaption", { class: "soft" }, `${item.number}${change}`));
}

function drawFilters(filters) {
  const items = filters.items || [];
  const isPair = items.length && items[0].before;
  return el("section", {}, el("h2", { id: "filters" }, "Filters of the first layer"),
    filters.told.map((line) => el("p", {}, prose(line))),
    items.length ? el("p", { class: "soft" }, isPair ? "Left before, right after training; those that changed most first." : "After training.") : null,
    el("div", { class: isPair ? "tiles pairs" : "tiles" }, items.map(filterTile)));
}

const jump = el("select", { "aria-label": "Go to a layer", change: (event) => {
  document.getElementById(`step${event.target.selectedIndex}`).scrollIntoView();
} }, DATA.steps.map((step, place) => el("option", {}, titleOf(step, place))));
const sections = [["decision", "Decision"], ["walk", "Layers"], ["filters", "Filters"]];
document.getElementById("page").replaceChildren(
  el("h1", {}, "Layers"), el("p", { class: "soft" }, DATA.told),
  el("nav", {}, sections.map(([id, title]) => el("a", { href: `#${id}` }, title)), themeButton()),
  ...DATA.notes.map((note) => el("p", { class: "soft" }, note)),
  el("section", {}, el("h2", { id: "decision" }, "Decision"),
    el("div", { class: "beside" }, el("img", { class: "served", src: `data:image/jpeg;base64,${DATA.image.thumb}`, alt: DATA.image.name }),
      DATA.decision ? drawTable(DATA.decision) : null),
    DATA.shifts ? el("div", { class: "plots" }, drawPlot(DATA.shifts)) : null),
  el("section", {}, el("h2", { id: "walk" }, "Layers, from the image to the outputs"),
    el("p", {}, "Black is zero, orange above, blue below, each map by its own largest number. Under a map: its channel and largest value, by which"
      + ` channels are chosen, at most ${DATA.most} a layer. Open one to see its numbers and the training images that excite it most.`),
    el("div", { class: "controls" }, el("label", {}, "layer ", jump)),
    DATA.steps.map(drawStep)),
  drawFilters(DATA.filters));
