// A layer x layer map: a grid of cells to point at, click on, or walk through with the arrow keys.
// Everything it shows (numbers, colours, words) comes from Python as `view`; it sets `selected` = [row, column].

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function draw(model, el) {
  const view = model.get("view");
  el.replaceChildren();
  if (!view.values) return;
  const [height, width] = [view.values.length, view.values[0].length];
  const figure = make("div", "repsim-map-figure");
  const heading = make("div", "repsim-map-title", view.title);
  const yAxis = make("div", "repsim-map-y", view.y_axis);
  yAxis.title = view.y_axis;  // a long name is cut off
  const xAxis = make("div", "repsim-map-x", view.x_axis);
  const grid = make("div", "repsim-map" + (width > 14 ? " repsim-map-dense" : ""));
  grid.setAttribute("role", "grid");
  grid.setAttribute("aria-label", view.label);
  grid.style.setProperty("--columns", width);

  const readout = make("div", "repsim-map-readout", view.hint);
  const cells = [];
  const chosen = () => model.get("selected");
  const say = (row, column) => { readout.textContent = row === undefined ? rest() : view.readouts[row][column]; };
  const rest = () => (chosen().length ? view.readouts[chosen()[0]][chosen()[1]] : view.hint);

  for (let row = height - 1; row >= 0; row--) {  // layer 0 at the bottom
    const line = make("div", "repsim-map-row");
    line.setAttribute("role", "row");
    const header = make("div", "repsim-map-tick", view.rows[row]);
    header.setAttribute("role", "rowheader");
    line.append(header);
    cells[row] = [];
    for (let column = 0; column < width; column++) {
      const cell = make("div", "repsim-map-cell", view.values[row][column]);
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-label", view.readouts[row][column]);
      cell.dataset.layerA = view.rows[row];
      cell.dataset.layerB = view.columns[column];
      cell.style.backgroundColor = view.colours[row][column];
      cell.style.color = view.inks[row][column];
      if (view.hatched[row][column]) cell.classList.add("repsim-map-hatched");
      cell.addEventListener("click", () => select(row, column, true));
      cell.addEventListener("mouseenter", () => say(row, column));
      cell.addEventListener("focus", () => say(row, column));
      cells[row].push(cell);
      line.append(cell);
    }
    grid.append(line);
  }
  grid.addEventListener("mouseleave", () => say());
  const feet = make("div", "repsim-map-row");
  feet.setAttribute("role", "row");
  const corner = make("div", "repsim-map-tick");
  corner.setAttribute("role", "gridcell");
  feet.append(corner);
  for (const column of view.columns) {
    const header = make("div", "repsim-map-tick", column);
    header.setAttribute("role", "columnheader");
    feet.append(header);
  }
  grid.append(feet);

  function mark() {
    const [row, column] = chosen().length ? chosen() : [0, 0];
    cells.flat().forEach((cell) => { cell.tabIndex = -1; cell.setAttribute("aria-selected", "false"); });
    const cell = cells[row]?.[column];
    if (!cell) return;
    cell.tabIndex = 0;  // one stop of the Tab key for the whole grid
    cell.setAttribute("aria-selected", String(chosen().length > 0));
    say();
  }
  function select(row, column, focus) {
    model.set("selected", [row, column]);
    model.save_changes();
    mark();
    if (focus) cells[row][column].focus();
  }
  grid.addEventListener("keydown", (event) => {
    const [row, column] = chosen().length ? chosen() : [0, 0];
    const goal = {
      ArrowUp: [Math.min(row + 1, height - 1), column], ArrowDown: [Math.max(row - 1, 0), column],
      ArrowRight: [row, Math.min(column + 1, width - 1)], ArrowLeft: [row, Math.max(column - 1, 0)],
      Home: [row, 0], End: [row, width - 1], Enter: [row, column], " ": [row, column],
    }[event.key];
    if (!goal || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();  // or the notebook would move to another of its cells
    select(...goal, true);
  });
  el.repsimMark = mark;

  const scale = make("div", "repsim-scale");
  const bar = make("div", "repsim-scale-bar");
  bar.style.background = `linear-gradient(to right, ${view.scale.colours.join(", ")})`;
  const ends = make("div", "repsim-scale-ends");
  ends.append(make("span", "", view.scale.low), make("span", "repsim-scale-name", view.scale.title),
    make("span", "", view.scale.high));
  scale.append(bar, ends);
  if (view.note) scale.append(make("div", "repsim-scale-note", view.note));

  figure.append(heading, yAxis, grid, xAxis, readout, scale);
  el.append(figure);
  mark();
}

function render({ model, el }) {
  el.classList.add("repsim-map-view");
  const redraw = () => draw(model, el);
  const mark = () => el.repsimMark?.();
  model.on("change:view", redraw);
  model.on("change:selected", mark);
  redraw();
  return () => { model.off("change:view", redraw); model.off("change:selected", mark); };
}

export default { render };
