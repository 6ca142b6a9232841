"""Write the state of an explorer as one line of flat, readable JSON, and read it back with every value checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from types import NoneType
from typing import Any

from repsim_nb.activations import Sampling
from repsim_nb.comparison.controls import Controls
from repsim_nb.errors import InputError, unknown
from repsim_nb.models import Packing
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.question import Question, changed, settings

BOTH = Uncertainty("permutation", 0.95)  # the default of the checkbox "null and interval"


def to_json(question: Question, **more: Any) -> str:
    """Write a question, and anything else to save with it, as one line of JSON."""
    q = question
    saved = {
        "model_a": q.model_a,
        "models_b": q.models_b,
        "measure": q.measure,
        "params": q.params,
        "corpus": q.corpus,
        "split": q.split,
        "layers_a": q.layers_a,
        "layers_b": q.layers_b,
        **settings(q.sampling, q.uncertainty, q.controls),
        **more,
    }
    return json.dumps(saved, ensure_ascii=False, default=_plain)


def from_json(text: str) -> tuple[Question, dict[str, Any]]:
    """Read the question and anything else that was saved with it.

    Raises
    ------
    InputError
        The text was not written by `to_json`, or a value is out of range.
    """
    try:
        saved = json.loads(text)
    except (TypeError, ValueError) as error:
        raise InputError(f"This is not a saved state: {error}. Give the whole text that was saved.") from None
    if not isinstance(saved, dict) or not {"model_a", "models_b"} <= saved.keys():
        raise InputError("This is not a saved state of an explorer: it names no models. Give the whole text.")
    if set(saved) - EXPECTED.keys():
        raise unknown("entry of a saved state", min(set(saved) - EXPECTED.keys()), EXPECTED)
    saved = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    for name, value in saved.items():
        if not EXPECTED[name][0](value):
            raise InputError(f"Saved state: {name} is {value!r}; expected {EXPECTED[name][1]}.")
    if saved.pop("uncertainty", False):  # from before null and interval were entries of their own
        saved = changed(BOTH) | saved
    if isinstance(saved.get("packing"), dict):
        saved["packing"] = _packing(saved["packing"])
    sampling, uncertainty, controls = (_taken(of, saved) for of in (Sampling, Uncertainty, Controls))
    own = {f.name: saved.pop(f.name) for f in fields(Question) if f.name in saved}
    return Question(**own, sampling=sampling, uncertainty=uncertainty, controls=controls), saved


def _taken(of: type, saved: dict[str, Any]) -> Any:
    """Build an object from the entries that are its fields, removing them, except the seed, which two objects share."""
    own = {f.name: saved[f.name] for f in fields(of) if f.name in saved and f.name != "groups"}
    for name in own:
        if name != "seed" or of is Uncertainty:
            del saved[name]
    return of(**own)


def _packing(entries: dict[str, Any]) -> Packing:
    names = [f.name for f in fields(Packing)]
    if set(entries) - set(names):
        raise unknown("entry of packing", min(set(entries) - set(names)), names)
    if not _is(bool, NoneType)(entries.get("bos")):
        raise InputError(f"Saved state: bos of packing is {entries['bos']!r}; expected true, false or null.")
    return Packing(**entries)


def _plain(value: Any) -> Any:
    """JSON for a packing, by its name if that is enough, and for numpy numbers."""
    if isinstance(value, Packing):
        return value.kind if value == Packing(value.kind) else asdict(value)
    return value.item()


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in types


def _all(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is tuple and len(value) > 0 and all(type(item) is kind for item in value)


def _either(*checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: any(check(value) for check in checks)


_NAME, _NUMBER, _FLAG = (_is(str), "a string"), (_is(int), "an integer"), (_is(bool), "true or false")
_LAYERS = _either(_is(str), _all(int)), '"all" or a list of positions'
# what each entry of a saved state may be, with lists as tuples
EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model_a": _NAME,
    "models_b": (_either(_is(str), _all(str)), "a list of names"),
    "measure": _NAME,
    "params": (_is(dict), "names with their values"),
    "corpus": (_either(_is(str, NoneType), _all(str)), "a name, a list of texts or null"),
    "split": (_is(str, NoneType), "a name or null"),
    "layers_a": _LAYERS,
    "layers_b": _LAYERS,
    "site": _NAME,
    "rows": _NAME,
    "n_rows": _NUMBER,
    "rows_per_document": (_is(int, NoneType), "an integer or null"),
    "seed": _NUMBER,
    "packing": (_is(str, dict), "a name, or kind, length and bos"),
    "null": (_is(str, int, NoneType), "a name, a number of permutations or null"),
    "interval": (_is(float, bool, NoneType), "a level, true or null"),
    "between_documents": _FLAG,
    "leave_out_first": _NUMBER,
    "leave_out_norms": (_is(int, float, NoneType), "a number or null"),
    "standardize": _FLAG,
    "remove_components": _NUMBER,
    "uncertainty": _FLAG,
    "against": _NAME,
    "selected": (lambda value: value is None or (_all(int)(value) and len(value) == 2), "two layers or null"),
}
