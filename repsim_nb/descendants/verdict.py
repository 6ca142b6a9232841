"""What two models are to each other, in words, by rules that are written down here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

SAME, NOISE, RESEEDED, TUNED, UNCLEAR = "same", "noise", "re-seeded", "fine-tuned", "unclear"
RELATED = 0.2  # correlation of weights; independent models have less than 0.05, an early checkpoint of one run 0.6
UNRELATED_MOVE = 0.5  # share of activations that moved; unrelated ones have 1
STRUCTURED = 1.05  # concentration relative to random signs; rounding to 3 bits or more stays below
LEVEL = 0.05
CARRIED = 0.8  # of the divergence that single parts cause, which the parts that are named have together


@dataclass(frozen=True)
class KinshipVerdict:
    """What a descendant is.

    Attributes
    ----------
    kind
        "same", "noise" (noise or quantisation), "re-seeded", "fine-tuned" or "unclear".
    text
        One sentence that says so.
    parts
        For a fine-tuned model, the fewest parts that have 80% of the divergence which parts cause one by one, the
        largest first; else none.
    reasons
        The numbers that the rules looked at, as sentences.
    """

    kind: str
    text: str
    parts: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.text, *(f"- {reason}" for reason in self.reasons)])


def verdict(difference: xr.Dataset) -> KinshipVerdict:
    """Tell what a descendant is to its base: the same, itself with noise or rounded, another seed, or fine-tuned.

    Parameters
    ----------
    difference
        Result of `rs.diff`.

    Returns
    -------
    KinshipVerdict
        Prints as a sentence and its reasons.

    Raises
    ------
    InputError
        It is no such result.

    Notes
    -----
    The rules, in this order, over the matrices of all blocks:

    - no parameter differs: the same model;
    - the weights correlate below 0.2: from another seed, if half of the last layer's activations moved too. If they did
      not, the same function is written in other weights (units in another order, say), which these rules cannot tell;
    - some matrix of a block changed, and no block's change is more concentrated in few directions than the same change
      with random signs (p <= 0.05, family-wise): noise or rounding;
    - some block's is, by 1.05 times: fine-tuned, in the parts that together cause 80% of the divergence, found by
      running them inside the base;
    - only vectors, or only the embedding and the head changed, or the parts that cause the divergence are not those
      with structure, or the change is more concentrated than chance but by less than 1.05 times: it cannot be told.

    A change that is learned and then buried in noise of twice its size shows no structure of that size. Rounding that
    corrects errors with data (GPTQ and others), and rounding to 2 bits, leave a structure too. A merged or distilled
    model counts as fine-tuned if its weights stayed near.

    Examples
    --------
    >>> import repsim_nb as rs
    >>> same = rs.diff("tiny-neox-w32-d2", "tiny-neox-w32-d2", n_rows=200, n_report=4)
    >>> verdict(same).kind
    'same'
    """
    if "weight_structure" not in difference:
        raise InputError("This is no result of rs.diff: it has no weight_structure. Pass what rs.diff returned.")
    base, tuned = difference.attrs["model_a"], difference.attrs["model_b"]
    if not difference.weight_change.values.any():
        return KinshipVerdict(SAME, f"{tuned} is the same model as {base}: no parameter differs.")
    blocks = difference.sel(part=[str(name) for name in difference.part.values if str(name).startswith("block")])
    related = _correlation(blocks)
    reasons = [f"The weights of the blocks correlate at {related:.2f} (unrelated below {RELATED})."]
    if related < RELATED:
        return _unrelated(difference, reasons)
    structured = [str(name) for name in blocks.part.values[_has_structure(blocks)]]
    reasons.append(_structure_in_words(blocks, structured))
    changed = np.isfinite(blocks.weight_structure.values).any()
    if not changed:
        text = f"It cannot be told what {tuned} is to {base}: no matrix of a block changed, only other parameters."
        return KinshipVerdict(UNCLEAR, text, reasons=tuple(reasons))
    parts = carriers(difference)
    if not structured:
        return _without_structure(difference, blocks, reasons)
    reasons.append(_carried_in_words(difference, parts))
    if not any(part in structured or not part.startswith("block") for part in parts):
        text = f"It cannot be told what {tuned} is to {base}: the blocks whose change has structure do not carry it."
        return KinshipVerdict(UNCLEAR, text, reasons=tuple(reasons))
    return KinshipVerdict(
        TUNED, f"{tuned} is {base}, fine-tuned: {_where(parts, difference)}.", tuple(parts), tuple(reasons)
    )


def carriers(difference: xr.Dataset, share: float = CARRIED) -> list[str]:
    """The fewest parts that cause a share of the divergence that all cause one by one, the largest first."""
    caused = difference.divergence_into.values
    order = np.argsort(-caused, kind="stable")
    if not caused.sum() > 0:
        return []
    enough = 1 + int(np.searchsorted(np.cumsum(caused[order]), share * caused.sum()))
    return [str(difference.part.values[i]) for i in order[:enough]]


def _correlation(blocks: xr.Dataset) -> float:
    """Of all blocks' matrices, weighted by their entries."""
    there = np.isfinite(blocks.weight_correlation.values)
    if not there.any():
        return 1.0
    return float(np.average(blocks.weight_correlation.values[there], weights=blocks.weight_entries.values[there]))


