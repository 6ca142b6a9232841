"""Write the state of an explorer as one line of flat, readable JSON, and read it back with every value checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, fields
from types import NoneType
from typing import Any

from repsim_nb.activations import Sampling
from repsim_nb.comparison.controls import Controls
from repsim_nb.errors import InputError, unknown
from repsim_nb.models import Packing
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.question import Question, changed, settings

Check = Callable[[Any], bool]
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
        "over": q.over,
        **settings(q.sampling, q.uncertainty, q.controls),
        **more,
    }
    return json.dumps(saved, ensure_ascii=False, default=as_plain)


def from_json(text: str) -> tuple[Question, dict[str, Any]]:
    """Read the question and anything else that was saved with it.

    Raises
    ------
    InputError
        The text was not written by `to_json`, or a value is out of range.
    """
    saved = checked(text, EXPECTED, {"model_a", "models_b"}, "an explorer")
    sampling, uncertainty, controls = (taken(of, saved) for of in (Sampling, Uncertainty, Controls))
    own = {f.name: saved.pop(f.name) for f in fields(Question) if f.name in saved}
    return Question(**own, sampling=sampling, uncertainty=uncertainty, controls=controls), saved


def checked(text: str, expected: Mapping[str, tuple[Check, str]], needed: Set[str], whose: str) -> dict[str, Any]:
    """Read the entries of a saved state, with lists as tuples.

    Parameters
    ----------
    text
        What was saved.
    expected
        Entry -> check of its value, and what it may be in words.
    needed
        Entries that every saved state has.
    whose
        Of what the state is, in words.

    Raises
    ------
    InputError
        It is no saved state, or has an unknown entry or a wrong value.
    """
    try:
        saved = json.loads(text)
    except (TypeError, ValueError) as error:
        raise InputError(f"This is not a saved state: {error}. Give the whole text that was saved.") from None
    if not isinstance(saved, dict) or not needed <= saved.keys():
        raise InputError(f"This is not a saved state of {whose}: it names no models. Give the whole text.")
    if set(saved) - expected.keys():
        raise unknown("entry of a saved state", min(set(saved) - expected.keys()), expected)
    saved = {name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()}
    for name, value in saved.items():
        if not expected[name][0](value):
            raise InputError(f"Saved state: {name} is {value!r}; expected {expected[name][1]}.")
    if saved.pop("uncertainty", False):  # from before null and interval were entries of their own
        saved = changed(BOTH) | saved
    if isinstance(saved.get("packing"), dict):
        saved["packing"] = _packing(saved["packing"])
    return saved


def taken(of: type, saved: dict[str, Any]) -> Any:
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
    if not one_of(bool, NoneType)(entries.get("bos")):
        raise InputError(f"Saved state: bos of packing is {entries['bos']!r}; expected true, false or null.")
    return Packing(**entries)


def as_plain(value: Any) -> Any:
    """JSON for a packing, by its name if that is enough, and for numpy numbers."""
    if isinstance(value, Packing):
        return value.kind if value == Packing(value.kind) else asdict(value)
    return value.item()


def one_of(*types: type) -> Check:
    """A check: of one of these types."""
    return lambda value: type(value) in types


def all_of(kind: type) -> Check:
    """A check: a tuple of values of this type, not empty."""
    return lambda value: type(value) is tuple and len(value) > 0 and all(type(item) is kind for item in value)


def either(*checks: Check) -> Check:
    """A check: one of these passes."""
    return lambda value: any(check(value) for check in checks)


_NAME, _NUMBER, _FLAG = (one_of(str), "a string"), (one_of(int), "an integer"), (one_of(bool), "true or false")
_LAYERS = either(one_of(str), all_of(int)), '"all" or a list of positions'
# what each entry of a saved state may be, with lists as tuples
EXPECTED: dict[str, tuple[Check, str]] = {
    "model_a": _NAME,
    "models_b": (either(one_of(str), all_of(str)), "a list of names"),
    "measure": _NAME,
    "params": (one_of(dict), "names with their values"),
    "corpus": (either(one_of(str, NoneType), all_of(str)), "a name, a list of texts or null"),
    "split": (one_of(str, NoneType), "a name or null"),
    "layers_a": _LAYERS,
    "layers_b": _LAYERS,
    "over": (one_of(str, NoneType), '"a", "b", "both" or null'),
    "site": _NAME,
    "rows": _NAME,
    "n_rows": _NUMBER,
    "rows_per_document": (one_of(int, NoneType), "an integer or null"),
    "seed": _NUMBER,
    "packing": (one_of(str, dict), "a name, or kind, length and bos"),
    "null": (one_of(str, int, NoneType), "a name, a number of permutations or null"),
    "interval": (one_of(float, bool, NoneType), "a level, true or null"),
    "between_documents": _FLAG,
    "leave_out_first": _NUMBER,
    "leave_out_norms": (one_of(int, float, NoneType), "a number or null"),
    "standardize": _FLAG,
    "remove_components": _NUMBER,
    "uncertainty": _FLAG,
    "against": _NAME,
    "step": (one_of(int, NoneType), "a training step or null"),
    "selected": (lambda value: value is None or (all_of(int)(value) and len(value) == 2), "two layers or null"),
}
