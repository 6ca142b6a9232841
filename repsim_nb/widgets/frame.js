// Stands, unseen, inside a widget of this package: names the widget for screen readers, and keeps keys that are pressed
// in it (arrows in a list, letters in a field) from being taken as commands of a notebook around it.

function render({ model, el }) {
  let waiting;
  const attach = () => {
    const root = el.closest(".repsim");
    if (!root) {  // not on the page yet
      waiting = setTimeout(attach, 50);
      return;
    }
    root.setAttribute("data-lm-suppress-shortcuts", "true");  // JupyterLab and Notebook 7 look for this
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", model.get("label"));
  };
  attach();
  return () => clearTimeout(waiting);
}

export default { render };
