"""Old module names. Importing one raises an error that gives the new name. Kept for one version; see CHANGELOG.md."""

import sys
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "atomic": "system.atomic",
    "closeup": "comparison.closeup",
    "controls": "comparison.controls",
    "corpora.hub": "corpora.datasets",
    "depth.training": "depth.checkpoints",
    "exercises": "runs.exercises",
    "families": "comparison.sequences",
    "figures.maps": "figures.heatmaps",
    "labels": "comparison.result",
    "memory": "system.memory",
    "models.families": "models.published",
    "models.hub": "models.download",
    "netcdf": "system.netcdf",
    "pairwise": "comparison.population",
    "progress": "system.progress",
    "resources": "system.shipped",
    "runs.command": "cli.command",
    "runs.comparing": "cli.comparing",
    "runs.progress": "runs.status_line",
    "runs.table": "cli.tables",
    "sanity": "measures.diagnostics",
    "streaming": "comparison.streaming",
    "uncertainty.moments": "uncertainty.closed_form",
    "versions": "system.versions",
    "widgets.corpora": "widgets.corpus_picker",
    "widgets.cost": "widgets.forecast",
    "widgets.layers": "widgets.layer_picker",
    "widgets.measures": "widgets.measure_picker",
    "widgets.models": "widgets.model_picker",
    "widgets.parts": "widgets.assignment",
    "zoo.native": "zoo.toy",
}


def where(name: str) -> str | None:
    """Return a message with the new name of module `name` (without the package prefix), or None if it has not moved."""
    return f"repsim_nb.{name} is now repsim_nb.{MOVED[name]}." if name in MOVED else None


class _MovedModuleFinder:
    """Meta-path finder that runs after all others, so it only sees modules that nobody else found."""

    @staticmethod
    def find_spec(fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        name = fullname.removeprefix("repsim_nb.")
        if name != fullname and (moved := where(name)):
            raise ModuleNotFoundError(moved, name=fullname)


def watch_imports() -> None:
    """Make imports of old names raise an error that gives the new name."""
    if _MovedModuleFinder not in sys.meta_path:
        sys.meta_path.append(_MovedModuleFinder)
