"use strict";
const PER_PAGE = 24;

function heatOver(heat) {
  const bytes = Uint8Array.from(atob(heat.values), (sign) => sign.charCodeAt(0));
  const canvas = el("canvas", { width: heat.side, height: bytes.length / heat.side, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  bytes.forEach((value, place) => {
    pixels.data.set([255, Math.round(value * 0.8), 0, Math.round(value * 0.62)], 4 * place);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function picture(image, withHeat) {
  const source = image.thumb ? `data:image/jpeg;base64,${image.thumb}` : null;
  const parts = source
    ? [el("img", { src: source, alt: image.name })]
    : [el("span", { class: "none" }, "no image")];
  if (withHeat && image.heat) parts.push(heatOver(image.heat));
  return parts;
}

function caption(image) {
  const sure = image.sure === null || image.sure === undefined ? "" : ` ${(100 * image.sure).toFixed(1)} %`;
  return [
    el("span", { class: image.right ? "right" : "wrong" }, `${image.prediction || "nothing"}${sure}`),
    el("br", {}),
    el("span", { class: "soft" }, `true: ${image.truth || "nothing"}`),
  ];
}

function openImage(place) {
  const image = DATA.images[place];
  const box = el("div", { class: "picture" }, picture(image, false));
  const toggle = el("button", { click: () => {
    toggle.classList.toggle("on");
    box.replaceChildren(...picture(image, toggle.classList.contains("on")));
  } }, "What it looked at");
  const dialog = el("dialog", { close: () => dialog.remove() }, box,
    el("p", {}, caption(image)), el("p", { class: "soft" }, `${image.name} (${image.split} split)`),
    el("div", { class: "controls" }, image.heat ? toggle : null,
      el("button", { click: () => dialog.close() }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
}

function tile(place, withHeat) {
  const image = DATA.images[place];
  return el("figure", {},
    el("button", { class: "picture", title: image.name, click: () => openImage(place) }, picture(image, withHeat)),
    el("figcaption", {}, caption(image)));
}

function pagedTiles(places, withHeat) {
  const grid = el("div", { class: "gallery" });
  let count = 0;
  const more = el("button", { class: "more", click: () => add(PER_PAGE) }, "Show more");
  function add(number) {
    for (const place of places.slice(count, count + number)) grid.append(tile(place, withHeat));
    count = Math.min(places.length, count + number);
    more.hidden = count >= places.length;
  }
  add(PER_PAGE / 2);
  return [grid, more];
}

function drawGallery(block) {
  const truths = [...new Set(block.images.map((place) => DATA.images[place].truth))].sort();
  const holder = el("div", {});
  const hasHeat = block.images.some((place) => DATA.images[place].heat);
  let chosen = null;
  let withHeat = false;
  function fill() {
    const places = block.images.filter((place) => chosen === null || DATA.images[place].truth === chosen);
    holder.replaceChildren(...pagedTiles(places, withHeat));
  }
  const choice = el("select", { "aria-label": "True class", change: (event) => {
    const index = event.target.selectedIndex;
    chosen = index ? truths[index - 1] : null;
    fill();
  } }, el("option", {}, "all"), truths.map((name) => el("option", {}, name || "nothing")));
  const heat = el("button", { click: () => {
    withHeat = !withHeat;
    heat.classList.toggle("on", withHeat);
    fill();
  } }, "What it looked at");
  fill();
  const isNames = truths.length > 1 && truths.length <= 400;
  return el("div", {}, el("h3", {}, `${block.title} (${block.images.length})`),
    el("div", { class: "controls" }, isNames ? ["true: ", choice] : null, hasHeat ? heat : null), holder);
}

function drawConfusion(block) {
  const holder = el("div", {});
  const open = (row, column) => {
    const [truth, taken] = [block.classes[row], block.classes[column]];
    const places = DATA.images.flatMap((image, place) =>
      image.split === block.split && image.truth === truth && image.prediction === taken ? [place] : []);
    const total = block.counts[row][column];
    holder.replaceChildren(el("h3", {}, `true ${truth}, predicted ${taken}: ${shown(total)}` +
      (places.length < total ? `, ${places.length} of them shown` : "")), ...pagedTiles(places, false));
  };
  const tall = block.classes.length > 6;
  const head = el("tr", {}, el("th", {}, block.plain ? "" : "true \\ predicted"), block.classes.map((name) =>
    el("th", { class: tall ? "tall" : null }, el("span", {}, name))));
  const rows = block.counts.map((cells, row) => {
    const total = block.plain ? cells[row] : cells.reduce((sum, cell) => sum + cell, 0);
    return el("tr", {}, el("th", {}, block.classes[row]), cells.map((cell, column) => {
      const share = total ? cell / total : 0;
      const style = `background: rgba(var(--heat), ${(0.75 * Math.sqrt(share)).toFixed(3)})`;
      const name = `${block.classes[row]}, ${block.classes[column]}: ${cell}`;
      return el("td", { style }, block.plain ? el("span", { title: name }, shown(cell))
        : el("button", { "aria-label": name, title: name, click: () => open(row, column) }, shown(cell)));
    }));
  });
  return el("div", {}, el("h3", {}, block.title), block.note ? el("p", { class: "soft" }, block.note) : null,
    el("div", { class: "scroll" }, el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, rows))), holder);
}

function drawMap(block) {
  const truths = [...new Set(block.points.map(([place]) => DATA.images[place].truth))].sort();
  const known = truths.length <= NUM_COLOURS ? truths : [];
  const tip = el("div", { class: "tip", hidden: true });
  const size = 640;
  const drawing = svg("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "Map of the features" });
  const holder = el("div", { class: "map" }, drawing, tip);
  const dots = block.points.map(([place, x, y]) => {
    const image = DATA.images[place];
    const dot = svg("circle", {
      cx: 14 + x * (size - 28), cy: 14 + y * (size - 28), r: 5, "fill-opacity": 0.75,
      fill: known.length ? colour(known.indexOf(image.truth)) : "var(--accent)",
      stroke: image.right ? "none" : "var(--bad)", "stroke-width": 2.5, "data-place": place,
    });
    drawing.append(dot);
    return dot;
  });
  const show = (event) => {
    const place = event.target.getAttribute("data-place");
    tip.hidden = place === null;
    if (place === null) return;
    const image = DATA.images[place];
    const box = holder.getBoundingClientRect();
    tip.replaceChildren(...picture(image, false), el("div", {}, caption(image)));
    tip.style.left = `${Math.max(0, Math.min(event.clientX - box.left + 14, box.width - 160))}px`;
    tip.style.top = `${event.clientY - box.top + 14}px`;
  };
  drawing.addEventListener("pointermove", show);
  drawing.addEventListener("pointerleave", () => { tip.hidden = true; });
  drawing.addEventListener("click", (event) => {
    const place = event.target.getAttribute("data-place");
    if (place !== null) openImage(Number(place));
  });
  let only = null;
  const legend = el("div", { class: "legend" }, known.map((name, number) => el("button", { click: () => {
    only = only === name ? null : name;
    block.points.forEach(([place], index) => {
      dots[index].setAttribute("opacity", only === null || DATA.images[place].truth === only ? 1 : 0.08);
    });
  } }, el("i", { style: `background:${colour(number)}` }), name || "nothing")));
  return el("div", {}, legend, holder);
}

const DRAW = {
  text: (block) => el("p", { class: block.kind === "warning" ? "warning" : "soft" }, prose(block.text)),
  code: (block) => el("details", {}, el("summary", {}, block.title), el("pre", {}, block.text)),
  list: (block) => el("ol", { class: "next" }, block.items.map((item) =>
    el("li", {}, el("strong", {}, item.title), el("br", {}), prose(item.text)))),
  table: drawTable,
  plot: drawPlot,
  gallery: drawGallery,
  confusion: drawConfusion,
  map: drawMap,
  review: drawReview,
};

function drawSection(section) {
  const parts = [el("h2", { id: section.name }, section.title)];
  let plots = null;
  for (const block of section.blocks) {
    if (block.type !== "plot") plots = null;
    else if (!plots) parts.push(plots = el("div", { class: "plots" }));
    (block.type === "plot" ? plots : parts)[block.type === "plot" ? "append" : "push"](DRAW[block.type](block));
  }
  return el("section", {}, parts);
}

window.addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
document.getElementById("page").replaceChildren(
  el("h1", {}, DATA.title), el("p", { class: "soft" }, DATA.subtitle),
  el("nav", {}, DATA.sections.map((section) => el("a", { href: `#${section.name}` }, section.title)), themeButton()),
  ...DATA.sections.map(drawSection));
