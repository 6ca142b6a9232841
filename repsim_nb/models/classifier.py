"""Sequence classifiers of Hugging Face (BERT, RoBERTa, DistilBERT and their like), run part by part."""

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
    """An encoder whose head is the pooler, where there is one, and the classifier: logits (sequences, classes)."""

    kind = "classifier"
    made_for = "nli-heuristics"

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of the logits; may be set where a checkpoint says only LABEL_0 and so on.

        Raises
        ------
        InputError
            Set to anything but one name for each class, all different.
        """
        names: Any = self.module.config.id2label
        return [names[i] for i in range(len(names))]

    @labels.setter
    def labels(self, names: Sequence[str]) -> None:
        classes = len(self.labels)
        if isinstance(names, str) or len(names) != classes or len(set(names)) != classes:
            raise InputError(
                f"labels={names!r}; {self.name} has {classes} classes, so expected a list of {classes} different names."
            )
        self.module.config.id2label = dict(enumerate(names))
        self.module.config.label2id = {name: i for i, name in enumerate(names)}

    @property
    def provenance(self) -> dict[str, Any]:
        """What identifies this model, names of the classes included."""
        return super().provenance | {"labels": self.labels}

    def pooled(self, batch: Batch) -> Bool[Tensor, "sequences length"]:
        """True at the tokens that rows="mean" takes the mean over: those that stand for text."""
        return Model.pooled(self, batch)
