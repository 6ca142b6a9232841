"""Hugging Face sequence classifiers (BERT, RoBERTa, DistilBERT and similar), run in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch
from repsim_nb.models.encoder import EncoderModel
from repsim_nb.models.model import Model


class ClassifierModel(EncoderModel):
    """An encoder with a classification head (pooler, if any, and classifier): logits (sequences, classes)."""

    kind = "classifier"
    made_for = "nli-heuristics"

    @property
    def labels(self) -> list[str]:
        """Names of the classes in the order of the logits. Set them if a checkpoint only has LABEL_0 and so on.

        Raises
        ------
        InputError
            If set to anything other than one distinct name per class.
        """
        names: Any = self.module.config.id2label
        return [names[i] for i in range(len(names))]

    @labels.setter
    def labels(self, names: Sequence[str]) -> None:
        classes = len(self.labels)
        if isinstance(names, str) or len(names) != classes or len(set(names)) != classes:
            raise InputError(
                f"labels={names!r}; {self.name} has {classes} classes, so expected a list of {classes} distinct names."
            )
        self.module.config.id2label = dict(enumerate(names))
        self.module.config.label2id = {name: i for i, name in enumerate(names)}

    @property
    def _described(self) -> dict[str, Any]:
        return super()._described | {"labels": self.labels}

    def pooled(self, batch: Batch) -> Bool[Tensor, "sequences length"]:
        """Mask of the tokens that rows="mean" averages over: those that stand for text."""
        return Model.pooled(self, batch)
