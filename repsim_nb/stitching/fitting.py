"""Fit a map: least squares on activations, then gradient descent on the task loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


def least_squares(maps: Sequence[Map], seams: Sequence[Seam], ground: Ground) -> None:
    """Fit maps to the receiver's activations by least squares, one for each entry of a receiver.

    The seams differ in the entry alone, so that the sender's moments are taken, and factored, once for all.
    """
    first, part = seams[0], ground.matched
    batches, sent = ground.batches_of(first.receiver)[part], first.sent(ground, part)
    received = [ground.hidden(first.receiver, seam.into, part) for seam in seams]

    def rows() -> Iterator[tuple[Tensor, list[Tensor]]]:
        for number, batch in enumerate(batches):
            x, chosen = sent[number], paired_tokens(batch)
            ys = (of[number] for of in received)
            yield maps[0].prepared(x[chosen.to(x.device)]), [y[chosen.to(y.device)].to(x.device) for y in ys]

    for map_, moments in zip(maps, CrossProducts.of_several(rows()), strict=True):
        map_.solve(moments)


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


class Descent:
    """Adam on the receiver's loss, from a map's current parameters, one evaluation at a time.

    Keeps the parameters with the lowest loss on the early-stopping documents, the initial ones included. Ends after a
    few evaluations without an improvement of 0.001 nats, not counting the warm-up.

    Attributes
    ----------
    best
        Lowest loss on the early-stopping documents so far.
    """

    def __init__(self, map_: Map, seam: Seam, ground: Ground, method: Method) -> None:
        self.map, self.seam, self.ground, self.method = map_, seam, ground, method
        self._rng = np.random.default_rng([ground.seed, 3])
        self._optimizer = torch.optim.Adam(map_.parameters(), lr=RATE)
        self._order: list[int] = []
        self._step = self._waited = 0
        self.best = loss_on(map_, seam, ground, "stop")
        self._lines = [(0, float("nan"), self.best)]
        self._kept = _copy(map_)

    @property
    def ended(self) -> bool:
        """Whether all steps are taken, or patience has run out."""
        return self._step >= self.method.steps or self._waited >= PATIENCE

    def stepwise(self) -> Iterator[bool]:
        """Take the steps one by one; yield after each whether it was followed by an evaluation."""
        recent: list[float] = []
        while not self.ended:
            recent.append(self._stepped())
            evaluated = self._step % EVERY == 0 or self._step == self.method.steps
            if evaluated:
                self._evaluate(float(np.mean(recent)))
                recent = []
            yield evaluated

    def _evaluate(self, fit_loss: float) -> None:
        seen = loss_on(self.map, self.seam, self.ground, "stop")
        self._lines.append((self._step, fit_loss, seen))
        improved = seen < self.best - 1e-3 or self._step <= self.method.warmup
        self._waited = 0 if improved else self._waited + 1
        if seen < self.best:
            self.best, self._kept = seen, _copy(self.map)

    def _stepped(self) -> float:
        """Take one step and return its loss."""
        batches, sent = self.ground.batches_of(self.seam.receiver)["fit"], self.seam.sent(self.ground, "fit")
        self._order = self._order or self._rng.permutation(len(batches)).tolist()
        i = self._order.pop()
        for group in self._optimizer.param_groups:
            group["lr"] = self.method.rate(self._step)
        logits = logits_from(self.seam.receiver, self.map(sent[i]), self.seam.into, batches[i])
        loss = self.ground.nats(self.seam.receiver, logits, "fit", i).mean()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._step += 1
        return loss.item()

    def settled(self) -> pd.DataFrame:
        """Give the map its best parameters; return DataFrame(step, fit_loss, stop_loss) in nats per prediction.

        fit_loss is the mean since the previous line.
        """
        self.map.load_state_dict(self._kept)
        return pd.DataFrame(self._lines, columns=["step", "fit_loss", "stop_loss"])


def descend(map_: Map, seam: Seam, ground: Ground, method: Method) -> pd.DataFrame:
    """Train `map_` by a whole `Descent`; return its history."""
    descent = Descent(map_, seam, ground, method)
    for _ in steps(descent.stepwise(), "fitting the map", "step", total=method.steps, cheaper=CHEAPER):
        pass
    return descent.settled()


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
