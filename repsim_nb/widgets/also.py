"""Describe the options of a question that no picker shows, so that nothing behind a map is hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from repsim_nb.models import Packing
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.question import Question, changed
from repsim_nb.widgets.state import BOTH

PICKED = ("rows", "n_rows", "seed", "null", "interval")  # the last two by the checkbox


def also_asked(question: Question) -> list[str]:
    """Options that differ from their defaults and that no picker shows, each in a few words."""
    q = question
    asked = changed(q.sampling, q.uncertainty, q.controls)
    words = [_words(name, value) for name, value in asked.items() if name not in PICKED]
    return words + (_resampled(q.uncertainty) if q.uncertainty.resampled else [])


def _words(name: str, value: Any) -> str:
    match name:
        case "site":
            return f"site {value}"
        case "rows_per_document":
            return f"{value} {'token' if value == 1 else 'tokens'} of each document"
        case "packing":
            return _packing(value)
        case "between_documents":
            return "pairs of rows of one document left out"
        case "leave_out_first":
            return f"the first {_count(value, 'token')} of every sequence left out"
        case "leave_out_norms":
            return f"rows with more than {value:g} times the median norm left out"
        case "standardize":
            return "features standardized"
        case "remove_components":
            return f"first {_count(value, 'principal component')} removed"
    return f"{name} = {value!r}"


def _count(n: int, noun: str) -> str:
    """As in "first principal component" and "first 2 principal components"."""
    return noun if n == 1 else f"{n} {noun}s"


def _packing(packing: Packing) -> str:
    kind = "documents packed into windows" if packing.kind == "packed" else "windows of one document"
    length = "" if packing.length is None else f" of {'at most ' * (packing.kind != 'packed')}{packing.length} tokens"
    bos = {None: "", True: ", each with a beginning-of-text token", False: ", without a beginning-of-text token"}
    return kind + length + bos[packing.bos]


def _resampled(uncertainty: Uncertainty) -> list[str]:
    """Null and interval, if they differ from those of the checkbox."""
    u = uncertainty
    if changed(replace(u, seed=0, between_documents=False)) == changed(BOTH):
        return []
    null = "null in closed form" if u.in_closed_form else f"null of {u.permutations} permutations"
    interval = f"{u.level:.4g} interval" if u.level else "no interval"
    return [null if u.null else "no null", interval]