def _has_structure(parts: xr.Dataset) -> np.ndarray:
    found: np.ndarray = (parts.weight_structure.values >= STRUCTURED) & (parts.weight_structure_p.values <= LEVEL)
    return found


def _unrelated(difference: xr.Dataset, reasons: list[str]) -> KinshipVerdict:
    base, tuned = difference.attrs["model_a"], difference.attrs["model_b"]
    gone = float(difference.moved.values[-1])
    reasons.append(f"{gone:.0%} of the activations of layer {difference.layer.values[-1]} moved (unrelated: 100%).")
    if gone >= UNRELATED_MOVE:
        text = f"{tuned} is no descendant of {base}: its weights are those of another seed."
        return KinshipVerdict(RESEEDED, text, reasons=tuple(reasons))
    text = f"It cannot be told what {tuned} is to {base}: other weights, but activations in the same places."
    return KinshipVerdict(UNCLEAR, text, reasons=tuple(reasons))


def _without_structure(difference: xr.Dataset, blocks: xr.Dataset, reasons: list[str]) -> KinshipVerdict:
    base, tuned = difference.attrs["model_a"], difference.attrs["model_b"]
    weak = blocks.part.values[blocks.weight_structure_p.values <= LEVEL]
    if len(weak):
        reasons.append(f"The change of {', '.join(map(str, weak))} is more concentrated than chance, but barely.")
        text = f"It cannot be told what {tuned} is to {base}: if anything was learned, noise or rounding hides it."
        return KinshipVerdict(UNCLEAR, text, reasons=tuple(reasons))
    others = difference.sel(part=["embedding", "head"])
    odd = others.part.values[_has_structure(others)]
    if len(odd):
        reasons.append(f"The change of the {' and the '.join(map(str, odd))} has structure.")
        text = f"It cannot be told what {tuned} is to {base}: its blocks changed as by noise, other parts did not."
        return KinshipVerdict(UNCLEAR, text, reasons=tuple(reasons))
    change = float(difference.weight_change.values.max())
    text = f"{tuned} is {base} with noise or quantisation of up to {change:.2%} of its weights: no direction."
    return KinshipVerdict(NOISE, text, reasons=tuple(reasons))


def _structure_in_words(blocks: xr.Dataset, structured: list[str]) -> str:
    values = blocks.weight_structure.values[np.isfinite(blocks.weight_structure.values)]
    if not values.size:
        return "No matrix of a block changed."
    return (
        f"The change is {values.min():.2f} to {values.max():.2f} times as concentrated as with random signs; it has "
        f"structure in {len(structured)} of {values.size} blocks that changed."
    )


def _carried_in_words(difference: xr.Dataset, parts: list[str]) -> str:
    caused = difference.divergence_into
    shares = ", ".join(f"{part} {caused.sel(part=part).item() / caused.values.sum():.0%}" for part in parts)
    return f"Run inside the base one by one, parts cause the divergence in these shares: {shares}."


def _where(parts: list[str], difference: xr.Dataset) -> str:
    """The parts in words, in order of depth; most of them count as spread."""
    order = [str(name) for name in difference.part.values]
    if 2 * len(parts) > len(order):
        return f"the change is spread over {len(parts)} of {len(order)} parts"
    named = sorted(parts, key=order.index)
    numbers = [name.removeprefix("block ") for name in named if name.startswith("block ")]
    words = [f"the {name}" for name in named if not name.startswith("block ")]
    if numbers:
        blocks = f"{', '.join(numbers[:-1])} and {numbers[-1]}" if len(numbers) > 1 else numbers[0]
        words.insert(named[0] == "embedding", f"block{'s' * (len(numbers) > 1)} {blocks}")
    return f"the change is in {', '.join(words[:-1])}{' and ' * (len(words) > 1)}{words[-1]}"
