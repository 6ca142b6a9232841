"""What blocks of layers come from: how much of them is left when something is taken out of the activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.activations import Activations
from repsim_nb.comparison.controls import Controls
from repsim_nb.depth.blocks import IRREGULARITIES, Blocks, block_score
from repsim_nb.depth.power import ENOUGH, block_power, power_text
from repsim_nb.errors import InputError
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.arrays import as_matrix
from repsim_nb.system.p_value import LEVEL, at_most
from repsim_nb.uncertainty import jackknife

if TYPE_CHECKING:
    import pandas as pd

Layers = Mapping[int, Any]
NOTHING = "nothing"
PLANTED, N_PLANTED = (0.1, 0.2, 0.3, 0.5), 20  # strengths, and maps for each
NO_BLOCKS = ("does not hold", "cannot be decided")


def blocks_without(
    activations: Layers,
    taken: Mapping[str, Controls],
    measure: str | Measure = "cka",
    *,
    layers: Sequence[int] | None = None,
    groups: Any = None,
    n_random: int = 19,
    parts: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Take one thing at a time out of a model's activations, and measure how much of its blocks goes with it.

    Parameters
    ----------
    activations
        Activations of one model, layer -> (n_rows, d).
    taken
        Name -> what to take out; may be empty.
    measure
        A similarity; debiased linear CKA by default.
    layers
        The layers whose blocks are meant, at least 4; None means all. Controls look at all layers.
    groups
        The document of each row, for plain arrays; activations from `extract` have it.
    n_random
        Number of times that rows are drawn at random, for controls that leave out rows.
    parts
        Number of groups of documents in the jackknife.
    seed
        Seed of the groups and of the random rows.

    Returns
    -------
    pandas.DataFrame
        Indexed by what is taken out, "nothing" first. rows_out: number of rows left out. score: `Blocks.score`, the
        excess of similarity within blocks over smooth decay. drop: score of all activations minus this one. score_low,
        score_high, drop_low, drop_high: 95% jackknife intervals over documents. random_drop: the largest drop when as
        many random rows are left out, 0 where no rows are. p_value: share of the random draws, and this one, whose drop
        is at least as large; 1 where no rows are left out.

    Raises
    ------
    InputError
        If `taken` has the name "nothing", there are too few layers or documents, or n_random is below 1.

    Notes
    -----
    A control that takes the blocks away shows that they need what it removes. It does not show that nothing else could
    make blocks, and removing rows changes the question: the rest may differ in ways that large rows hid. The division
    into blocks is found anew for every map, so a score is above 0 for maps of smooth decay too.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> acts = {k: rng.normal(size=(200, 8)) for k in range(6)}
    >>> for layer in (2, 3, 4):
    ...     acts[layer][:3, 1] += 80
    >>> left = blocks_without(acts, {"large rows": Controls(leave_out_norms=4.0)}, parts=20)
    >>> left.rows_out.tolist(), bool(left.score["nothing"] > 20 * left.score["large rows"])
    ([0, 3], True)
    """
    import pandas as pd

    if NOTHING in taken or n_random < 1:
        raise InputError(
            f"taken={list(taken)}, n_random={n_random}; expected no name {NOTHING!r}, and at least one draw."
        )
    documents, chosen = _documents(activations, groups), get_measure(measure)
    every = np.ones(len(documents), dtype=bool)
    sides: dict[str, tuple[Layers, np.ndarray]] = {NOTHING: (activations, every)}
    for name, controls in taken.items():
        (side,), kept = controls.applied(activations)
        sides[name] = side, kept
    asked = list(activations if layers is None else layers)

    def score(side: Layers, keep: np.ndarray) -> float:
        prepared = [chosen.prepare(as_matrix(side[layer], f"layer {layer}")[keep]) for layer in asked]
        return block_score(chosen.grid(prepared, prepared))

    def scores_and_drops(keep: np.ndarray) -> np.ndarray:
        scores = np.array([score(side, keep[kept]) for side, kept in sides.values()])
        return np.stack([scores, scores[0] - scores])

    found = jackknife(scores_and_drops, documents.tolist(), parts, seed=seed)
    table = pd.DataFrame({"rows_out": [int((~kept).sum()) for _, kept in sides.values()]}, index=list(sides))
    for place, name in enumerate(("score", "drop")):
        table[name], table[f"{name}_low"], table[f"{name}_high"] = (part[place] for part in found)
    rng = np.random.default_rng(seed)
    largest, p_values = [], []
    for count, drop in zip(table.rows_out, table["drop"], strict=True):
        draws = n_random if count else 0
        random = [table.score[NOTHING] - score(activations, _without(every, count, rng)) for _ in range(draws)]
        largest.append(max(random, default=0.0))
        p_values.append((1 + sum(r >= drop for r in random)) / (1 + draws))
    return table.assign(random_drop=largest, p_value=p_values).rename_axis("without")


