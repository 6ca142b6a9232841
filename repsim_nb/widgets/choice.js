// A list or a menu, whose chosen options travel by their values.

function render({ model, el }) {
  const [label, list] = [document.createElement("label"), document.createElement("select")];
  const tall = model.get("rows") > 1;
  el.classList.add("jupyter-widgets", "widget-inline-hbox", tall ? "widget-select" : "widget-dropdown");
  label.className = "widget-label";
  label.htmlFor = list.id = `repsim-choice-${Math.random().toString(36).slice(2)}`;
  list.title = model.get("tooltip") ?? "";
  list.multiple = model.get("multiple");
  if (tall) list.size = model.get("rows");

  const chosen = () => (list.multiple ? model.get("value") : [model.get("value")]);
  const name = () => { label.textContent = model.get("description"); };
  const mark = () => {
    for (const option of list.options) option.selected = chosen().includes(option.choice);
    if (!list.multiple && !chosen().includes(list.selectedOptions[0]?.choice)) list.selectedIndex = -1;
  };
  const fill = () => {
    const top = list.scrollTop;
    list.replaceChildren(...model.get("options").map((given) => {
      const [text, value] = Array.isArray(given) ? given : [given, given];
      return Object.assign(new Option(text), { choice: value, title: text });  // the list may cut a long text off
    }));
    mark();
    list.scrollTop = top;
  };
  list.addEventListener("change", () => {
    const values = [...list.selectedOptions].map((option) => option.choice);
    if (!values.length) return mark();  // something is always chosen
    model.set("value", list.multiple ? values : values[0]);
    model.save_changes();
  });

  const heard = { "change:description": name, "change:options": fill, "change:value": mark };
  for (const [event, act] of Object.entries(heard)) model.on(event, act);
  name();
  fill();
  el.append(label, list);
  model.send({ drawn: true });  // a busy server drops updates that come before; see choice.py
  return () => { for (const [event, act] of Object.entries(heard)) model.off(event, act); };
}

export default { render };
