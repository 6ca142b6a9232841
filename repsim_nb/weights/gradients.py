"""Gradients of a model's loss with respect to its matrices, over stated batches of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError
from repsim_nb.models import Model, Window
from repsim_nb.models.model import not_finite
from repsim_nb.stitching.ground import sample_windows
from repsim_nb.stitching.task import KINDS, Task
from repsim_nb.system.progress import steps

CHEAPER = "Cheaper: fewer batches (n_batches), smaller ones (batch_size) or shorter text (length)."
LENGTH = 512  # most tokens of a sequence unless told otherwise


@dataclass(frozen=True)
class Batches:
    """Batches of sequences, disjoint, and the loss on them.

    Attributes
    ----------
    task
        What is predicted: the next token, or the label.
    corpus
        The text, loaded.
    windows
        The sequences of every batch.
    length
        Most tokens of a sequence.
    """

    task: Task
    corpus: Corpus
    windows: tuple[tuple[Window, ...], ...]
    length: int

    @classmethod
    def of(cls, model: Model, corpus: Any, n_batches: int, batch_size: int, length: int | None, seed: int) -> Batches:
        """Sample n_batches * batch_size sequences, spread over documents.

        Raises
        ------
        InputError
            If the model has no loss, the corpus has too few sequences or no labels, or a number is out of range.
        """
        if model.kind not in KINDS:
            raise InputError(
                f"{model.name} is of kind {model.kind!r}, for which no loss is defined here; gradients need a "
                f"{' or '.join(KINDS)} model. Its weights can be read: of='weights'."
            )
        sizes = {"n_batches": n_batches, "batch_size": batch_size} | ({} if length is None else {"length": length})
        for name, number in sizes.items():
            least = 2 if name == "length" else 1
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise InputError(f"{name}={number!r}; expected a whole number of at least {least}.")
        if length is not None and length > model.context:
            raise InputError(f"length={length}; {model.name} reads at most {model.context} tokens.")
        length = min(model.context, LENGTH) if length is None else length
        text = load_corpus(model.made_for if corpus is None else corpus)
        task = KINDS[model.kind]([text])
        task.key(model)  # raises if the labels of model and corpus do not match
        wanted = n_batches * batch_size
        found = sample_windows(task.windows(model.windows, text, length), wanted, np.random.default_rng(seed))
        if len(found) < wanted:
            raise InputError(
                f"{text!r} has {len(found)} sequences of 2 to {length} tokens; {n_batches} batches of {batch_size} "
                f"need {wanted}. Ask for fewer, or pass more text."
            )
        batches = (tuple(found[start : start + batch_size]) for start in range(0, wanted, batch_size))
        return cls(task, text, tuple(batches), length)

    @property
    def provenance(self) -> dict[str, Any]:
        """Corpus, loss and sizes."""
        return {
            "corpus": self.corpus.provenance,
            "loss": f"mean cross-entropy in {self.task.units}",
            "n_batches": len(self.windows),
            "batch_size": len(self.windows[0]),
            "length": self.length,
            "batch_tokens": [sum(map(len, batch)) for batch in self.windows],
        }


def gradients(
    model: Model, parameters: Sequence[nn.Parameter], batches: Batches
) -> Iterator[dict[nn.Parameter, Tensor]]:
    """For every batch, parameter -> gradient of the batch's mean loss.

    Sequences run one by one and their gradients are summed in float32, so memory does not grow with the batch and none
    of them is padded. Dropout is off.

    Raises
    ------
    InputError
        If a gradient has values that are not finite, or nothing is predicted in a batch.
    """
    windows = [window for batch in batches.windows for window in batch]
    size, lengths = len(batches.windows[0]), [len(window) for window in windows]
    watched = steps(windows, f"gradients of {model.name}", "token", sizes=lengths, cheaper=CHEAPER)
    for number, window in enumerate(watched, 1):
        if number % size == 1 or size == 1:
            sums, predictions = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters], 0
        predictions += _add(sums, model, parameters, window, batches)
        if number % size == 0:
            if not predictions:
                raise InputError(f"Batch {number // size} has nothing to predict: no sequence has two tokens of text.")
            for total in sums:
                total /= predictions
                if not total.isfinite().all():
                    raise not_finite(model, f"in its gradients of batch {number // size}")
            yield dict(zip(parameters, sums, strict=True))


def _add(
    sums: Sequence[Tensor], model: Model, parameters: Sequence[nn.Parameter], window: Window, batches: Batches
) -> int:
    """Add the gradients of a sequence's summed loss to `sums`; return its number of predictions."""
    batch = model.collate([window])
    answers = batches.task.answers(batch, batches.corpus)
    if len(answers):
        with differentiable(parameters):
            nats = batches.task.nats(model, model.logits(batch), batch, answers)
            found = torch.autograd.grad(nats.sum(), parameters)
        for total, gradient in zip(sums, found, strict=True):
            total += gradient
    return len(answers)


@contextmanager
def differentiable(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside this context, losses have gradients with respect to `parameters`."""
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter, needed in zip(parameters, before, strict=True):
            parameter.requires_grad_(needed)
