// The page that an explorer or a population saves. `maps`, `steps` and `crowd`, the scripts of the widgets, stand before this in
// the same script. Everything it shows comes from the JSON in the page; it asks for nothing.

const page = JSON.parse(document.getElementById("repsim-data").textContent);
const byName = (name) => document.querySelector(`.repsim-page-${name}`);
const closeups = [...document.querySelectorAll("[data-closeup]")];

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function standIn(state, chosen) {  // what the script of a widget asks of its model
  const heard = {};
  return {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; heard[`change:${name}`]?.(); },
    save_changes: () => chosen(state),
    on: (event, act) => { heard[event] = act; },
    off: () => {},
  };
}

function place(drawing, name, state, chosen) {
  const model = standIn(state, chosen);
  drawing.render({ model, el: byName(name).appendChild(make("div", "")) });
  return model;
}

// Over training `page.maps` holds the maps of the first step, then those of the second, and so on; `first` is the place of
// the first one that is shown.
const every = page.maps.length / (page.steps?.steps.length ?? 1);
let first = page.steps ? every * page.steps.steps.indexOf(page.steps.value) : 0;
const models = page.maps.slice(first, first + every).map(({ view }, index) =>
  place(maps, "maps", { view, selected: [] }, ({ selected }) => choose(first + index, ...selected)));

if (page.steps) place(steps, "steps", page.steps, (state) => {
  state.shown = state.value;
  first = every * state.steps.indexOf(state.value);
  models.forEach((model, index) => model.set("view", page.maps[first + index].view));
  models.forEach((model, index) => { if (model.get("selected").length) choose(first + index, ...model.get("selected")); });
});

function choose(index, row, column) {
  models.forEach((model, other) => {
    if (first + other !== index && model.get("selected").length) model.set("selected", []);
  });
  const { view, a, b, unseen } = page.maps[index];
  const found = closeups.filter((each) => each.dataset.closeup === `${index} ${row} ${column}`);
  closeups.forEach((each) => { each.hidden = !found.includes(each); });
  const [words, where] = [view.readouts[row][column], `Layer ${view.rows[row]} of ${a}, layer ${view.columns[column]} of ${b}: `];
  byName("pair").textContent = `${a}, layer ${view.rows[row]}, against ${b}, layer ${view.columns[column]}`;
  byName("value").textContent = `${view.scale.title}: ${words.startsWith(where) ? words.slice(where.length) : words}`;
  byName("unseen").textContent = found.length ? "" : unseen;
  byName("curve").replaceChildren(...curve(page.maps[index], row, column));
}

function shape(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function curve({ view, numbers, low, high, limits }, row, column) {
  const [left, right, top, bottom] = [46, 372, 30, 244];
  const x = (at) => left + (right - left) * (view.columns.length > 1 ? at / (view.columns.length - 1) : 0.5);
  const y = (value) => bottom - (bottom - top) * (value - limits[0]) / ((limits[1] - limits[0]) || 1);
  const about = `Layer ${view.rows[row]} of A against every layer of B; the line marks the selected one.`;
  const drawn = shape("svg", { viewBox: "0 0 390 292", role: "img", "aria-label": about });
  const line = (x1, y1, x2, y2, className) => drawn.append(shape("line", { x1, y1, x2, y2, class: className }));
  const write = (at, height, anchor, text) => drawn.append(
    shape("text", { x: at, y: height, "text-anchor": anchor, "font-size": 12 }, text));
  line(left, top, left, bottom, "repsim-page-axis");
  line(left, bottom, right, bottom, "repsim-page-axis");
  line(x(column), top, x(column), bottom, "repsim-page-marker");
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = limits[0] + share * (limits[1] - limits[0]);
    line(left - 4, y(value), left, y(value), "repsim-page-axis");
    write(left - 8, y(value) + 4, "end", String(Number(value.toPrecision(2))));
  }
  const apart = Math.ceil(view.columns.length / 13);
  view.columns.forEach((name, at) => { if (at % apart === 0) write(x(at), bottom + 18, "middle", name); });
  write((left + right) / 2, bottom + 40, "middle", "layer of B");
  write(8, 14, "start", view.scale.title);
  const points = numbers[row].map((value, at) => `${x(at)},${y(value)}`).join(" ");
  drawn.append(shape("polyline", { points, class: "repsim-page-line" }));
  numbers[row].forEach((value, at) => {
    if (low) line(x(at), y(low[row][at]), x(at), y(high[row][at]), "repsim-page-line");
    drawn.append(shape("circle", { cx: x(at), cy: y(value), r: at === column ? 5 : 3.5, class: "repsim-page-dot" }));
  });
  const holder = make("div", "repsim-picture");
  holder.append(drawn);
  return [make("h3", "repsim-h3", "Layer by layer"), holder, make("p", "repsim-note", about)];
}

if (page.selected.length) {
  const [index, ...cell] = page.selected;
  models[index - first].set("selected", cell);
  choose(index, ...cell);
}

if (page.population) {  // a pair is chosen on the map or in the matrix, which is ordered otherwise
  const { each, steps: over, pair } = page.population;  // `each` holds the views of every training step
  let now = each[over ? over.steps.indexOf(over.value) : 0];
  let two = pair;
  const onMap = now.crowd && place(crowd, "crowd", { view: now.crowd, chosen: [] }, ({ chosen }) =>
    show(chosen.map((at) => now.crowd.points[at].name), onMap));
  const inMatrix = place(maps, "matrix", { view: now.matrix, selected: [] }, ({ selected }) =>
    show(selected.map((at) => now.names[at]), inMatrix));
  const show = (names, from) => {
    two = names;
    const cell = two.map((name) => now.names.indexOf(name));
    const whole = two.length === 2, has = whole && !cell.includes(-1);
    const here = whole && pair.length && pair.every((name) => two.includes(name));
    if (from !== inMatrix) inMatrix.set("selected", has ? cell : []);
    if (from !== onMap) {
      onMap?.set("chosen", [...new Set(two)].map((name) => now.crowd.points.findIndex((point) => point.name === name)));
    }
    byName("two").textContent = !whole ? "Choose two models to compare them."
      : has ? now.matrix.readouts[cell[0]][cell[1]] : `${two.join(" and ")} are not both shown at this step.`;
    const layers = byName("layers");
    if (layers) layers.hidden = !here;
    byName("no-layers").textContent = !whole || here ? "" : pair.length
      ? `This page holds the layers of ${pair.join(" and ")} only.` : "This page holds no layers.";
  };
  show(pair);
  if (over) place(steps, "models-steps", over, (state) => {
    state.shown = state.value;
    now = each[state.steps.indexOf(state.value)];
    inMatrix.set("selected", []);
    inMatrix.set("view", now.matrix);
    onMap?.set("view", now.crowd);
    show(two);
  });
}
