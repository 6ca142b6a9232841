// A slider over steps that need not be evenly spaced: each is one notch. The chosen step travels by its value.

function render({ model, el }) {
  const [label, range, said] = ["label", "input", "output"].map((tag) => document.createElement(tag));
  el.classList.add("repsim-steps");
  Object.assign(range, { type: "range", min: 0, step: 1, id: `repsim-steps-${Math.random().toString(36).slice(2)}` });
  label.htmlFor = said.htmlFor = range.id;

  const steps = () => model.get("steps");
  const show = () => {
    label.textContent = model.get("description");
    range.title = model.get("tooltip") ?? "";
    range.max = steps().length - 1;
    range.value = steps().indexOf(model.get("value"));
    said.textContent = `${model.get("value").toLocaleString("en")} (${Number(range.value) + 1} of ${steps().length})`;
    range.setAttribute("aria-valuetext", said.textContent);
  };
  const go = (place) => {
    model.set("value", steps()[Math.max(0, Math.min(place, steps().length - 1))]);
    model.save_changes();
  };
  range.addEventListener("input", () => go(Number(range.value)));
  range.addEventListener("keydown", (event) => {  // JupyterLab takes some arrow keys before the slider has them
    const at = Number(range.value);
    const goal = {
      ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - 1, PageUp: at + 1, Home: 0, End: steps().length - 1,
    }[event.key];
    if (goal === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    go(goal);
  });

  const heard = ["change:steps", "change:value", "change:description"];
  for (const event of heard) model.on(event, show);
  show();
  el.append(label, range, said);
  return () => { for (const event of heard) model.off(event, show); };
}

export default { render };
