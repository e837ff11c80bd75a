"use strict";
const CASES_PER_PAGE = 12;
const MOST_BUTTONS = 9;

function csvCell(value) {
  const text = String(value);
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Which labels may be chosen for a case: all if they are few, else those that come into question.
function choicesOf(block, item) {
  if (block.classes.length <= MOST_BUTTONS) return block.classes;
  return [...new Set([...item.suggested, ...item.given, ...item.likely])].slice(0, MOST_BUTTONS);
}

function reviewCsv(block, decided) {
  const rows = [["file", "split", "given", "action", "label"]];
  const join = (labels) => labels.join(block.joiner);
  block.items.forEach((item, place) => {
    const one = decided.get(place);
    if (!one) return;
    const label = one.action === "relabel" ? join(one.labels) : "";
    rows.push([item.file, item.split, join(item.given), one.action, label]);
  });
  return rows.map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function saveFile(name, content) {
  const address = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// What was decided before the page was closed, where the browser keeps such things.
function restore(key) {
  try {
    return new Map(JSON.parse(localStorage.getItem(key) || "[]"));
  } catch {
    return new Map();
  }
}

function keep(key, decided) {
  try {
    localStorage.setItem(key, JSON.stringify([...decided]));
  } catch { /* a page from a file may have no storage */ }
}

function drawReview(block) {
  const decided = restore(block.key);
  const numPages = Math.max(1, Math.ceil(block.items.length / CASES_PER_PAGE));
  let current = 0;
  const grid = el("div", { class: "review" });
  const status = el("span", { role: "status" });
  const pageOf = (place) => Math.floor(place / CASES_PER_PAGE);

  function decide(place, decision) {
    if (decision === null) decided.delete(place);
    else decided.set(place, decision);
    keep(block.key, decided);
    draw();
  }
  function choose(place, label) {
    const item = block.items[place];
    if (!block.several) {
      decide(place, { action: label === item.given[0] ? "keep" : "relabel", labels: [label] });
      return;
    }
    const before = decided.get(place);
    const labels = new Set(before && before.labels ? before.labels : item.given);
    if (!labels.delete(label)) labels.add(label);
    const sorted = block.classes.filter((name) => labels.has(name));
    const isGiven = sorted.length === item.given.length && sorted.every((name) => item.given.includes(name));
    decide(place, { action: isGiven ? "keep" : "relabel", labels: sorted });
  }
  function accept(place) {
    const item = block.items[place];
    if (item.remove) decide(place, { action: "remove" });
    else decide(place, { action: "relabel", labels: item.suggested });
  }
  const acts = {
    accept, keep: (place) => decide(place, { action: "keep", labels: block.items[place].given }),
    unsure: (place) => decide(place, { action: "unsure" }),
    remove: (place) => decide(place, { action: "remove" }),
    clear: (place) => decide(place, null),
  };
  function go(place) {
    current = Math.max(0, Math.min(block.items.length - 1, place));
    draw();
    const shownCase = grid.querySelector(".current");
    if (shownCase) shownCase.scrollIntoView({ block: "nearest" });
  }
  const turn = (pages) => go((pageOf(current) + pages) * CASES_PER_PAGE);

  function button(place, name, text, isOn) {
    return el("button", { class: isOn ? "on" : null, "data-act": name, click: (event) => {
      event.stopPropagation();
      current = place;
      acts[name](place);
    } }, text);
  }
  function drawCase(place) {
    const item = block.items[place];
    const one = decided.get(place);
    const labels = one && one.labels ? one.labels : one ? [] : item.given;
    const images = [item.image, item.beside].filter((image) => image !== null && image !== undefined);
    const choices = item.remove ? [] : choicesOf(block, item).map((name, number) =>
      el("button", { class: labels.includes(name) && one ? "on" : null, "data-label": name, click: (event) => {
        event.stopPropagation();
        current = place;
        choose(place, name);
      } }, `${number + 1} ${name}`));
    const others = item.remove || block.classes.length <= MOST_BUTTONS ? null : el("select", {
      "aria-label": "Another label", change: (event) => {
        current = place;
        const index = event.target.selectedIndex;
        if (index) choose(place, block.classes[index - 1]);
      } }, el("option", {}, "another ..."), block.classes.map((name) => el("option", {}, name)));
    return el("div", {
      class: `case${place === current ? " current" : ""}${one ? " done" : ""}`, "data-case": place,
      click: () => go(place),
    },
    el("div", {}, images.map((image) => el("button", {
      class: "picture", title: DATA.images[image].name, click: () => openImage(image),
    }, picture(DATA.images[image], false)))),
    el("div", {},
      el("div", {}, `given: ${item.given.join(", ") || "nothing"}`),
      el("div", { class: "soft" }, item.why),
      el("div", { class: "soft" }, `${item.file} (${item.split})`),
      el("div", { class: "choices" }, choices, others,
        button(place, "accept", item.remove ? "accept: remove" : `accept: ${item.suggested.join(", ") || "nothing"}`, false),
        button(place, "keep", "it is right", one && one.action === "keep"),
        button(place, "unsure", "not sure", one && one.action === "unsure"),
        button(place, "remove", "remove", one && one.action === "remove"),
        one ? button(place, "clear", "clear", false) : null)));
  }
  function draw() {
    const first = pageOf(current) * CASES_PER_PAGE;
    const places = block.items.map((_, place) => place).slice(first, first + CASES_PER_PAGE);
    grid.replaceChildren(...places.map(drawCase));
    status.textContent = `page ${pageOf(current) + 1} of ${numPages}; ${decided.size} of ${block.items.length} decided`;
  }
  const save = () => {
    saveFile("relabel.csv", reviewCsv(block, decided));
    status.textContent = `${decided.size} decisions saved as relabel.csv`;
  };
  const keys = {
    ArrowRight: () => go(current + 1), j: () => go(current + 1),
    ArrowLeft: () => go(current - 1), k: () => go(current - 1),
    n: () => turn(1), p: () => turn(-1),
    Enter: () => accept(current), o: () => acts.keep(current), u: () => acts.unsure(current),
    x: () => acts.remove(current), Backspace: () => acts.clear(current), s: save,
  };
  const holder = el("div", { tabindex: 0, class: "keys", "data-review": true, keydown: (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inside = event.target !== holder;
    if (inside && (event.target.tagName === "SELECT" || event.key === "Enter")) return;
    const item = block.items[current];
    const number = Number(event.key);
    const act = keys[event.key] || (number >= 1 && !item.remove && choicesOf(block, item)[number - 1] !== undefined
      ? () => choose(current, choicesOf(block, item)[number - 1]) : null);
    if (!act) return;
    event.preventDefault();
    act();
    holder.focus({ preventScroll: true });
  } }, el("div", { class: "controls" },
    el("button", { "data-act": "previous", click: () => turn(-1) }, "Previous page"),
    el("button", { "data-act": "next", click: () => turn(1) }, "Next page"),
    el("button", { "data-act": "save", click: save }, "Save relabel.csv"), status),
  grid);
  draw();
  const explained = [["\u2190 \u2192", "move"], ["1\u20139", "choose a label"], ["Enter", "accept"],
    ["o", "it is right"], ["u", "not sure"], ["x", "remove"], ["Backspace", "clear"], ["n p", "turn pages"], ["s", "save"]];
  return el("div", {}, el("h3", {}, `${block.title} (${block.items.length})`),
    el("p", { class: "soft controls" }, "Click here first, then by keyboard: ",
      explained.map(([key, what]) => el("span", {}, el("kbd", {}, key), ` ${what}`))),
    holder, el("p", { class: "soft" }, block.after));
}
