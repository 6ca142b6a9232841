"""The chance that planted blocks of layers are found: without it, finding none says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from repsim_nb.depth.blocks import IRREGULARITY, Blocks, check_irregularity
from repsim_nb.depth.smooth_decay import SmoothNull
from repsim_nb.errors import InputError
from repsim_nb.uncertainty import LEVEL

if TYPE_CHECKING:
    import pandas as pd

STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5)
ENOUGH = 0.8  # power from which finding no blocks speaks against them
FIRST = 19  # maps of the null drawn at first; most planted blocks that are not found are settled by them


def block_power(
    found: Blocks,
    strengths: Sequence[float] = STRENGTHS,
    *,
    level: float = LEVEL,
    irregularity: float = IRREGULARITY,
    boundaries: int = 1,
    n_planted: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Plant blocks into smooth streams like that of a model, and count how often `find_blocks` finds them.

    Parameters
    ----------
    found
        The blocks of the model, with or without any: its smooth decay, its noise over documents and the number of maps
        in its null are used.
    strengths
        Shares of their similarity that two layers lose if a boundary lies between them, 0 to 1.
    level
        Blocks count as found if their p-value is at most this.
    irregularity
        Irregularity of the steps, of the planted streams as well as of the null.
    boundaries
        Number of boundaries, at random places with at least two layers before, between and after them.
    n_planted
        Number of maps for each strength.
    seed
        Seed of the maps.

    Returns
    -------
    pandas.DataFrame
        Indexed by strength: power, the share of the maps in which blocks are found, with low and high, its exact 95%
        binomial interval; and score, the mean `Blocks.score` of the maps. At strength 0 the power is the level. It is 0
        for a level below the smallest p-value that the null can give.

    Raises
    ------
    InputError
        If a strength or the irregularity is out of range, there are too few layers for so many boundaries, or no map is
        asked for.

    Notes
    -----
    A planted map is the fitted smooth decay with irregular steps, times 1 - strength for layers of different blocks,
    plus the noise of a random half-sample. Each is tested as `find_blocks` tests a model, with its own fit and null.
    Blocks are found anywhere, not necessarily at the planted boundary. The smooth decay is fitted to the model as it
    is: if the model has blocks itself, they make this fit steeper.

    Examples
    --------
    >>> from repsim_nb.depth import find_blocks
    >>> rng = np.random.default_rng(0)
    >>> layers = {0: rng.normal(size=(200, 8))}
    >>> for layer in range(1, 6):
    ...     layers[layer] = 0.9 * layers[layer - 1] + 0.4 * rng.normal(size=(200, 8))
    >>> found = find_blocks(layers, n_null=39)
    >>> power = block_power(found, [0.0, 0.9], n_planted=20).power
    >>> bool(power[0.0] < 0.3 < 0.7 < power[0.9])
    True
    """
    import pandas as pd
    from scipy.stats import binomtest

    null = found.null
    check_irregularity(irregularity)
    if not all(0 <= s <= 1 for s in strengths) or n_planted < 1:
        raise InputError(f"strengths={list(strengths)}, n_planted={n_planted!r}; expected shares 0 to 1, and a map.")
    if boundaries < 1 or len(found.layers) < 2 * (boundaries + 1):
        raise InputError(
            f"boundaries={boundaries!r} among {len(found.layers)} layers; expected at least 1, and two layers a block."
        )
    rng = np.random.default_rng(seed)
    decay, noise = replace(null, n=n_planted, rng=rng).drawn(irregularity)
    across = np.array([_across(len(found.layers), boundaries, rng) for _ in range(n_planted)])
    passing = int(level * (1 + null.n) + 1e-9) - 1  # maps of the null that may reach the score
    lines = []
    for strength in strengths:
        maps = decay * (1 - strength * across) + noise
        fit, scores = null.decay.fit(maps), null.decay.scores(maps)
        own = [null.fitted(fit, i, np.random.default_rng([seed, i])) for i in range(n_planted)]
        hits = sum(_found(score, each, passing, irregularity) for score, each in zip(scores, own, strict=True))
        low, high = binomtest(hits, n_planted).proportion_ci(0.95, method="exact")
        lines.append((hits / n_planted, low, high, scores.mean()))
    index = pd.Index(strengths, name="strength", dtype=float)
    return pd.DataFrame(lines, index=index, columns=["power", "low", "high", "score"])


def power_text(power: pd.DataFrame) -> str:
    """Say how likely planted blocks are found: the weakest with a power of 0.8 or more, or the strongest planted.

    Parameters
    ----------
    power
        Result of `block_power`.

    Returns
    -------
    str
        Half a sentence, to stand after a verdict.

    Examples
    --------
    >>> import pandas as pd
    >>> power_text(pd.DataFrame({"power": [0.1, 0.85, 1.0]}, index=[0.1, 0.3, 0.5]))
    'blocks with 30% less similarity across a boundary would be found with probability 0.85'
    """
    enough = power.index[power.power >= ENOUGH]
    strength = enough.min() if len(enough) else power.index.max()
    found = f"{power.power[strength]:.2f}"
    return f"blocks with {strength:.0%} less similarity across a boundary would be found with probability {found}"


def _across(n_layers: int, boundaries: int, rng: np.random.Generator) -> np.ndarray:
    """Pairs of layers that a boundary parts, (layers, layers): boundaries at random, two layers or more to a block."""
    free = n_layers - 2 * (boundaries + 1)
    extra = rng.multinomial(free, np.full(boundaries + 1, 1 / (boundaries + 1)))
    block = np.repeat(np.arange(boundaries + 1), 2 + extra)
    return block[:, None] != block


def _found(score: float, null: SmoothNull, passing: int, irregularity: float) -> bool:
    """Whether a score is found to be above the null, stopping early where it is not."""
    counts = (int((replace(null, n=n).scores(irregularity) >= score).sum()) for n in (min(FIRST, null.n), null.n))
    return all(count <= passing for count in counts)
