"""Fit a map: least squares on activations, then gradient descent on the task loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repsim_nb.errors import InputError, check_effect, unknown
from repsim_nb.models import Model
from repsim_nb.stitching.ground import CHEAPER, Ground, logits_from
from repsim_nb.stitching.maps import MAPS, CrossProducts, Map
from repsim_nb.stitching.shared import paired_tokens
from repsim_nb.system.progress import steps

STEPS = 120
RATE = 1e-2
EVERY = 20  # steps between evaluations on the early-stopping documents
PATIENCE = 3  # evaluations without improvement before stopping
FITS = ("least_squares", "gradient")


@dataclass(frozen=True)
class Seam:
    """The point where the sender's lower layers meet the receiver's upper layers."""

    sender: Model
    receiver: Model
    layer: int
    into: int
    shuffle: bool = False

    def sent(self, ground: Ground, part: str) -> Sequence[Tensor]:
        """The sender's states at the receiver's tokens, batch by batch."""
        return ground.sent(self.sender, self.layer, self.receiver, part, self.shuffle)


def least_squares(map_: Map, seam: Seam, ground: Ground) -> None:
    """Fit `map_` to the receiver's activations by least squares."""
    batches, sent = ground.batches_of(seam.receiver)[ground.matched], seam.sent(ground, ground.matched)
    received = ground.hidden(seam.receiver, seam.into, ground.matched)
    map_.solve(
        CrossProducts.of(
            (map_.prepared(x[paired_tokens(batch).to(x.device)]), y[paired_tokens(batch).to(y.device)].to(x.device))
            for x, y, batch in zip(sent, received, batches, strict=True)
        )
    )


@dataclass(frozen=True)
class Method:
    """How a map is fitted: the arguments of `stitch` with these names."""

    map: str = "affine"
    fit: str = "gradient"
    rank: int = 8
    steps: int = STEPS
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.map not in MAPS:
            raise unknown("map", self.map, MAPS)
        if self.fit not in FITS:
            raise unknown("fit", self.fit, FITS)
        for name, value, least in (("steps", self.steps, 1), ("warmup", self.warmup, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}; expected a whole number of at least {least}.")
        if self.map != "low_rank":
            check_effect(Method, {"rank": self.rank}, f"only map='low_rank' has a rank, and map={self.map!r}.")
        if not self.descends:
            why = "only fit='gradient' with a map that has parameters uses them. Leave them out."
            check_effect(Method, {"steps": self.steps, "warmup": self.warmup}, why)

    @property
    def fits(self) -> bool:
        """Whether the map has anything to fit."""
        return self.map != "identity"

    @property
    def descends(self) -> bool:
        """Whether the map is fitted by gradient descent."""
        return self.fits and self.fit == "gradient"

    def new_map(self, seam: Seam) -> Map:
        """Build an unfitted map on the receiver's device."""
        more = (self.rank,) if self.map == "low_rank" else ()
        return MAPS[self.map](seam.sender.d_model, seam.receiver.d_model, *more).to(seam.receiver.device)

    def rate(self, step: int) -> float:
        """Adam's learning rate at a step (from 0): linear warm-up, then linear decay to 0."""
        if step < self.warmup:
            return RATE * (step + 1) / self.warmup
        return RATE * (self.steps - step) / max(1, self.steps - self.warmup)


def descend(map_: Map, seam: Seam, ground: Ground, method: Method) -> pd.DataFrame:
    """Train `map_` with Adam on the receiver's loss, starting from its current parameters.

    Keeps the parameters with the lowest loss on the early-stopping documents, the initial ones included. Stops after
    a few evaluations without an improvement of 0.001 nats, not counting the warm-up.

    Returns
    -------
    pandas.DataFrame
        DataFrame(step, fit_loss, stop_loss) in nats per prediction; fit_loss is the mean since the previous line.
    """
    rng = np.random.default_rng([ground.seed, 3])
    batches, sent = ground.batches_of(seam.receiver)["fit"], seam.sent(ground, "fit")
    optimizer = torch.optim.Adam(map_.parameters(), lr=RATE)
    best = loss_on(map_, seam, ground, "stop")
    history, kept, waited = [(0, float("nan"), best)], _copy(map_), 0
    recent: list[float] = []
    order: list[int] = []
    for step in steps(range(1, method.steps + 1), "fitting the map", "step", cheaper=CHEAPER):
        order = order or rng.permutation(len(batches)).tolist()
        i = order.pop()
        for group in optimizer.param_groups:
            group["lr"] = method.rate(step - 1)
        logits = logits_from(seam.receiver, map_(sent[i]), seam.into, batches[i])
        loss = ground.nats(seam.receiver, logits, "fit", i).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        recent.append(loss.item())
        if step % EVERY == 0 or step == method.steps:
            seen = loss_on(map_, seam, ground, "stop")
            history.append((step, float(np.mean(recent)), seen))
            recent = []
            waited = 0 if seen < best - 1e-3 or step <= method.warmup else waited + 1
            if seen < best:
                best, kept = seen, _copy(map_)
            if waited >= PATIENCE:
                break
    map_.load_state_dict(kept)
    return pd.DataFrame(history, columns=["step", "fit_loss", "stop_loss"])


@torch.no_grad()
def loss_on(map_: Map, seam: Seam, ground: Ground, part: str) -> float:
    """Loss of the stitched model in nats per prediction."""
    batches = ground.batches_of(seam.receiver)[part]
    total, count = 0.0, 0
    for number, (batch, hidden) in enumerate(zip(batches, seam.sent(ground, part), strict=True)):
        losses = ground.nats(seam.receiver, logits_from(seam.receiver, map_(hidden), seam.into, batch), part, number)
        total, count = total + losses.sum().item(), count + len(losses)
    return total / count


def _copy(map_: Map) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in map_.state_dict().items()}