def claims_about_blocks(
    found: Mapping[str, Blocks], left: pd.DataFrame, irregularities: Sequence[float] = IRREGULARITIES
) -> pd.DataFrame:
    """Judge whether a model's layers come in blocks, and what makes most of them.

    Parameters
    ----------
    found
        What is taken out -> `find_blocks` of the rest, with "nothing".
    left
        Result of `blocks_without` for the same controls and layers.
    irregularities
        Allowances of the null over which the blocks are tested.

    Returns
    -------
    pandas.DataFrame
        Indexed by claim: estimate, low, high (95% over documents), null and verdict.

        - "layers come in blocks", with the score. It holds if p <= 0.05 at every allowance, does not hold if at none,
          provided that planted blocks would be found (see `block_power`); their chance stands beside the null.
        - "without NAME, most of the blocks are gone", with the drop of the score. It holds if the interval lies above
          half of the score; below half, it holds "in part" if the interval lies above 0, and otherwise does not hold.
          Rows left out must also do more than as many random rows (p <= 0.05). It cannot be decided if the interval
          includes half of the score. Where no layers come in blocks, there is nothing to explain.

    Raises
    ------
    InputError
        If `found` and `left` are not about the same controls.

    Notes
    -----
    The p-values of different controls are not corrected for their number.

    Examples
    --------
    >>> from repsim_nb.depth import find_blocks
    >>> rng = np.random.default_rng(0)
    >>> acts = {k: rng.normal(size=(200, 8)) for k in range(6)}
    >>> for layer in (2, 3, 4):
    ...     acts[layer][:3, 1] += 80
    >>> taken = {"large rows": Controls(leave_out_norms=4.0)}
    >>> rest = taken["large rows"].applied(acts)[0][0]
    >>> found = {"nothing": find_blocks(acts, n_null=99), "large rows": find_blocks(rest, n_null=99)}
    >>> claims_about_blocks(found, blocks_without(acts, taken)).verdict.tolist()
    ['depends on the allowance', 'holds']
    """
    import pandas as pd

    if list(found) != list(left.index) or NOTHING not in found:
        raise InputError(
            f"found is about {list(found)} and left about {list(left.index)}; expected the same, in order."
        )
    tests = {name: blocks.over_irregularity(irregularities) for name, blocks in found.items()}
    whole: Any = left.loc[NOTHING]
    blocks, null = _verdict_on_p(tests[NOTHING]), f"smooth decay, {_p_range(tests[NOTHING])}"
    if blocks != "holds":
        power = block_power(found[NOTHING], PLANTED, n_planted=N_PLANTED)
        null = f"{null}; {power_text(power)}"
        blocks = "cannot be decided" if blocks == "does not hold" and power.power.max() < ENOUGH else blocks
    claims = {
        "layers come in blocks": {
            "estimate": whole.score,
            "low": whole.score_low,
            "high": whole.score_high,
            "null": null,
            "verdict": blocks,
        }
    }
    for name in left.index.drop(NOTHING):
        line: Any = left.loc[name]
        beside = f"{line.rows_out:.0f} random rows out: at most {line.random_drop:.3f}; " if line.rows_out else ""
        claims[f"without {name}, most of the blocks are gone"] = {
            "estimate": line["drop"],
            "low": line.drop_low,
            "high": line.drop_high,
            "null": f"{beside}the rest against smooth decay, {_p_range(tests[name])}",
            "verdict": "nothing to explain" if blocks in NO_BLOCKS else _verdict_on_drop(line, whole.score),
        }
    return pd.DataFrame.from_dict(claims, orient="index").rename_axis("claim")


