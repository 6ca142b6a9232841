// A slider over steps that need not be evenly spaced: each is one notch. The chosen step travels by its value. Its
// button plays the steps one after the other, each once the last one has been drawn (`shown`).

function render({ model, el }) {
  const [label, range, said] = ["label", "input", "output"].map((tag) => document.createElement(tag));
  const [button, pace] = ["button", "select"].map((tag) => document.createElement(tag));
  const steps = () => model.get("steps");
  const at = () => steps().indexOf(model.get("value"));
  let timer = null;

  el.classList.add("repsim-steps");
  Object.assign(range, { type: "range", min: 0, step: 1, id: `repsim-steps-${Math.random().toString(36).slice(2)}` });
  label.htmlFor = said.htmlFor = range.id;
  button.type = "button";
  button.className = "repsim-button repsim-play";
  pace.setAttribute("aria-label", "pace");
  pace.title = "How many steps to play in a second";
  pace.append(...model.get("paces").map((each) => new Option(each < 1 ? `1 in ${1 / each} s` : `${each} a second`, each)));

  const show = () => {
    label.textContent = model.get("description");
    range.title = model.get("tooltip") ?? "";
    range.max = steps().length - 1;
    range.value = at();
    said.textContent = `${model.get("value").toLocaleString("en")} (${at() + 1} of ${steps().length})`;
    range.setAttribute("aria-valuetext", said.textContent);
    pace.value = String(model.get("pace"));
    button.textContent = timer === null ? "▶" : "❚❚";
    button.title = timer === null ? "Play the steps" : "Pause";
    button.setAttribute("aria-label", button.title);
  };
  const go = (place) => {
    model.set("value", steps()[Math.max(0, Math.min(place, steps().length - 1))]);
    model.save_changes();
  };
  const pause = () => {
    clearInterval(timer);
    timer = null;
    show();
  };
  const next = () => {
    if (model.get("shown") !== model.get("value")) return;  // the last one is still being drawn
    if (at() + 1 < steps().length) go(at() + 1);
    if (at() + 1 === steps().length) pause();
  };
  const play = () => {
    if (at() + 1 >= steps().length) go(0);  // from the beginning once more
    timer = setInterval(next, 1000 / model.get("pace"));
    show();
  };
  button.addEventListener("click", () => (timer === null ? play() : pause()));
  pace.addEventListener("change", () => {
    model.set("pace", Number(pace.value));
    model.save_changes();
    if (timer !== null) { pause(); play(); }
  });
  range.addEventListener("input", () => go(Number(range.value)));
  range.addEventListener("keydown", (event) => {  // JupyterLab takes some arrow keys before the slider has them
    const here = Number(range.value);
    const goal = {
      ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1,
      PageDown: here - 1, PageUp: here + 1, Home: 0, End: steps().length - 1,
    }[event.key];
    if (goal === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    go(goal);
  });

  const heard = ["change:steps", "change:value", "change:description", "change:pace"];
  for (const event of heard) model.on(event, show);
  show();
  el.append(label, button, range, said, pace);
  return () => {
    clearInterval(timer);
    for (const event of heard) model.off(event, show);
  };
}

export default { render };
