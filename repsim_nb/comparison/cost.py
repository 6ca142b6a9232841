"""Predict what a comparison needs before running it: rows, bytes and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from repsim_nb.activations import Sampling
from repsim_nb.activations.extraction import Plan, one_at_a_time, plan_aligned, tokens_per_batch
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.sides import Layers, check_models, shapes_and_positions, two_sides
from repsim_nb.comparison.streaming import empty_sums
from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Model, Packing
from repsim_nb.models.shape import Shape
from repsim_nb.models.tokenizing import sizes, text_bytes
from repsim_nb.system.memory import limit_bytes, most_rows, readable_size
from repsim_nb.system.progress import SLOW
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty

SPECIAL = 4  # maximum number of special tokens around a text
PROBE_TOKENS = 1024  # tokens to run when timing a model
PROBE_WIDTH = 768  # size of the matrix product that times this machine
RETAINED = 2.6  # memory that malloc retains, relative to one batch: measured 1.9 to 3.2 for six model shapes
# Work per pair besides its product, in d^3 float32 operations: eigenvalues for shapes, whitening for subspaces.
SPECTRAL = {torch.float32: 12, torch.float64: 30}


@dataclass(frozen=True)
class Estimate:
    """Predicted cost of a comparison. Prints as a table.

    Attributes
    ----------
    measure
        Name of the measure.
    rows
        Maximum number of rows to compare.
    activations
        Bytes of all rows of all layers.
    work
        Additional bytes that the measure needs (`Measure.memory`).
    moments
        Bytes of the sums that streaming keeps instead; None for a measure that needs all rows at once.
    result
        Bytes of the grid.
    limit
        Maximum bytes for activations or sums; None if the system does not report its memory.
    weights
        Bytes of each model's weights.
    batch
        Bytes that a forward pass needs inside the larger model, including what malloc retains.
    fitting
        Number of rows that would fit in memory.
    text
        Bytes needed for tokenizing, before any model runs; 0 for a corpus that is not loaded yet.
    all_rows
        Whether all rows must be in memory, as for null, interval and controls.
    one_at_a_time
        Whether models are loaded one after the other because they do not fit in memory together.
    forward_seconds, measure_seconds
        Rough time from a short trial on this machine; None without a trial.
    """

    measure: str
    rows: int
    activations: int
    moments: int | None
    result: int
    limit: int | None
    weights: tuple[int, ...] = ()
    work: int = 0
    batch: int = 0
    fitting: int = 0
    text: int = 0
    all_rows: bool = False
    one_at_a_time: bool = False
    forward_seconds: float | None = None
    measure_seconds: float | None = None

    @property
    def in_memory(self) -> int:
        """Bytes of activations and the work on them."""
        return self.activations + self.work

    @property
    def peak(self) -> int:
        """Peak bytes of weights, activations or sums, and work.

        Measured peaks were mostly within 15% of this (tests/benchmarks/bench_extraction.py); what malloc retains
        varies from run to run.

        Raises
        ------
        InputError
            As for `route`.
        """
        models = max(self.weights, default=0) if self.one_at_a_time else sum(self.weights)
        in_memory = self.activations + max(self.batch, self.work)
        running = self.result + (in_memory if self.route == "memory" else self.batch + (self.moments or 0))
        return models + max(self.text, running)

    @property
    def seconds(self) -> float | None:
        """Rough total time, or None without a trial."""
        parts = self.forward_seconds, self.measure_seconds
        return None if None in parts else sum(parts)  # type: ignore[arg-type]

    @property
    def route(self) -> str:
        """ "memory" if all activations fit, else "stream".

        Raises
        ------
        InputError
            If neither fits; the message says what to change.
        """
        if self.limit is None or self.in_memory <= self.limit:
            return "memory"
        if self.all_rows:
            raise InputError(
                "Null, interval, controls and between_documents need all activations in memory, and these exceed the "
                "limit. Raise memory_limit, or choose fewer rows or layers."
            )
        if self.moments is not None and self.moments <= self.limit:
            return "stream"
        ways = ["choose fewer layers"]
        if self.fitting:
            ways.insert(0, f"set n_rows to at most {self.fitting:,}")
        if self.measure == "cka":
            ways.append('use get_measure("cka", batch=256), which needs almost no memory')
        elif self.moments is None:
            ways.append("choose a measure that can be streamed, such as cka")
        streamed = (
            "cannot be streamed" if self.moments is None else f"needs {readable_size(self.moments)} when streamed"
        )
        raise InputError(
            f"{self.measure} of {self.rows:,} rows needs {readable_size(self.in_memory)} in memory and {streamed}; "
            f"the limit is {readable_size(self.limit)}. Raise memory_limit, or {', or '.join(ways)}."
        )

    def __str__(self) -> str:
        try:
            route = {"memory": "in memory", "stream": "streaming"}[self.route]
        except InputError:
            route = "over the limit"
        moments = "not possible" if self.moments is None else readable_size(self.moments)
        limit = "unknown" if self.limit is None else readable_size(self.limit)
        weights = " + ".join(map(readable_size, self.weights)) or "unknown"
        lines = [
            f"{self.measure} of {self.rows:,} rows: {route}",
            f"  weights    {weights}{', one model at a time' if self.one_at_a_time else ''}",
            f"  in memory  {readable_size(self.in_memory)}",
            f"  streaming  {moments}",
            f"  limit      {limit}",
            f"  result     {readable_size(self.result)}",
            *([f"  text       {readable_size(self.text)}"] if self.text else []),
        ]
        if route != "over the limit":
            lines.append(f"  peak       about {readable_size(self.peak)}")
        return "\n".join([*lines, *([self.time] if self.time else [])])

    @property
    def time(self) -> str:
        """The line about seconds, and what would be cheaper where they are many; empty without a trial."""
        if self.seconds is None or self.forward_seconds is None:
            return ""
        line = f"  time       about {self.seconds:.0f} s (models {self.forward_seconds:.0f} s)"
        if self.forward_seconds < SLOW:
            return line
        return f"{line}\n  cheaper    fewer rows, more rows of each document, or no layers above those you need"


@named_arguments(as_parameter)
def estimate(
    a: Model | str,
    b: Model | str | None = None,
    corpus: Corpus | str | Sequence[str] | None = None,
    measure: str | Measure = "cka",
    *,
    layers_a: Layers = "all",
    layers_b: Layers = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    rows_per_document: int | None = None,
    seed: int = 0,
    packing: str | Packing = "documents",
    null: str | int | None = None,
    interval: float | bool | None = None,
    between_documents: bool = False,
    leave_out_first: int = 0,
    leave_out_norms: float | None = None,
    standardize: bool = False,
    remove_components: int = 0,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
    trial: bool | None = None,
) -> Estimate:
    """Estimate what `compare` with the same arguments needs: bytes from the models' configs, seconds from a trial.

    Parameters
    ----------
    a, b
        Models or names of models; b=None compares a with itself.
    corpus, measure, layers_a, layers_b, site, rows, n_rows, rows_per_document, seed, packing
        As in `compare`.
    null, interval, between_documents, leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`. All of them need all rows in memory.
    memory_limit, batch_tokens
        As in `compare`.
    trial
        Run the models for about a second to estimate the total time, without null and interval. True loads models
        that are given by name; None runs only models that are
        loaded already, and reads no corpus by name.

    Returns
    -------
    Estimate
        Rows, bytes and, after a trial, seconds. Prints as a table.

    Raises
    ------
    InputError
        As for `compare`.

    Notes
    -----
    Bytes assume that the corpus has `n_rows` rows. Seconds are rough, since they extrapolate from one batch, and leave
    out the time for loading models and for null and interval.

    Examples
    --------
    >>> about = estimate("tiny-neox-w32-d2", n_rows=1000)
    >>> about.weights, about.result
    ((626176,), 72)
    """
    chosen = get_measure(measure)
    check_models(a, b)
    models, layers = two_sides(a, b, layers_a, layers_b)
    sampling = Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing)
    uncertainty = Uncertainty(null, interval, None, between_documents, seed)
    controls = Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    resources = Resources(memory_limit=memory_limit, batch_tokens=batch_tokens)
    shapes, positions = shapes_and_positions(models, layers, site)
    about = replace(
        expected_bytes(shapes, positions, chosen, sampling, uncertainty, controls, resources),
        one_at_a_time=one_at_a_time(models, layers, sampling, resources),
        text=text_bytes(_texts_in_memory(corpus) or []),
    )
    at_hand = all(isinstance(model, Model) for model in models) and not isinstance(corpus, str)
    if not (at_hand if trial is None else trial):
        return about
    plans = plan_aligned(models, layers, sampling, resources)
    forward = sum(map(seconds_forward, plans))
    return replace(about, forward_seconds=forward, measure_seconds=_measure_seconds(chosen, plans))


def _longest_window(sampling: Sampling) -> int | None:
    """Upper bound on window length: from the packing, or one token per byte of texts in memory. Loads nothing."""
    packing = sampling.packing
    if packing.length is not None or packing.kind == "packed":
        return packing.length
    texts = _texts_in_memory(sampling.corpus)
    return None if texts is None else SPECIAL + max(sizes(texts), default=0)


def _texts_in_memory(corpus: Any) -> Sequence[str | Sequence[str]] | None:
    """Texts or pairs of texts; None for a corpus that is not loaded and for invalid input, which fails later."""
    texts = corpus.inputs if isinstance(corpus, Corpus) else corpus
    if not isinstance(texts, list | tuple):
        return None
    pairs = ([text] if isinstance(text, str) else text for text in texts)
    known = all(isinstance(pair, list | tuple) and all(isinstance(part, str) for part in pair) for pair in pairs)
    return texts if known else None


def expected_bytes(
    models: Sequence[Shape],
    layers: Sequence[Sequence[int]],
    measure: Measure,
    sampling: Sampling,
    uncertainty: Uncertainty = Uncertainty(),  # noqa: B008
    controls: Controls = Controls(),  # noqa: B008
    resources: Resources = Resources(),  # noqa: B008
) -> Estimate:
    """`estimate` from widths and depths alone. A single model means a comparison with itself."""
    widths = [
        dict.fromkeys(positions, model.width(sampling.site)) for model, positions in zip(models, layers, strict=True)
    ]
    sides = [list(side.values()) for side in widths]
    n_rows, longest = sampling.n_rows, _longest_window(sampling)
    per_row, limit = 4 * sum(map(sum, sides)), limit_bytes(resources.memory_limit)
    copies = 2 if uncertainty.resampled else 1

    def in_memory(n: int) -> int:
        return n * per_row + copies * measure.memory(n, *sides)

    def batch(model: Shape) -> int:
        tokens = tokens_per_batch(model, given=resources.batch_tokens)
        return max(tokens, min(model.context, longest or model.context)) * model.token_bytes

    return Estimate(
        measure=measure.name,
        rows=n_rows,
        activations=n_rows * per_row,
        work=copies * measure.memory(n_rows, *sides),
        fitting=n_rows if limit is None else most_rows(in_memory, n_rows, limit),
        moments=None if measure.moment_dtype is None else empty_sums(measure, widths).nbytes,
        all_rows=bool(uncertainty or controls),
        result=8 * len(widths[0]) * len(widths[-1]),
        limit=limit,
        weights=tuple({id(model): model.weights for model in models}.values()),  # two models may share a name
        batch=int(RETAINED * max(map(batch, models))),
    )


def seconds_forward(plan: Plan) -> float:
    """Rough seconds of all passes of a plan, from one batch."""
    batch = plan.batches()[-1]
    windows = np.unique(plan.selection.window[batch])
    lengths = np.cumsum([len(plan.selection.windows[w]) for w in windows])
    kept = windows[: 1 + int(np.searchsorted(lengths, PROBE_TOKENS))]
    rows = batch[np.isin(plan.selection.window[batch], kept)]
    seconds = _timed(lambda: plan.run(rows, progress=False))
    return seconds * plan.tokens() / plan.tokens(rows)


def _measure_seconds(measure: Measure, plans: Sequence[Plan]) -> float:
    x = torch.ones(PROBE_WIDTH, PROBE_WIDTH)
    rate = 2 * PROBE_WIDTH**3 / _timed(lambda: x @ x)
    widths = [[plan.model.width(plan.sampling.site)] * len(plan.layers) for plan in plans]
    pairs = np.multiply.outer(widths[0], widths[-1])
    products = 2 * len(plans[0]) * float(pairs.sum()) / (1 if len(plans) == 2 else 2)
    spectral = 0.0
    if measure.moment_dtype is torch.float64 or measure.cost.endswith("d^3"):
        spectral = SPECTRAL[measure.moment_dtype or torch.float32] * float((pairs**1.5).sum())
    return (products * (2 if measure.moment_dtype is torch.float64 else 1) + spectral) / rate


def _timed(work: Callable[[], object]) -> float:
    """Seconds of the second run; the first one warms up."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
