"""Tasks: what a kind of model predicts, its loss and its accuracy. The only place where kinds of models differ."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim_nb.corpora import Corpus
from repsim_nb.corpora.nli_heuristics import LABELS
from repsim_nb.errors import InputError
from repsim_nb.models import Batch, Model, Window
from repsim_nb.models.batch import Windows
from repsim_nb.models.classifier import ClassifierModel
from repsim_nb.stitching.shared import SharedBatch

ENTAILMENT, NON_ENTAILMENT = LABELS
SEQUENCES = 8  # windows of running text per batch
PADDED = 1.25  # most positions of a batch, relative to its tokens, where nothing depends on what a batch holds
EXAMPLES = 64  # per gradient step
TOKENS = 8192  # per batch of examples, padding included


@dataclass(frozen=True)
class Losses:
    """Losses of single predictions.

    Attributes
    ----------
    nats
        Loss of each prediction, float32 (predictions,).
    right
        Whether the most likely choice is correct, bool (predictions,).
    document
        Index of its document in the corpus, (predictions,).
    """

    nats: np.ndarray
    right: np.ndarray
    document: np.ndarray

    @property
    def mean(self) -> float:
        """Mean loss in nats per prediction."""
        return float(self.nats.mean(dtype=np.float64))

    @property
    def accuracy(self) -> float:
        """Share of correct predictions."""
        return float(self.right.mean())

    def by_document(self) -> pd.DataFrame:
        """Sums per document (index: its number): predictions, nats, right."""
        index, place, predictions = np.unique(self.document, return_inverse=True, return_counts=True)
        nats, right = (np.bincount(place, weights=values) for values in (self.nats, self.right))
        return pd.DataFrame({"predictions": predictions, "nats": nats, "right": right.astype(int)}, index=index)


class Task(ABC):
    """What is predicted for a text, and its loss.

    Attributes
    ----------
    noun
        The unit of prediction, "token" or "example".
    n_report
        Default number of windows to report on.
    stop_most
        Maximum number of windows for early stopping.
    corpora
        The corpora whose texts are used.
    """

    noun: str
    n_report: int
    stop_most: float

    def __init__(self, corpora: Iterable[Corpus]) -> None:
        self.corpora = list(corpora)

    @property
    def units(self) -> str:
        """Unit of losses and penalties."""
        return f"nats per {self.noun}"

    @abstractmethod
    def windows(self, cut: Windows, corpus: Corpus, length: int) -> list[Window]:
        """Cut a corpus into the windows that models read.

        Raises
        ------
        InputError
            If the task is undefined for one of the documents.
        """

    @abstractmethod
    def groups(self, windows: list[Window], part: str) -> list[list[Window]]:
        """Group the windows of a part into batches."""

    @abstractmethod
    def key(self, model: Model) -> str:
        """A key that is equal for two models if equal logits give equal losses.

        Raises
        ------
        InputError
            If the model cannot do this task.
        """

    @abstractmethod
    def answers(self, batch: Batch, corpus: Corpus) -> Tensor:
        """The correct choices as indices, int64 (predictions,)."""

    @abstractmethod
    def documents(self, batch: Batch) -> Tensor:
        """The document of each prediction, (predictions,)."""

    @abstractmethod
    def scores(self, model: Model, logits: Tensor, batch: Batch) -> Tensor:
        """Unnormalised log-probabilities of the choices, (predictions, choices)."""

    @abstractmethod
    def guesses(self, model: Model, logits: Tensor, batch: Batch) -> Tensor:
        """The model's most likely choices as indices, int64 (predictions,)."""

    @abstractmethod
    def shown(self, batches: Sequence[Batch], corpus: Corpus, index: np.ndarray) -> list[dict[str, Any]]:
        """Describe the predictions at `index` (counted over all batches) for a reader."""

    @abstractmethod
    def prediction(self, logits: Mapping[str, tuple[Model, Tensor, Batch]], top: int) -> pd.DataFrame:
        """Tabulate what models predict for one text; `logits` maps heading -> (model, logits, batch)."""

    def nats(self, model: Model, logits: Tensor, batch: Batch, answers: Tensor) -> Tensor:
        """Cross-entropy of the correct choices, (predictions,)."""
        scores = self.scores(model, logits, batch).float()
        return F.cross_entropy(scores, answers.to(scores.device), reduction="none")

    def judged(self, model: Model, logits: Tensor, batch: Batch, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the correct choices, and whether they are the most likely ones, both (predictions,)."""
        return self.nats(model, logits, batch, answers), self.guesses(model, logits, batch).cpu() == answers

    def losses(self, model: Model, logits: Iterable[Tensor], batches: Sequence[Batch], corpus: Corpus) -> Losses:
        """Losses from the logits of every batch, in order."""
        nats, right = [], []
        for of, batch in zip(logits, batches, strict=True):
            loss, chosen = self.judged(model, of, batch, self.answers(batch, corpus))
            nats.append(loss.cpu())
            right.append(chosen.cpu())
        document = torch.cat([self.documents(b) for b in batches])
        return Losses(torch.cat(nats).numpy(), torch.cat(right).numpy(), document.numpy())


class NextToken(Task):
    """Next-token prediction, for every text token that has a predecessor."""

    noun = "token"
    n_report = 192
    stop_most = 48

    def windows(self, cut: Windows, corpus: Corpus, length: int) -> list[Window]:
        """Windows of the texts; for pairs, of the first text."""
        return _windows(cut, corpus.texts, length)

    def groups(self, windows: list[Window], part: str) -> list[list[Window]]:
        """Group windows of similar length; a gradient step always sees `SEQUENCES` of them."""
        return _groups(sorted(windows, key=len), SEQUENCES, padded=None if part == "fit" else PADDED)

    def key(self, model: Model) -> str:
        """Empty: losses depend on the logits alone."""
        return ""

    def answers(self, batch: Batch, corpus: Corpus) -> Tensor:
        """The actual next token ids."""
        return batch.ids[:, 1:].cpu()[predicted(batch)]

    def documents(self, batch: Batch) -> Tensor:
        """The document of every token."""
        return batch.texts[:, None].expand(batch.ids[:, 1:].shape)[predicted(batch)]

    def scores(self, model: Model, logits: Tensor, batch: Batch) -> Tensor:
        """Logits at every position that a predicted token follows."""
        return logits[:, :-1][predicted(batch).to(logits.device)]

    def judged(self, model: Model, logits: Tensor, batch: Batch, answers: Tensor) -> tuple[Tensor, Tensor]:
        """As in `Task`, in two passes over the logits: a vocabulary is wide, and tables have many cells."""
        wide, chosen = logits.float(), predicted(batch).to(logits.device)
        most = wide.amax(-1, keepdim=True)
        total = (wide - most).exp_().sum(-1).log_()
        place = torch.zeros(chosen.shape, dtype=torch.int64, device=wide.device)
        place[chosen] = answers.to(wide.device)
        least = most[:, :-1, 0] - wide[:, :-1].gather(-1, place[..., None]).squeeze(-1)
        right = (least == 0) & chosen
        right[right.clone()] = wide[:, :-1][right].argmax(-1) == place[right]  # of equal logits the first is the guess
        return (least + total[:, :-1])[chosen], right[chosen]

    def guesses(self, model: Model, logits: Tensor, batch: Batch) -> Tensor:
        """The most likely next tokens."""
        return logits[:, :-1].argmax(-1)[predicted(batch).to(logits.device)]

    def shown(self, batches: Sequence[Batch], corpus: Corpus, index: np.ndarray) -> list[dict[str, Any]]:
        """Tokens with the text in front of them."""
        spans = np.concatenate([b.offsets[:, 1:][predicted(b)].numpy() for b in batches])[index]
        texts = [corpus.texts[i] for i in torch.cat([self.documents(b) for b in batches]).numpy()[index]]
        return [
            {"before": text[max(0, start - 40) : start], "token": text[start:end]}
            for text, (start, end) in zip(texts, spans, strict=True)
        ]

    def prediction(self, logits: Mapping[str, tuple[Model, Tensor, Batch]], top: int) -> pd.DataFrame:
        """The most likely next tokens, one line per rank."""
        columns = {}
        for name, (model, of, batch) in logits.items():
            last = int(batch.mask[-1].sum()) - 1
            values, ids = of[-1, last].float().softmax(-1).cpu().topk(top)
            columns[name, "token"] = [repr(model.tokenizer.decode([i])) for i in ids.tolist()]
            columns[name, "probability"] = values.tolist()
        return pd.DataFrame(columns, index=pd.RangeIndex(1, top + 1, name="rank"))


class Classification(Task):
    """Classification: the label of every document, which is one example (a text or a pair of texts).

    Raises
    ------
    InputError
        If a corpus has no labels.
    """

    noun = "example"
    n_report = 1024
    stop_most = float("inf")

    def __init__(self, corpora: Iterable[Corpus]) -> None:
        super().__init__(corpora)
        for corpus in self.corpora:
            if corpus.labels is None:
                raise InputError(
                    f"{corpus!r} has no labels, and stitching classifiers needs them. Pass a labelled Corpus, or leave "
                    "corpus out to use nli-heuristics."
                )
        self.labels = sorted({label for corpus in self.corpora for label in corpus.labels or ()})

    def windows(self, cut: Windows, corpus: Corpus, length: int) -> list[Window]:
        """One window per text or pair."""
        windows = _windows(cut, corpus.inputs, length)
        pieces = np.bincount(np.array([w.text for w in windows], dtype=int), minlength=len(corpus))
        if (pieces != 1).any():
            raise InputError(
                f"Document {corpus.documents[np.flatnonzero(pieces != 1)[0]]!r} is empty or longer than the {length} "
                "tokens that fit, and examples are not split. Shorten it or leave it out."
            )
        return windows

    def groups(self, windows: list[Window], part: str) -> list[list[Window]]:
        """Group by similar length, except for gradient steps: length correlates with the type of example."""
        return (
            _groups(windows, EXAMPLES, TOKENS) if part == "fit" else _groups(sorted(windows, key=len), TOKENS, TOKENS)
        )

    def key(self, model: Model) -> str:
        """The label that each class counts as."""
        return json.dumps(self.counted(model))

    def counted(self, model: Model) -> list[str]:
        """The corpus label that each class of a model counts as.

        Classes keep their own labels if the model has all labels of the corpus. For a corpus of entailment and
        non-entailment, all classes of a larger model except "entailment" count as non-entailment (McCoy, Pavlick and
        Linzen 2019).

        Raises
        ------
        InputError
            If the labels of model and corpus do not match.
        """
        assert isinstance(model, ClassifierModel)
        if set(self.labels) <= set(model.labels):
            return model.labels
        if set(self.labels) <= set(LABELS) and ENTAILMENT in model.labels:
            return [label if label == ENTAILMENT else NON_ENTAILMENT for label in model.labels]
        raise InputError(
            f"The corpus has the labels {', '.join(self.labels)}; {model.name} has {', '.join(model.labels)}. "
            "If only the names differ, set them in the order of the logits: "
            f"model = load_model(...); model.labels = [...] ({len(model.labels)} names)."
        )

    def choices(self, model: Model) -> list[str]:
        """The labels of the corpus, then any others that the model's classes count as."""
        return list(dict.fromkeys([*self.labels, *self.counted(model)]))

    def answers(self, batch: Batch, corpus: Corpus) -> Tensor:
        """Indices into the labels."""
        labels = corpus.labels or ()
        return torch.tensor([self.labels.index(labels[i]) for i in batch.texts.tolist()])

    def documents(self, batch: Batch) -> Tensor:
        """One document per sequence."""
        return batch.texts

    def scores(self, model: Model, logits: Tensor, batch: Batch) -> Tensor:
        """Log of the summed exponentiated logits of all classes that count as a choice."""
        counted = np.array(self.counted(model))
        classes = [np.flatnonzero(counted == choice).tolist() for choice in self.choices(model)]
        return torch.stack([logits[:, c].logsumexp(-1) for c in classes], -1)

    def guesses(self, model: Model, logits: Tensor, batch: Batch) -> Tensor:
        """The label that the model's most likely class counts as."""
        choices = self.choices(model)
        places = torch.tensor([choices.index(name) for name in self.counted(model)], device=logits.device)
        return places[logits.argmax(-1)]

    def shown(self, batches: Sequence[Batch], corpus: Corpus, index: np.ndarray) -> list[dict[str, Any]]:
        """Texts or pairs with label and case."""
        columns = {"premise" if corpus.second_texts else "text": corpus.texts, "hypothesis": corpus.second_texts}
        columns |= {"label": corpus.labels, "case": corpus.cases}
        documents = torch.cat([b.texts for b in batches]).numpy()[index]
        return [{name: column[i] for name, column in columns.items() if column is not None} for i in documents]

    def prediction(self, logits: Mapping[str, tuple[Model, Tensor, Batch]], top: int) -> pd.DataFrame:
        """Probabilities of all choices."""
        columns = {
            name: pd.Series(self.scores(model, of, batch)[0].float().softmax(-1).cpu(), self.choices(model))
            for name, (model, of, batch) in logits.items()
        }
        return pd.DataFrame(columns).rename_axis("label")


KINDS: dict[str, Callable[[Iterable[Corpus]], Task]] = {"causal": NextToken, "classifier": Classification}


@lru_cache(maxsize=4)
def _windows(cut: Windows, texts: tuple[Any, ...], length: int) -> list[Window]:
    """Cached, because consecutive stitches read the same texts."""
    return list(cut(texts, length))


def _groups(
    windows: list[Window], sequences: int, tokens: float = float("inf"), padded: float | None = None
) -> list[list[Window]]:
    """Group windows in order, limiting sequences and padded tokens per group; a group has at least one window.

    `padded` limits the padded tokens relative to those of the windows.
    """
    groups: list[list[Window]] = []
    longest = held = 0
    for window in windows:
        longest, held = max(longest, len(window)), held + len(window)
        most = tokens if padded is None else min(tokens, padded * held)
        if not groups or len(groups[-1]) == sequences or longest * (len(groups[-1]) + 1) > most:
            groups.append([])
            longest = held = len(window)
        groups[-1].append(window)
    return groups


def predicted(batch: Batch) -> Tensor:
    """Mask of predicted tokens, bool (sequences, length - 1): the first token is never predicted.

    All text tokens are predicted; with several tokenizers, only those before which all have read the same text.
    """
    text = batch.carries_text[:, 1:] & batch.mask[:, 1:].cpu()
    return text & batch.shared[:, :-1] if isinstance(batch, SharedBatch) else text
