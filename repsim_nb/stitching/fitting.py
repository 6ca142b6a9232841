"""Fitting a map: least squares on activations, then gradient descent on the task loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repsim_nb.errors import InputError, check_effect, unknown
from repsim_nb.models import Model
from repsim_nb.stitching.ground import Ground, logits_from
from repsim_nb.stitching.maps import MAPS, CrossProducts, Map
from repsim_nb.stitching.shared import paired_tokens
from repsim_nb.system.progress import steps

STEPS = 120
RATE = 1e-2
EVERY = 20  # steps between looks at the documents to stop by
PATIENCE = 3  # looks
FITS = ("least_squares", "gradient")


@dataclass(frozen=True)
class Seam:
    """Where a sender ends and a receiver goes on."""

    sender: Model
    receiver: Model
    layer: int
    into: int
    shuffle: bool = False

    def sent(self, ground: Ground, part: str) -> Sequence[Tensor]:
        """What the sender hands over, batch by batch, in the places of the receiver's tokens."""
        return ground.sent(self.sender, self.layer, self.receiver, part, self.shuffle)


def least_squares(map_: Map, seam: Seam, ground: Ground) -> None:
    """Set `map_` to its least-squares fit of the receiver's activations."""
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
    """How a map is fitted: the arguments of `stitch` of these names."""

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
                raise InputError(f"{name}={value!r}; expected a whole number from {least} up.")
        if self.map != "low_rank":
            check_effect(Method, {"rank": self.rank}, f"it is of map='low_rank', this map is {self.map!r}.")
        if not self.descends:
            why = "they are of fit='gradient' and a map that is fitted. Leave them out."
            check_effect(Method, {"steps": self.steps, "warmup": self.warmup}, why)

    @property
    def fits(self) -> bool:
        """Whether the map has anything to fit."""
        return self.map != "identity"

    @property
    def descends(self) -> bool:
        """Whether it is fitted by gradient."""
        return self.fits and self.fit == "gradient"

    def new_map(self, seam: Seam) -> Map:
        """An unfitted map on the receiver's device."""
        more = (self.rank,) if self.map == "low_rank" else ()
        return MAPS[self.map](seam.sender.d_model, seam.receiver.d_model, *more).to(seam.receiver.device)

    def rate(self, step: int) -> float:
        """Of Adam at a step counted from 0: up over the warm-up, then down to 0, both in a straight line."""
        if step < self.warmup:
            return RATE * (step + 1) / self.warmup
        return RATE * (self.steps - step) / max(1, self.steps - self.warmup)


def descend(map_: Map, seam: Seam, ground: Ground, method: Method) -> pd.DataFrame:
    """Adam on the receiver's loss, from where `map_` is.

    Ends with the best parameters that the documents to stop by have seen, those of the start among them. Stops after a
    few looks without an improvement of a thousandth of a nat, warm-up apart.

    Returns
    -------
    pandas.DataFrame
        DataFrame(step, fit_loss, stop_loss): nats per prediction; fit_loss is the mean since the line above.
    """
    rng = np.random.default_rng([ground.seed, 3])
    batches, sent = ground.batches_of(seam.receiver)["fit"], seam.sent(ground, "fit")
    optimizer = torch.optim.Adam(map_.parameters(), lr=RATE)
    best = loss_on(map_, seam, ground, "stop")
    history, kept, waited = [(0, float("nan"), best)], _copy(map_), 0
    recent: list[float] = []
    order: list[int] = []
    for step in steps(range(1, method.steps + 1), "fitting the map", "step", shown=False):
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
    """Nats per prediction of the stitched model."""
    batches = ground.batches_of(seam.receiver)[part]
    total, count = 0.0, 0
    for number, (batch, hidden) in enumerate(zip(batches, seam.sent(ground, part), strict=True)):
        losses = ground.nats(seam.receiver, logits_from(seam.receiver, map_(hidden), seam.into, batch), part, number)
        total, count = total + losses.sum().item(), count + len(losses)
    return total / count


def _copy(map_: Map) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in map_.state_dict().items()}