def blocks_in_models(
    found: Mapping[str, Blocks],
    powers: Mapping[str, pd.DataFrame],
    level: float = LEVEL,
    irregularities: Sequence[float] = IRREGULARITIES,
) -> dict[str, str]:
    """Judge whether the layers of several models come in blocks.

    Parameters
    ----------
    found
        Model -> `find_blocks`; may be empty.
    powers
        Model -> `block_power` at the same level.
    level
        Level of the test of each model.
    irregularities
        Allowances of the null over which the blocks are tested.

    Returns
    -------
    dict
        estimate, over, null and verdict, in words. The verdict is "holds" if p <= level in every model at every
        allowance, "does not hold" if in no model at any, provided that planted blocks of some strength would be found
        with a probability of 0.8 or more in each, and otherwise "cannot be told".

    Raises
    ------
    InputError
        If `powers` is not about the same models.

    Examples
    --------
    >>> from repsim_nb.depth import find_blocks
    >>> rng = np.random.default_rng(0)
    >>> early, late = rng.normal(size=(2, 300, 8))
    >>> acts = dict(enumerate([early, early, early, late, late, late, late]))
    >>> found = {"a": find_blocks({k: x + 0.3 * rng.normal(size=x.shape) for k, x in acts.items()}, n_null=99)}
    >>> blocks_in_models(found, {"a": block_power(found["a"], [0.9], n_planted=5)})["verdict"]
    'holds'
    """
    if list(powers) != list(found):
        raise InputError(f"found is about {list(found)} and powers about {list(powers)}; expected the same, in order.")
    allowed = f"allowances {min(irregularities):g} to {max(irregularities):g}"
    null = f"smooth decay, p <= {level:.2g} for each model, at {allowed}"
    about = {"over": "documents, irregular steps", "null": null}
    if not found:
        return {"estimate": "no model has enough layers", **about, "verdict": "cannot be told"}
    p = {name: blocks.over_irregularity(irregularities).p_value for name, blocks in found.items()}
    always, ever = [sum(some(each <= level) for each in p.values()) for some in (np.all, np.any)]
    least = min(p, key=lambda name: p[name].min())
    words = (
        f"in {always} of {len(found)} models at every allowance, in {ever} at some; smallest "
        f"{at_most(p[least].min(), found[least].null.least)}"
    )
    if always < len(found):
        weakest = min(powers.values(), key=lambda power: (power.power.max(), -power.power.ge(ENOUGH).sum()))
        words = f"{words}; {power_text(weakest)} in the model where that is least likely"
    enough = all(power.power.max() >= ENOUGH for power in powers.values())
    verdict = "holds" if always == len(found) else "does not hold" if not ever and enough else "cannot be told"
    return {"estimate": words, **about, "verdict": verdict}


def massive_makes_blocks(p_values: pd.DataFrame, massive: Sequence[bool], level: float = LEVEL) -> dict[str, str]:
    """Judge whether massive activations create the blocks of several models.

    Parameters
    ----------
    p_values
        Model x what is done to its activations, the p-values of its blocks: "as it is" first, then each removal.
    massive
        Whether each model has massive activations.
    level
        Level of the test of each model.

    Returns
    -------
    dict
        estimate, over, null and verdict, in words. The verdict is "cannot be told" if no model has blocks as it is. It
        is "holds" if there are massive activations and every model with blocks has none after one of the removals,
        "does not hold" if there are no massive activations or all models keep their blocks, else "cannot be told".

    Examples
    --------
    >>> import pandas as pd
    >>> p = pd.DataFrame({"as it is": [0.01, 0.6], "large norms out": [0.4, 0.7]}, index=["a", "b"])
    >>> massive_makes_blocks(p, [True, False])["estimate"]
    'of 1 models with blocks, 1 without them after large norms out; 1 of 2 models have massive activations'
    """
    about = {"over": "documents, irregular steps", "null": f"blocks stay, p <= {level:.2g} for each model"}
    held = f"{sum(massive)} of {len(p_values)} models have massive activations"
    blocked = p_values[p_values.iloc[:, 0] <= level].iloc[:, 1:] > level
    if not len(blocked):
        return {"estimate": f"no blocks to explain; {held}", **about, "verdict": "cannot be told"}
    lost = ", ".join(f"{count} without them after {take}" for take, count in blocked.sum().items())
    gone = blocked.any(axis=1)
    verdict = "does not hold" if not any(massive) or not gone.any() else "holds" if gone.all() else "cannot be told"
    return {"estimate": f"of {len(blocked)} models with blocks, {lost}; {held}", **about, "verdict": verdict}


