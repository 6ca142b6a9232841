"""What a comparison of many models needs, said before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repsim_nb.activations import Sampling
from repsim_nb.comparison.controls import Controls
from repsim_nb.comparison.cost import expected_bytes
from repsim_nb.comparison.population.chosen_layers import LayerChoice
from repsim_nb.comparison.population.members import PER_DOCUMENT, check_equal_rows
from repsim_nb.comparison.population.roster import Roster
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Model, Packing
from repsim_nb.models.shape import Shape
from repsim_nb.models.tokenizing import text_bytes
from repsim_nb.system.memory import limit_bytes, most_rows, readable_size
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty

if TYPE_CHECKING:
    from repsim_nb.corpora import Corpus

# One or more measures of each type (geometry, subspaces, prediction, feature matching, neighbours) that cost at most
# n d^2 or n^2 d per pair.
CHEAP = (
    "cka",
    "procrustes",
    "svcca",
    "pwcca",
    "linear_regression",
    "gulp",
    "aligned_cosine",
    "soft_matching",
    "rsa",
    "mutual_knn",
)


@dataclass(frozen=True)
class Demand:
    """What one model needs while it is run.

    Attributes
    ----------
    name
        The model.
    layers
        The layers to compare, in order.
    weights
        Bytes of its weights; 0 for a model in memory.
    batch
        Bytes of a forward pass, including what malloc retains.
    row
        Bytes of one row of all its layers.
    """

    name: str
    layers: tuple[int, ...]
    weights: int
    batch: int
    row: int


@dataclass(frozen=True)
class PopulationEstimate:
    """Predicted cost of a comparison of many models. Prints as a table.

    Attributes
    ----------
    rows
        Rows of each text, at most.
    pairs
        Number of pairs of models, each with itself included.
    models
        What each model needs while it is run; empty for activations and arrays.
    text
        Bytes needed for tokenizing the larger text.
    work
        Bytes of the layers that are in memory at a time, and of the most demanding measure's work on them.
    measure
        That measure.
    limit
        Maximum bytes for activations and work; None if the system does not report its memory.
    """

    rows: tuple[int, ...]
    pairs: int
    models: tuple[Demand, ...]
    text: int
    work: int
    measure: str
    limit: int | None

    @property
    def stored(self) -> int:
        """Bytes of all activations on disk."""
        return sum(self.rows) * sum(model.row for model in self.models)

    @property
    def extracting(self) -> int:
        """Peak bytes while models run: one model, its batch and its activations of one text."""
        return max((m.weights + max(self.text, m.batch + max(self.rows) * m.row) for m in self.models), default=0)

    @property
    def retained(self) -> int:
        """Bytes that malloc keeps from tokenizing and forward passes while layers are compared."""
        return max([self.text, *(m.batch for m in self.models)]) if self.models else 0

    @property
    def peak(self) -> int:
        """Peak bytes, on top of what the process holds already."""
        return max(self.extracting, self.work + self.retained)

    def __str__(self) -> str:
        rows = " and ".join(f"{n:,}" for n in self.rows)
        largest = max(self.models, key=lambda m: m.weights + m.batch, default=None)
        lines = [f"{self.pairs:,} pairs at {rows} rows"]
        if largest is not None:
            lines += [
                f"  models     one at a time, at most {readable_size(largest.weights)} of weights",
                f"  extracting {readable_size(self.extracting)}",
                f"  on disk    {readable_size(self.stored)}",
            ]
        lines += [
            f"  comparing  {readable_size(self.work)} ({self.measure})",
            f"  limit      {'unknown' if self.limit is None else readable_size(self.limit)}",
            f"  peak       about {readable_size(self.peak)}",
        ]
        return "\n".join(lines)


@named_arguments(as_parameter)
def estimate_models(
    models: Sequence[Any] | Mapping[str, Any],
    measures: str | Measure | Sequence[str | Measure] = CHEAP,
    corpora: Corpus | str | Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    layers: str | int | Sequence[int] = "all",
    site: str = "resid_post",
    rows: str = "tokens",
    n_rows: int = 4096,
    rows_per_document: int | None = None,
    seed: int = 0,
    packing: str | Packing = "documents",
    null: str | int | None = None,
    between_documents: bool = False,
    leave_out_first: int = 0,
    leave_out_norms: float | None = None,
    standardize: bool = False,
    remove_components: int = 0,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
) -> PopulationEstimate:
    """Estimate the memory and disk space that `compare_models` with the same arguments needs. Runs no model.

    Parameters
    ----------
    models, measures, corpora, layers
        As in `compare_models`. Of models given by name only configs are read.
    site, rows, n_rows, rows_per_document, seed, packing, null, between_documents
        As in `compare_models`.
    leave_out_first, leave_out_norms, standardize, remove_components, memory_limit, batch_tokens
        As in `compare_models`.

    Returns
    -------
    PopulationEstimate
        Bytes while models run, while layers are compared, and on disk. Prints as a table.

    Raises
    ------
    InputError
        As for `compare_models`.

    Notes
    -----
    Bytes assume that each text has `n_rows` rows, or one for each document where rows are documents. What Python and
    its packages hold is not included.

    Examples
    --------
    >>> about = estimate_models(["tiny-neox-w32-d2", "tiny-neox-w64-d4"], "cka", layers="last", n_rows=1000)
    >>> about.pairs, about.stored == 4 * 1000 * (32 + 64)
    (3, True)
    """
    sampling = Sampling(None, site, rows, n_rows, rows_per_document, seed, packing)
    uncertainty = Uncertainty(null, None, None, between_documents, seed)
    Controls(leave_out_first, leave_out_norms, standardize, remove_components)
    resources = Resources(memory_limit=memory_limit, batch_tokens=batch_tokens)
    population = Roster.of(models, corpora, LayerChoice(layers), sampling)
    return expected(population, chosen_measures(measures), uncertainty, resources)


def chosen_measures(measures: str | Measure | Sequence[str | Measure]) -> list[Measure]:
    """The measures, each of another name."""
    given = [measures] if isinstance(measures, str | Measure) else list(measures)
    chosen = [get_measure(measure) for measure in given]
    names = [measure.name for measure in chosen]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice or not chosen:
        raise InputError(
            f"Measure {twice!r} appears twice; use separate calls for different settings of a measure."
            if twice
            else "measures is empty; expected at least one name from list_measures()."
        )
    return chosen


def expected(
    population: Roster, measures: Sequence[Measure], uncertainty: Uncertainty, resources: Resources
) -> PopulationEstimate:
    """`estimate_models` with its options as objects."""
    texts = population.texts
    demands = {place: _demand(shape, population, place, resources) for place, shape in population.shapes.items()}
    rows = [_rows_of(sampling) for sampling in texts.values()] if demands else [check_equal_rows(population.arrays())]
    widths = population.widths()
    work = {measure.name: [_work(measure, n, widths, population, uncertainty) for n in rows] for measure in measures}
    measure = max(work, key=lambda name: max(work[name]))
    return PopulationEstimate(
        rows=tuple(rows),
        pairs=len(widths) * (len(widths) + 1) // 2,
        models=tuple(demands.values()),
        text=max((text_bytes(s.text.inputs) for s in texts.values()), default=0) if demands else 0,
        work=max(work[measure]),
        measure=measure,
        limit=limit_bytes(resources.memory_limit),
    )


def check_room(
    about: PopulationEstimate, population: Roster, measures: Sequence[Measure], uncertainty: Uncertainty
) -> None:
    """Raise if activations and the work on them exceed the limit."""
    widths, limit = population.widths(), about.limit

    def needed(n: int) -> int:
        work = max(_work(measure, n, widths, population, uncertainty) for measure in measures)
        return max(work, *(n * model.row for model in about.models), 0)

    n = max(about.rows)
    if limit is not None and needed(n) > limit:
        most = most_rows(needed, n, limit)
        fewer = f"n_rows of at most {most:,}" if most else "fewer rows"
        what = "a pair of models" if population.choice.best else "one layer of all models"
        raise InputError(
            f"The activations of {what} and the work of {about.measure} need {readable_size(needed(n))}; the limit is "
            f"{readable_size(limit)}. Choose {fewer}, fewer models, or raise memory_limit."
        )


def _demand(shape: Shape, population: Roster, place: int, resources: Resources) -> Demand:
    sampling, layers = next(iter(population.texts.values())), population.layers[place]
    about = expected_bytes([shape], [layers], get_measure("cka"), sampling, resources=resources)
    loaded_later = not isinstance(population.given[place].what, Model)
    row = 4 * len(set(layers)) * shape.width(sampling.site)
    return Demand(shape.name, tuple(layers), about.weights[0] if loaded_later else 0, about.batch, row)


def _rows_of(sampling: Sampling) -> int:
    return min(sampling.n_rows, len(sampling.text)) if sampling.rows in PER_DOCUMENT else sampling.n_rows


def _work(
    measure: Measure, n: int, widths: Sequence[Sequence[int]], population: Roster, uncertainty: Uncertainty
) -> int:
    """Bytes of the layers of one unit and of a measure's work on them."""
    copies = 2 if uncertainty.resampled else 1
    if population.choice.best:
        two = sorted(widths, key=sum)[-2:]
        return copies * (4 * n * sum(map(sum, two)) + measure.memory(n, *two))
    places = zip(*widths, strict=True)
    return max(copies * (4 * n * sum(place) + measure.memory(n, place)) for place in places)
