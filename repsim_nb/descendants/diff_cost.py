"""Predict what a diff needs before running it: rows, bytes and time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repsim_nb.activations import Sampling
from repsim_nb.activations.extraction import plan_aligned
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.cost import expected_bytes, seconds_forward
from repsim_nb.corpora import load_corpus
from repsim_nb.descendants.carriers import swapped
from repsim_nb.descendants.kinship import loaded
from repsim_nb.errors import named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.models.shape import shape_of
from repsim_nb.stitching.stitched import common_ground
from repsim_nb.system.memory import readable_size
from repsim_nb.system.progress import SLOW
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty

if TYPE_CHECKING:
    from repsim_nb.corpora import Corpus
    from repsim_nb.models import Model


@dataclass(frozen=True)
class DiffEstimate:
    """Predicted cost of `diff`. Prints as a table.

    Attributes
    ----------
    rows
        Maximum number of rows whose activations are compared.
    layers
        Number of layers.
    parts
        Number of parts that changed and are swapped.
    tokens
        Tokens on which behaviour is measured, padding included.
    weights, activations, work
        Bytes of both models, of all rows of all layers, and of the work on one layer.
    forward_seconds, behaviour_seconds
        Rough seconds of running the models for activations, and of all swaps; extrapolated from one batch.
    """

    rows: int
    layers: int
    parts: int
    tokens: int
    weights: int
    activations: int
    work: int
    forward_seconds: float
    behaviour_seconds: float

    @property
    def seconds(self) -> float:
        """Rough seconds in all, without null and interval."""
        return self.forward_seconds + self.behaviour_seconds

    @property
    def peak(self) -> int:
        """Bytes of weights, activations and work together."""
        return self.weights + self.activations + self.work

    def __str__(self) -> str:
        lines = [
            f"rows         {self.rows:,} at {self.layers} layers",
            f"behaviour    {self.tokens:,} tokens, {self.parts} parts that changed",
            f"weights      {readable_size(self.weights)}",
            f"peak         about {readable_size(self.peak)}",
            f"time         about {self.seconds:.0f} s, {self.behaviour_seconds:.0f} s of it swaps",
        ]
        cheaper = ["cheaper      less text for behaviour (n_report), fewer rows or layers"]
        return "\n".join(lines + cheaper * (self.seconds > SLOW))


@named_arguments()
def estimate_diff(
    base: Model | str,
    tuned: Model | str,
    corpus: Corpus | str | Sequence[str] | None = None,
    measure: str | Measure = "cka",
    *,
    layers: str | int | Sequence[int] = "all",
    n_rows: int = 4096,
    rows_per_document: int | None = None,
    n_report: int | None = None,
    seed: int = 0,
    null: str | int | None = None,
    interval: float | bool | None = None,
    between_documents: bool = False,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
) -> DiffEstimate:
    """Estimate what `diff` with the same arguments needs, from one batch.

    Parameters
    ----------
    base, tuned, corpus, measure, layers, n_rows, rows_per_document, n_report, seed
        As in `diff`.
    null, interval, between_documents, memory_limit, batch_tokens
        As in `diff`.

    Returns
    -------
    DiffEstimate
        Rows, bytes and seconds. Prints as a table.

    Raises
    ------
    InputError
        As for `diff`, but not if the memory limit is exceeded.

    Notes
    -----
    Loads both models and tokenizes as `diff` does. Seconds leave that out, and null and interval.

    Examples
    --------
    >>> about = estimate_diff("tiny-neox-w32-d2", "tiny-neox-w32-d2-s1", n_rows=500, n_report=4)
    >>> about.layers, about.parts
    (3, 4)
    """
    chosen = get_measure(measure)
    uncertainty = Uncertainty(null, interval, None, between_documents, seed)
    kin = loaded(base, tuned)
    positions = kin.base.positions(layers)
    text = load_corpus(kin.base.made_for if corpus is None else corpus)
    sampling = Sampling(text, n_rows=n_rows, rows_per_document=rows_per_document, seed=seed)
    resources = Resources(None, memory_limit, batch_tokens)
    shapes = [shape_of(model) for model in (kin.base, kin.tuned)]
    cost = expected_bytes(shapes, [positions[:1]] * 2, chosen, sampling, uncertainty, Controls(), resources)
    ground = common_ground([kin.base, kin.tuned], text, 1, n_report, seed, fits=False)
    batches = ground.batches_of(kin.base)["report"]
    number = len(batches) // 2
    size, tokens = batches[number].ids.numel(), sum(batch.ids.numel() for batch in batches)
    start = time.perf_counter()
    swapped(kin, ground, number)
    swaps = (time.perf_counter() - start) / size
    plans = plan_aligned([kin.base, kin.tuned], [positions, positions], sampling, resources)
    return DiffEstimate(
        rows=len(plans[0]),
        layers=len(positions),
        parts=len(kin.changed),
        tokens=tokens,
        weights=sum(shape.weights for shape in (shapes[:1] if kin.base is kin.tuned else shapes)),
        activations=len(positions) * cost.activations,
        work=cost.work,
        forward_seconds=sum(map(seconds_forward, plans)),
        behaviour_seconds=swaps * tokens,
    )
