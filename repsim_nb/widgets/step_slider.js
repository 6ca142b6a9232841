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
  range.addEventListener("input", () => {
    model.set("value", steps()[range.value]);
    model.save_changes();
  });

  const heard = ["change:steps", "change:value", "change:description"];
  for (const event of heard) model.on(event, show);
  show();
  el.append(label, range, said);
  return () => { for (const event of heard) model.off(event, show); };
}

export default { render };
