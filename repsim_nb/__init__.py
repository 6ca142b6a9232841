"""repsim-nb: what happens inside language models, seen by how much their representations differ.

Importing this package is cheap: torch and transformers are imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from repsim_nb.moved import watch_imports, where
from repsim_nb.system.card import show_in_notebooks

__version__ = "0.1.0"

if TYPE_CHECKING:
    from repsim_nb import activations as activations
    from repsim_nb import corpora as corpora
    from repsim_nb import depth as depth
    from repsim_nb import descendants as descendants
    from repsim_nb import figures as figures
    from repsim_nb import groups as groups
    from repsim_nb import measures as measures
    from repsim_nb import models as models
    from repsim_nb import retrieval as retrieval
    from repsim_nb import stitching as stitching
    from repsim_nb import uncertainty as uncertainty
    from repsim_nb import weights as weights
    from repsim_nb.activations import Sampling as Sampling
    from repsim_nb.activations import Store as Store
    from repsim_nb.activations import extract as extract
    from repsim_nb.activations import extract_aligned as extract_aligned
    from repsim_nb.comparison import closeup as closeup
    from repsim_nb.comparison import compare as compare
    from repsim_nb.comparison import compare_all as compare_all
    from repsim_nb.comparison import compare_family as compare_family
    from repsim_nb.comparison import compare_models as compare_models
    from repsim_nb.comparison import controls as controls
    from repsim_nb.comparison import estimate as estimate
    from repsim_nb.comparison import estimate_models as estimate_models
    from repsim_nb.comparison import stream as stream
    from repsim_nb.corpora import list_corpora as list_corpora
    from repsim_nb.corpora import load_corpus as load_corpus
    from repsim_nb.descendants import diff as diff
    from repsim_nb.descendants import estimate_diff as estimate_diff
    from repsim_nb.errors import InputError as InputError
    from repsim_nb.errors import MissingExtraError as MissingExtraError
    from repsim_nb.measures import get_measure as get_measure
    from repsim_nb.measures import list_measures as list_measures
    from repsim_nb.models import Packing as Packing
    from repsim_nb.models import list_models as list_models
    from repsim_nb.models import load_model as load_model
    from repsim_nb.runs import list_notebooks as list_notebooks
    from repsim_nb.runs import run_notebook as run_notebook
    from repsim_nb.runs import sweep_notebook as sweep_notebook
    from repsim_nb.stitching import stitch as stitch
    from repsim_nb.stitching import stitching_table as stitching_table
    from repsim_nb.widgets import CheckpointSlider as CheckpointSlider
    from repsim_nb.widgets import CorpusPicker as CorpusPicker
    from repsim_nb.widgets import Explorer as Explorer
    from repsim_nb.widgets import LayerPicker as LayerPicker
    from repsim_nb.widgets import MeasurePicker as MeasurePicker
    from repsim_nb.widgets import ModelPicker as ModelPicker
    from repsim_nb.widgets import Population as Population

_NAMES = {
    "activations": ("Sampling", "Store", "extract", "extract_aligned"),
    "comparison": (
        "compare",
        "compare_all",
        "compare_family",
        "compare_models",
        "estimate",
        "estimate_models",
        "stream",
    ),
    "corpora": ("list_corpora", "load_corpus"),
    "descendants": ("diff", "estimate_diff"),
    "errors": ("InputError", "MissingExtraError"),
    "measures": ("get_measure", "list_measures"),
    "models": ("Packing", "list_models", "load_model"),
    "runs": ("list_notebooks", "run_notebook", "sweep_notebook"),
    "stitching": ("stitch", "stitching_table"),
    "widgets": (
        "CheckpointSlider",
        "CorpusPicker",
        "Explorer",
        "LayerPicker",
        "MeasurePicker",
        "ModelPicker",
        "Population",
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = {
    name: name
    for name in (
        *("activations", "corpora", "depth", "descendants", "figures", "groups", "measures", "models", "retrieval"),
        *("stitching", "uncertainty", "weights"),
    )
} | {"closeup": "comparison.closeup", "controls": "comparison.controls"}
__all__ = [*_MODULES, *_HOME]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"repsim_nb.{_MODULES[name]}")
    if name in _HOME:
        return getattr(import_module(f"repsim_nb.{_HOME[name]}"), name)
    raise AttributeError(where(name) or f"module 'repsim_nb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _result_as_html(result: Any) -> str:
    html: str = import_module("repsim_nb.comparison.described").as_html(result)
    return html


watch_imports()
show_in_notebooks("xarray.core.dataarray", "DataArray", _result_as_html)
show_in_notebooks("xarray.core.dataset", "Dataset", _result_as_html)
