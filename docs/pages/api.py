"""The reference of every public name: one page for each public module, one entry for each name it exports."""

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import repsim_nb
from docs.pages.docstrings import escaped, restructured

BESIDE = ("comparison.closeup", "comparison.controls", "errors", "system.shard")  # public modules that are no folder
LEAD = """{title}
{line}

.. currentmodule:: {module}

{about}

"""


def public_modules() -> list[str]:
    """Names below repsim_nb of the modules whose names are public, in alphabetical order."""
    folders = [info.name for info in pkgutil.iter_modules(repsim_nb.__path__) if info.ispkg]
    exporting = [name for name in folders if hasattr(importlib.import_module(f"repsim_nb.{name}"), "__all__")]
    return sorted([*exporting, *BESIDE])


def public_names(module: str) -> list[str]:
    """What a public module exports: its `__all__`, or what it defines without an underscore."""
    home = importlib.import_module(f"repsim_nb.{module}")
    exported = getattr(home, "__all__", None)
    return sorted(exported) if exported is not None else sorted(_defined(home))


def write(folder: Path) -> None:
    """Write the pages of all public modules, and the page of the package itself."""
    folder.mkdir(parents=True, exist_ok=True)
    for module in public_modules():
        (folder / f"{module}.rst").write_text(_page(module), encoding="utf-8")
    (folder / "index.rst").write_text(_index(), encoding="utf-8")


def home_of(name: str) -> str:
    """The public module in which a name of `repsim_nb` itself is documented."""
    module = repsim_nb._HOME[name]
    return module if module in public_modules() else ""


def _defined(home: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(home).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == home.__name__
    ]


def _page(module: str) -> str:
    home = importlib.import_module(f"repsim_nb.{module}")
    title = f"repsim_nb.{module}"
    about = inspect.getdoc(home) or ""

    lead = LEAD.format(
        title=title, line="=" * len(title), module=title, about="\n".join(restructured(about.splitlines()))
    )
    return lead + "\n".join(_entry(title, home, name) for name in public_names(module))


def _entry(title: str, home: ModuleType, name: str) -> str:
    value = getattr(home, name)
    if inspect.isclass(value):
        return f".. autoclass:: {title}.{name}\n   :members:\n"
    if callable(value):
        return f".. autofunction:: {title}.{name}\n"
    return f".. py:data:: {name}\n   :value: {value!r}\n\n   A constant.\n"


def _index() -> str:
    rows = "\n".join(f"   * - {_short(name)}\n     - {_summary(name)}" for name in sorted(repsim_nb._HOME))
    contents = "\n".join(f"   {module}" for module in public_modules())
    modules = "\n".join(
        f"   * - ``rs.{name}``\n     - :doc:`repsim_nb.{target} <{target}>`"
        for name, target in sorted(_modules().items())
    )
    return f"""Python
======

``import repsim_nb as rs`` is cheap: torch and transformers are imported when they are first needed. These names are in
``repsim_nb`` itself; each links to its entry.

.. list-table::
   :widths: 30 70
   :header-rows: 1

   * - name
     - what it is
{rows}

And these modules:

.. list-table::
   :widths: 30 70
   :header-rows: 1

   * - name
     - module
{modules}

.. toctree::
   :caption: Modules
   :maxdepth: 1

{contents}
"""


def _modules() -> dict[str, str]:
    return dict(repsim_nb._MODULES)


def _short(name: str) -> str:
    home = home_of(name)
    return f":py:obj:`rs.{name} <repsim_nb.{home}.{name}>`" if home else f":py:obj:`rs.{name} <repsim_nb.{name}>`"


def _summary(name: str) -> str:

    text = inspect.getdoc(getattr(repsim_nb, name)) or ""
    return escaped(" ".join(text.split("\n\n")[0].split()))
