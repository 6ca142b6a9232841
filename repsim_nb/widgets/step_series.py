"""Checkpoints of the models of an explorer, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from repsim_nb.depth.checkpoints import step_of
from repsim_nb.errors import InputError
from repsim_nb.widgets.model_picker import checkpoints_of

SIDES = {"a": "every step of A", "b": "every step of B", "both": "A and B, step by step"}
FEWEST = 2  # steps of a series


def steps_of(model: str) -> dict[int, str]:
    """Step -> checkpoint of a model, in order of step; empty for a checkpoint, and for a model without any."""
    found = [] if "@" in model else [name for name in checkpoints_of(model) if "@" in name]
    return {step_of(name.partition("@")[2]): name for name in found}


def series(model_a: str, models_b: Sequence[str], over: str | None) -> dict[int, tuple[str, tuple[str, ...]]]:
    """Step -> names of A and of every B, where the models of one side or of both are taken at that step.

    Only steps that all models in training have are in it.
    """
    if over is None:
        return {}
    training = {name: steps_of(name) for name in (*[model_a][: over != "b"], *(models_b if over != "a" else ()))}
    shared = set.intersection(*(set(steps) for steps in training.values()))

    def at(name: str, step: int, side: str) -> str:
        return training[name][step] if over in (side, "both") else name

    return {step: (at(model_a, step, "a"), tuple(at(b, step, "b") for b in models_b)) for step in sorted(shared)}


def check_series(model_a: str, models_b: Sequence[str], over: str | None) -> None:
    """Check that there are steps to show.

    Raises
    ------
    InputError
        An unknown side, or fewer than two steps that all of its models have.
    """
    if over is None:
        return
    if over not in SIDES:
        raise InputError(f'over={over!r}; expected None, "a", "b" or "both".')
    if len(series(model_a, models_b, over)) < FEWEST:
        names = " and ".join(dict.fromkeys([*[model_a][: over != "b"], *(models_b if over != "a" else ())]))
        raise InputError(
            f"There are not two training steps of {names} to go through. Choose models with checkpoints, without a "
            "revision; list_models().revisions says which have some."
        )


def offered(model_a: str, models_b: Sequence[str]) -> dict[str, str | None]:
    """The sides that can be shown over training, in words; only the first, None, if there are none."""
    lengths = {over: len(series(model_a, models_b, over)) for over in SIDES}
    return {"as they are chosen": None} | {f"{SIDES[over]} ({n})": over for over, n in lengths.items() if n >= FEWEST}
