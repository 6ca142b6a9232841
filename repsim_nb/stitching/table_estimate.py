"""Predict what a stitching table needs before making it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repsim_nb.corpora import Corpus
from repsim_nb.errors import named_arguments
from repsim_nb.models import Batch, Model
from repsim_nb.models.shape import shape_of
from repsim_nb.stitching.estimates import BACKWARD, COPIES, StitchEstimate, choices, per_token
from repsim_nb.stitching.fitting import EVERY, STEPS, Method
from repsim_nb.stitching.ground import CACHE_BYTES
from repsim_nb.stitching.planned import Cut, Planned, TablePlan, named_controls
from repsim_nb.stitching.stitched import N_FIT

MULTIPLIES_PER_SECOND = 1e10  # of float64, for the moments of a least-squares fit on one core


@dataclass(frozen=True)
class TableEstimate(StitchEstimate):
    """Predicted cost of a stitching table. Prints as a table.

    Attributes
    ----------
    stitches
        Number of maps that are fitted, controls included.
    tokens
        Part -> tokens that run through receivers' suffixes or, for "match", through whole models, in all.
    weights
        Bytes of the weights of all models.
    activations
        Bytes of the activations that are kept for the next stitch.
    logits
        Bytes of the logits of the largest batch, and what losses take from them.
    forward_seconds
        Rough seconds on one core of all that every fit needs.
    descent_seconds
        Rough seconds on one core of gradient descent if every fit takes all its steps; 0 without. A race takes less.
    """

    stitches: int

    def __str__(self) -> str:
        return f"stitches     {self.stitches:,}\n{super().__str__()}"


@named_arguments()
def estimate_table(
    senders: Sequence[Model | str],
    receivers: Sequence[Model | str],
    layers: str | int | Sequence[int] = "all",
    corpus: Corpus | str | Sequence[str] | None = None,
    map: str = "affine",
    fit: str = "gradient",
    seed: int = 0,
    *,
    into: str | int | Sequence[int] | None = None,
    rank: int = 8,
    steps: int = STEPS,
    warmup: int = 0,
    n_fit: int = N_FIT,
    n_report: int | None = None,
    shuffle: bool = False,
    controls: str | Sequence[str] | None = None,
) -> TableEstimate:
    """Estimate what `stitching_table` with the same arguments needs, from one batch run through every model.

    Parameters
    ----------
    senders, receivers, layers, corpus, map, fit, seed, into, rank, steps, warmup, n_fit, n_report, shuffle, controls
        As in `stitching_table`.

    Returns
    -------
    TableEstimate
        Stitches, tokens, bytes and seconds. Prints as a table.

    Raises
    ------
    InputError
        As for `stitching_table`.

    Notes
    -----
    Loads and tokenizes as `stitching_table` does. Seconds leave that and similarities out, and extrapolate from one
    batch; gradient descent often stops early.

    Examples
    --------
    >>> names = ["tiny-neox-w32-d2", "tiny-neox-w64-d4"]
    >>> estimate_table(names, names, into="all", fit="least_squares", n_fit=16, n_report=4).stitches
    64
    """
    method = Method(map, fit, rank, steps, warmup)
    asked = named_controls(controls, shuffle)
    plan = TablePlan(
        tuple(senders), tuple(receivers), layers, corpus, seed, method, n_fit, n_report, shuffle, into, asked
    )
    made = plan.made()
    return _estimated(made)


def _estimated(made: Planned) -> TableEstimate:
    ground, method, models = made.ground, made.method, made.models
    trials = {name: per_token(m, _middle(ground.batches_of(m)["report"])) for name, m in models.items()}
    tokens = {
        name: {part: sum(batch.ids.numel() for batch in of) for part, of in ground.batches_of(m).items()}
        for name, m in models.items()
    }
    work = [_Work(made, cut, trials, tokens) for cut in made.cuts]
    passes = sum(tokens[name].get(part, 0) * trials[name][0] for name in models for part in ("match", "report"))
    parts = ("report", *(("match",) if method.fits else ()), *(("fit", "stop") if method.descends else ()))
    run = {part: sum(of.tokens(part) for of in work) for part in parts}
    kept = sum(sum(tokens[n].values()) * m.d_model * (m.n_layers + 1) * m.dtype.itemsize for n, m in models.items())
    batches = [(batch.ids.numel(), m) for m in made.receivers for batch in ground.batches_of(m)["report"]]
    return TableEstimate(
        stitches=sum(len(cut.entries) for cut in made.cuts),
        tokens=run,
        weights=sum(shape_of(m).weights for m in (*models.values(), *made.twins.values())),
        activations=min(kept, CACHE_BYTES),
        logits=max(COPIES * size * choices(m) * 4 for size, m in batches),
        forward_seconds=passes + sum(of.forward for of in work),
        descent_seconds=sum(of.descent for of in work) if method.descends else 0.0,
    )


def _middle(batches: Sequence[Batch]) -> Batch:
    return batches[len(batches) // 2]


class _Work:
    """Seconds and tokens of one cut into all its entries."""

    def __init__(
        self, made: Planned, cut: Cut, trials: dict[str, tuple[float, float]], tokens: dict[str, dict[str, int]]
    ) -> None:
        self.made, self.cut = made, cut
        self.sizes, self.receiver = tokens[cut.receiver], made.models[cut.receiver]
        self.trunk, self.head = trials[cut.receiver]

    def tokens(self, part: str) -> int:
        """Tokens through suffixes, or rows of moments."""
        times = self._steps_of(part)
        return round(self.sizes.get(part, 0) * times * len(self.cut.entries))

    def _steps_of(self, part: str) -> float:
        method = self.made.method
        if part == "stop":
            return 1 + -(-method.steps // EVERY)
        if part == "fit":
            return method.steps / len(self.made.ground.batches_of(self.receiver)["fit"])
        return 1

    @property
    def _suffixes(self) -> float:
        """Seconds per token of the suffixes of all entries."""
        depth = self.receiver.n_layers
        return sum((1 - into / depth) * self.trunk + self.head for into in self.cut.entries)

    @property
    def forward(self) -> float:
        """Seconds of reports and moments."""
        report = self.sizes["report"] * self._suffixes
        sender = self.made.models[self.cut.sender]
        if not self.made.method.fits:
            return report
        columns = sender.d_model + len(self.cut.entries) * self.receiver.d_model
        return report + self.sizes["match"] * sender.d_model * columns / MULTIPLIES_PER_SECOND

    @property
    def descent(self) -> float:
        """Seconds of all gradient steps and evaluations."""
        fit, stop = (self.sizes[part] * self._steps_of(part) for part in ("fit", "stop"))
        return (BACKWARD * fit + stop) * self._suffixes
