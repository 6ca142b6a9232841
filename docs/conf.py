"""Sphinx's settings for the manual; `python -m docs` stages the sources and runs Sphinx."""

from docs.pages import PROJECT, REPOSITORY
from docs.pages.docstrings import as_restructured_text

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
copyright = author
version = release = PROJECT["version"]
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
]
exclude_patterns = ["**.ipynb_checkpoints"]
default_role = "py:obj"  # `name` in a docstring links to that name where the reference has it

# Notebooks come as the strict runner left them. Formulae are plain text, so that no page needs MathJax; widgets are
# shown as text, as their code would have to be fetched.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4

autodoc_typehints = "none"  # the signature has them
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "repsim-nb"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_js_files = ["manual.js"]
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "icon_links": [{"name": "Repository", "url": REPOSITORY, "icon": "fa-brands fa-github", "type": "fontawesome"}],
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "collapse_navigation": True,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_bar_text": "Search the manual",
    "show_toc_level": 2,
}
html_sidebars = {"start": [], "gallery/index": []}


def setup(app):
    """Turn the plain text of docstrings into reStructuredText before numpydoc reads it."""
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
