// A map of models: points to point at, click, or walk through with the arrow keys. Everything it shows comes from
// Python as `view`; it sets `chosen`, at most two places in the list of points.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {  // around (0, 0), in units of the viewBox
  circle: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0", square: "M-4.5,-4.5h9v9h-9z", diamond: "M0,-6l6,6l-6,6l-6,-6z",
  up: "M0,-6l5.5,10h-11z", down: "M0,6l5.5,-10h-11z", cross: "M-5,-2h3v-3h4v3h3v4h-3v3h-4v-3h-3z",
};

function make(tag, attributes = {}, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function html(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function draw(model, el) {
  const view = model.get("view");
  el.replaceChildren();
  if (!view.points) return;
  const figure = html("div", "repsim-crowd-figure");
  const svg = make("svg", { viewBox: "0 0 480 400", role: "listbox", "aria-multiselectable": "true",
    "aria-label": view.label });
  const readout = html("div", "repsim-map-readout", view.hint);
  const chosen = () => model.get("chosen");
  const rest = () => (chosen().length ? chosen().map((at) => view.points[at].name).join(" and ") : view.hint);
  for (const line of view.lines) {
    svg.append(make("polyline", { points: line.map(([x, y]) => `${x},${y}`).join(" "), class: "repsim-crowd-line" }));
  }
  const isHere = (at) => view.points[at].here !== false;  // over training, models of later steps are left out
  const marks = view.points.map((point, at) => {
    if (!isHere(at)) return null;
    const mark = make("g", { role: "option", transform: `translate(${point.x},${point.y})`, "aria-label": point.words,
      class: `repsim-crowd-point${point.past ? " repsim-crowd-past" : ""}`, tabindex: -1 });
    mark.append(make("circle", { r: 11, class: "repsim-crowd-ring" }));
    mark.append(make("path", { d: SHAPES[point.shape], fill: point.colour }));
    const beside = { right: { x: 14, y: 4 }, left: { x: -14, y: 4, "text-anchor": "end" } }[point.named];
    if (beside) mark.append(make("text", beside, point.short));
    mark.append(make("title", {}, point.words));
    mark.addEventListener("click", () => { choose(at); mark.focus(); });
    mark.addEventListener("mouseenter", () => { readout.textContent = point.words; });
    mark.addEventListener("mouseleave", () => { readout.textContent = rest(); });
    mark.addEventListener("focus", () => { here = at; readout.textContent = point.words; });
    svg.append(mark);
    return mark;
  });
  const places = view.points.map((_, at) => at).filter(isHere);
  let here = [...chosen(), ...places].find(isHere) ?? 0;

  function choose(at) {
    const before = chosen();
    model.set("chosen", before.includes(at) ? before.filter((other) => other !== at) : [...before, at].slice(-2));
    model.save_changes();
    mark();
  }
  function mark() {
    marks.forEach((each, at) => {
      each?.setAttribute("aria-selected", String(chosen().includes(at)));
      each?.setAttribute("tabindex", at === here ? 0 : -1);
    });
    readout.textContent = rest();
  }
  function nearest(dx, dy) {  // the closest point in this direction, within 45 degrees of it if there is one
    const from = view.points[here];
    const ahead = view.points.map((point, at) => {
      const [x, y] = [point.x - from.x, point.y - from.y];
      const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
      return { at, along, cost: along + 3 * across };
    }).filter(({ at, along }) => at !== here && isHere(at) && along > 1e-6);
    return ahead.length ? ahead.reduce((a, b) => (a.cost <= b.cost ? a : b)).at : here;
  }
  svg.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const goal = {
      ArrowUp: () => nearest(0, -1), ArrowDown: () => nearest(0, 1), ArrowLeft: () => nearest(-1, 0),
      ArrowRight: () => nearest(1, 0), Home: () => places[0], End: () => places.at(-1),
    }[event.key];
    if (!goal && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();  // or the notebook would move to another of its cells
    if (!goal) return choose(here);
    here = goal();
    mark();
    marks[here].focus();
  });
  el.repsimMark = mark;

  const legend = html("div", "repsim-crowd-legend");
  for (const entry of view.legend) {
    const item = html("span", "repsim-crowd-entry");
    const swatch = make("svg", { viewBox: "-7 -7 14 14", width: 12, height: 12, "aria-hidden": "true" });
    swatch.append(make("path", { d: SHAPES[entry.shape], fill: entry.colour }));
    item.append(swatch, html("span", "", entry.text));
    legend.append(item);
  }
  figure.append(html("div", "repsim-map-title", view.title), svg, legend, html("div", "repsim-note", view.note), readout);
  el.append(figure);
  mark();
}

function render({ model, el }) {
  el.classList.add("repsim-crowd-view", "repsim-map-view");
  const redraw = () => draw(model, el);
  const mark = () => el.repsimMark?.();
  model.on("change:view", redraw);
  model.on("change:chosen", mark);
  redraw();
  return () => { model.off("change:view", redraw); model.off("change:chosen", mark); };
}

export default { render };
