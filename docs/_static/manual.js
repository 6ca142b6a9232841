// The arrows that open a part of the side bar have no text; name them for screen readers.
document.addEventListener("DOMContentLoaded", () => {
  for (const arrow of document.querySelectorAll("summary:not([aria-label])")) {
    const link = arrow.closest("li")?.querySelector("a");
    if (link && !arrow.textContent.trim()) arrow.setAttribute("aria-label", `Pages below ${link.textContent.trim()}`);
  }
});
