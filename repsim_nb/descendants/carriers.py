"""Which parts carry the change in behaviour: parts of the descendant run inside the base, and back."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.corpora import Corpus
from repsim_nb.descendants.kinship import Kin, loaded
from repsim_nb.models import Batch, Model
from repsim_nb.models.sending import sendable
from repsim_nb.stitching.ground import Ground
from repsim_nb.stitching.stitched import common_ground
from repsim_nb.system.executor import mapped, remembered


@dataclass(frozen=True)
class Behaviour:
    """Sums per document (columns), for the models and for every part swapped (rows).

    Attributes
    ----------
    documents
        Names of the documents, (documents,).
    predictions
        Number of predicted tokens, or examples, (documents,).
    base, tuned
        Summed losses in nats, (documents,).
    divergence
        Summed Kullback-Leibler divergence of the descendant's predictions from the base's, (documents,).
    into, into_divergence
        Summed losses of the base with one part of the descendant, and the divergence of its predictions from those of
        the base; (parts, documents).
    back, back_divergence
        The same for the descendant with one part of the base, and the divergence from the descendant's predictions.
    """

    documents: list[str]
    predictions: np.ndarray
    base: np.ndarray
    tuned: np.ndarray
    divergence: np.ndarray
    into: np.ndarray
    into_divergence: np.ndarray
    back: np.ndarray
    back_divergence: np.ndarray


@dataclass(frozen=True)
class Swaps:
    """What all batches have in common, here and in workers."""

    base: Any
    tuned: Any
    corpus: Corpus
    n_report: int | None
    seed: int

    def stage(self) -> tuple[Kin, Ground]:
        """Load the models and choose the documents."""
        kin = loaded(self.base, self.tuned)
        return kin, common_ground([kin.base, kin.tuned], self.corpus, 1, self.n_report, self.seed, fits=False)


def behaviour(kin: Kin, swaps: Swaps, executor: Executor | None = None) -> Behaviour:
    """Measure losses of both models and of every swap, batch by batch; `executor` runs batches of models with names."""
    stage = kin, common_ground([kin.base, kin.tuned], swaps.corpus, 1, swaps.n_report, swaps.seed, fits=False)
    ground = stage[1]
    numbers = range(len(ground.batches_of(kin.base)["report"]))
    elsewhere = executor if sendable([swaps.base, swaps.tuned]) else None
    words: dict[str, Any] = {"what": "swapping parts", "unit": "batch", "name": lambda number: f"batch {number}"}
    if elsewhere is None:
        tables = list(mapped(_swapped_here, stage, numbers, **words))
    else:
        tables = list(mapped(_swapped_there, swaps, numbers, elsewhere, **words))
    documents = np.concatenate([_documents(ground, kin.base, number) for number in numbers])
    index, place = np.unique(documents, return_inverse=True)
    values = np.concatenate(tables, axis=1)
    sums = np.stack([np.bincount(place, weights=line) for line in values])
    names = [ground.corpora["report"].documents[i] for i in index]
    swapped = sums[3:].reshape(4, len(kin.parts), -1)
    into, into_divergence, back, back_divergence = swapped
    counts = np.bincount(place)
    base, tuned, divergence = sums[:3]
    return Behaviour(names, counts, base, tuned, divergence, into, into_divergence, back, back_divergence)


def _swapped_here(stage: tuple[Kin, Ground], number: int) -> np.ndarray:
    return swapped(*stage, number)


def _swapped_there(swaps: Swaps, number: int) -> np.ndarray:
    return swapped(*remembered("swaps", swaps.stage), number)


def _documents(ground: Ground, model: Model, number: int) -> np.ndarray:
    found: np.ndarray = ground.task.documents(ground.batches_of(model)["report"][number]).numpy()
    return found


@torch.no_grad()
def swapped(kin: Kin, ground: Ground, number: int) -> np.ndarray:
    """Losses and divergences of one batch, (3 + 4 * parts, predictions)."""
    batch = ground.batches_of(kin.base)["report"][number]
    answers = ground.task.answers(batch, ground.corpora["report"])
    trails = [_trail(model, batch) for model in (kin.base, kin.tuned)]
    both = kin.base, kin.tuned
    whole = [_scores(ground, model, trail[-1], batch) for model, trail in zip(both, trails, strict=True)]
    references = [_Reference.of(scores, answers) for scores in whole]
    lines = [*references[0].judged(whole[0]), *references[0].judged(whole[1])]
    lines = [lines[0], lines[2], lines[3]]
    for own, other, trail, scores, reference in (
        (*both, trails[0], whole[0], references[0]),
        (*both[::-1], trails[1], whole[1], references[1]),
    ):
        same = reference.judged(scores)[0], torch.zeros(len(answers))
        judged = [
            reference.judged(_with_part(ground, own, other, trail, place, batch)) if part in kin.changed else same
            for place, part in enumerate(kin.parts)
        ]
        lines += [nats for nats, _ in judged] + [divergence for _, divergence in judged]
    return torch.stack(lines).double().numpy()


@dataclass(frozen=True)
class _Reference:
    """Predictions that others are measured against, and the correct choices."""

    probabilities: Tensor
    negative_entropy: Tensor
    answers: Tensor

    @classmethod
    def of(cls, scores: Tensor, answers: Tensor) -> _Reference:
        logs = scores.log_softmax(-1)
        probabilities = logs.exp()
        return cls(probabilities, (probabilities * logs).sum(-1), answers)

    def judged(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of scores, and the divergence of what they predict from the reference; (predictions,) each."""
        norm = scores.logsumexp(-1)
        expected = torch.einsum("pc,pc->p", self.probabilities, scores.to(self.probabilities.device))
        right = scores.gather(-1, self.answers[:, None].to(scores.device))[:, 0]
        return (norm - right).cpu(), (self.negative_entropy - expected + norm).clamp_min(0).cpu()


def _trail(model: Model, batch: Batch) -> list[Tensor]:
    """The state at every layer, from the embedding on."""
    batch = batch.to(model.device)
    states: dict[int, Tensor] = {}
    model.residuals(batch, range(model.n_layers + 1), states.__setitem__)
    return [states[layer] for layer in range(model.n_layers + 1)]


def _with_part(ground: Ground, own: Model, other: Model, trail: Sequence[Tensor], part: int, batch: Batch) -> Tensor:
    """Scores of `own` with one part of `other`: 0 the embedding, then the blocks, then the head."""
    there, here = batch.to(other.device), batch.to(own.device)
    if part == own.n_layers + 1:
        return _scores(ground, other, trail[-1].to(other.device), batch).to(own.device)
    hidden = other.embed(there) if part == 0 else other.run(trail[part - 1].to(other.device), part - 1, part, there)
    return _scores(ground, own, own.run(hidden.to(own.device), part, own.n_layers, here), batch)


def _scores(ground: Ground, model: Model, hidden: Tensor, batch: Batch) -> Tensor:
    """Logits of the choices at every prediction, (predictions, choices)."""
    batch = batch.to(model.device)
    return ground.task.scores(model, model.head(hidden, batch), batch).float()