def shared_boundaries(a: Blocks, b: Blocks) -> dict[str, float]:
    """Compare the boundaries of two divisions of the same layers.

    Parameters
    ----------
    a, b
        Results of `find_blocks` for the same layers, such as those of one model on two texts.

    Returns
    -------
    dict
        shared: number of boundaries in both; a, b: number in each; p_value: probability of at least as many shared
        boundaries if those of b were placed at random (hypergeometric).

    Raises
    ------
    InputError
        If the layers differ.

    Examples
    --------
    >>> from repsim_nb.depth import find_blocks
    >>> rng = np.random.default_rng(0)
    >>> early, late = rng.normal(size=(2, 300, 8))
    >>> acts = dict(enumerate([early, early, early, late, late, late, late]))
    >>> one, other = (
    ...     find_blocks({k: x + 0.3 * rng.normal(size=x.shape) for k, x in acts.items()}) for _ in range(2)
    ... )
    >>> {name: round(value, 2) for name, value in shared_boundaries(one, other).items()}
    {'shared': 1, 'a': 1, 'b': 1, 'p_value': 0.17}
    """
    from scipy.stats import hypergeom

    if a.layers != b.layers:
        raise InputError(f"The blocks are about layers {a.layers} and {b.layers}; expected the same layers.")
    places = set(a.boundaries.index), set(b.boundaries.index)
    shared, gaps = len(places[0] & places[1]), len(a.layers) - 1
    p = float(hypergeom.sf(shared - 1, gaps, len(places[0]), len(places[1])))
    return {"shared": shared, "a": len(places[0]), "b": len(places[1]), "p_value": p}


def _documents(activations: Layers, groups: Any) -> np.ndarray:
    if groups is None and isinstance(activations, Activations):
        groups = activations.rows["document"]
    n = len(as_matrix(next(iter(activations.values())), "the first layer"))
    return np.arange(n) if groups is None else np.asarray(groups)


def _without(every: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """A mask that leaves out `count` random rows."""
    keep = every.copy()
    keep[rng.choice(len(every), count, replace=False)] = False
    return keep


def _p_range(tests: pd.DataFrame) -> str:
    """Such as "p at most 0.005 at allowances 0.1 to 0.6", or with both ends of p."""
    least, most = tests.p.iloc[int(tests.p_value.argmin())], tests.p.iloc[int(tests.p_value.argmax())]
    p = least if least == most else f"p from {least.removeprefix('p ')} to {most.removeprefix('p ')}"
    return f"{p} at allowances {tests.index.min():g} to {tests.index.max():g}"


def _verdict_on_p(tests: pd.DataFrame) -> str:
    if tests.p_value.max() <= LEVEL:
        return "holds"
    return "does not hold" if tests.p_value.min() > LEVEL else "depends on the allowance"


def _verdict_on_drop(line: pd.Series, score: float) -> str:
    beyond_chance = not line.rows_out or line.p_value <= LEVEL
    if line.drop_low > score / 2 and beyond_chance:
        return "holds"
    if line.drop_high < score / 2:
        return "in part" if line.drop_low > 0 and beyond_chance else "does not hold"
    return "cannot be decided"
