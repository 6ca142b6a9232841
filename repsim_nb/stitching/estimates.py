"""Predict what a stitch needs before running it: tokens, bytes and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from repsim_nb.corpora import Corpus
from repsim_nb.errors import named_arguments
from repsim_nb.models import Batch, Model, load_model
from repsim_nb.models.shape import shape_of
from repsim_nb.stitching.fitting import EVERY, STEPS, Method, Seam
from repsim_nb.stitching.ground import Ground, logits_from
from repsim_nb.stitching.joined import common_ground, join
from repsim_nb.stitching.stitched import N_FIT
from repsim_nb.system.memory import readable_size

BACKWARD = 3.0  # of a forward pass, for a forward and a backward pass
COPIES = 3  # of the logits of one batch, while losses are taken from them


@dataclass(frozen=True)
class StitchEstimate:
    """Predicted cost of one stitch. Prints as a table.

    Attributes
    ----------
    tokens
        Part -> tokens of its windows, padding included: "report", and "match", "fit" and "stop" if a map is fitted.
    weights
        Bytes of the weights of both models, counted once if they are one.
    activations
        Bytes of the activations of all parts that are kept.
    logits
        Bytes of the logits of the largest batch, and what losses take from them.
    forward_seconds
        Rough seconds of all passes that any map needs.
    descent_seconds
        Rough seconds of gradient descent if it takes all its steps; 0 without.
    """

    tokens: dict[str, int]
    weights: int
    activations: int
    logits: int
    forward_seconds: float
    descent_seconds: float

    @property
    def seconds(self) -> float:
        """Rough seconds in all."""
        return self.forward_seconds + self.descent_seconds

    @property
    def peak(self) -> int:
        """Bytes of weights, activations and logits together."""
        return self.weights + self.activations + self.logits

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {count:,}" for name, count in self.tokens.items())
        descent = f", at most {self.descent_seconds:.0f} s of it gradient steps" if self.descent_seconds else ""
        return "\n".join(
            [
                f"tokens       {parts}",
                f"weights      {readable_size(self.weights)}",
                f"peak         about {readable_size(self.peak)}",
                f"time         about {self.seconds:.0f} s{descent}",
            ]
        )


@named_arguments()
def estimate_stitch(
    sender: Model | str,
    receiver: Model | str,
    layer: int,
    corpus: Corpus | str | Sequence[str] | None = None,
    map: str = "affine",
    fit: str = "gradient",
    into: int | None = None,
    seed: int = 0,
    *,
    rank: int = 8,
    steps: int = STEPS,
    warmup: int = 0,
    n_fit: int = N_FIT,
    n_report: int | None = None,
    shuffle: bool = False,
) -> StitchEstimate:
    """Estimate what `stitch` with the same arguments needs, from one batch run through both models.

    Parameters
    ----------
    sender, receiver, layer, corpus, map, fit, into, seed, rank, steps, warmup, n_fit, n_report, shuffle
        As in `stitch`.

    Returns
    -------
    StitchEstimate
        Tokens, bytes and seconds. Prints as a table.

    Raises
    ------
    InputError
        As for `stitch`.

    Notes
    -----
    Loads and tokenizes as `stitch` does. Seconds leave that out, and extrapolate from one batch; gradient descent
    often stops early.

    Examples
    --------
    >>> about = estimate_stitch("tiny-neox-w32-d2", "tiny-neox-w32-d2", 1, map="identity", n_report=4)
    >>> list(about.tokens), about.descent_seconds
    (['report'], 0.0)
    """
    method = Method(map, fit, rank, steps, warmup)
    seam = join(load_model(sender), load_model(receiver), layer, into, shuffle)
    both = [seam.sender, seam.receiver]
    ground = common_ground(both, corpus, n_fit, n_report, seed, method.fits, [seam])
    batches = ground.batches_of(seam.receiver)
    tokens = {part: sum(batch.ids.numel() for batch in batches[part]) for part in batches}
    widths = seam.sender.d_model + seam.receiver.d_model
    largest = max(batch.ids.numel() for part in batches for batch in batches[part])
    shapes = {id(model): shape_of(model) for model in both}
    forward, descent = _seconds(seam, ground, method, tokens)
    return StitchEstimate(
        tokens=tokens,
        weights=sum(shape.weights for shape in shapes.values()),
        activations=sum(tokens.values()) * widths * seam.receiver.dtype.itemsize,
        logits=COPIES * largest * choices(seam.receiver) * 4,
        forward_seconds=forward,
        descent_seconds=descent,
    )


def choices(receiver: Model) -> int:
    """Number of logits of a prediction; of a classifier, few enough to count as one."""
    return len(receiver.tokenizer) if receiver.kind == "causal" else 1


def _seconds(seam: Seam, ground: Ground, method: Method, tokens: dict[str, int]) -> tuple[float, float]:
    """Seconds of the passes that any map needs, and of gradient descent."""
    sender, receiver = seam.sender, seam.receiver
    report = ground.batches_of(receiver)["report"]
    place = len(report) // 2
    batch = report[place]
    trunk, head = per_token(receiver, batch)
    same = ground.identity(sender) == ground.identity(receiver)
    own = trunk if same else per_token(sender, ground.batches_of(sender)["report"][place])[0]
    lower, before = seam.layer / sender.n_layers, seam.into / receiver.n_layers
    longest = max(batch.ids.shape[1] for batch in report)
    suffix = (1 - before) * trunk + head
    sends = 0.0 if same else lower * own  # one pass serves both
    forward = tokens["report"] * (sends + trunk + head + suffix) + longest * suffix
    if method.fits:
        forward += tokens["match"] * (lower * own + before * trunk)
    if not method.descends:
        return forward, 0.0
    step = tokens["fit"] / len(ground.batches_of(receiver)["fit"])
    evaluations = 1 + -(-method.steps // EVERY)
    descent = method.steps * BACKWARD * step * suffix + evaluations * tokens["stop"] * suffix
    return forward + (tokens["fit"] + tokens["stop"]) * lower * own, descent


@torch.no_grad()
def per_token(model: Model, batch: Batch) -> tuple[float, float]:
    """Seconds per token of all blocks, and of the head."""
    batch = batch.to(model.device)
    hidden = model.embed(batch)
    states = model.run(hidden, 0, model.n_layers, batch)
    blocks = _timed(lambda: model.run(hidden, 0, model.n_layers, batch))
    head = _timed(lambda: logits_from(model, states, model.n_layers, batch))
    return blocks / batch.ids.numel(), head / batch.ids.numel()


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
