// A button that shows a text and copies it to the clipboard.

function render({ model, el }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "repsim-button " + model.get("css_class");
  button.textContent = model.get("label");
  button.title = model.get("hint");
  button.setAttribute("aria-expanded", "false");
  const said = document.createElement("span");
  said.className = "repsim-copied";
  said.setAttribute("role", "status");
  const text = document.createElement("pre");
  text.className = "repsim-code";
  text.tabIndex = 0;
  text.setAttribute("aria-label", model.get("label"));
  text.hidden = true;
  const fill = () => {
    text.textContent = model.get("text");
    button.disabled = !model.get("text");
    said.textContent = "";
  };

  button.addEventListener("click", async () => {
    text.hidden = false;
    button.setAttribute("aria-expanded", "true");
    try {
      await navigator.clipboard.writeText(model.get("text"));
      said.textContent = "Copied.";
    } catch {  // a page may not be allowed to use the clipboard
      getSelection().selectAllChildren(text);
      said.textContent = "Selected: press Ctrl+C to copy.";
    }
  });
  model.on("change:text", fill);
  fill();
  el.classList.add("repsim-code-view");
  el.append(button, said, text);
  return () => model.off("change:text", fill);
}

export default { render };
