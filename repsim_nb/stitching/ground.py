"""Which documents stitches are fitted on, stopped by and reported on, and what models make of them, computed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError
from repsim_nb.models import Batch, Model, Window
from repsim_nb.models.batch import Windows

PARTS = ("fit", "stop", "report")
MATCHED = 2**16  # tokens that a least-squares fit reads; a gradient needs more
SEQUENCES = 8  # per batch
HELD = 2**30  # bytes of activations kept for the next stitch
STOP_SHARE, STOP_MOST = 0.15, 48  # of the windows to fit on, kept back to stop by


@dataclass(frozen=True)
class TokenLosses:
    """Losses of single predicted tokens, in nats.

    Attributes:
        nats: (tokens,) float32.
        document: index into the corpus, (tokens,).
    """

    nats: np.ndarray
    document: np.ndarray

    @property
    def mean(self) -> float:
        """Nats per token."""
        return float(self.nats.mean(dtype=np.float64))


class Ground:
    """Windows of three sets of documents that share none, batched, and the activations of models on them.

    Args:
        corpus: a named corpus gives its split "validation" to fit on and "test" to report on; other documents are
            divided at random, two thirds to fit on.
        tokenizing: the model whose tokenizer cuts the texts.
        length: longest window in tokens.
        n_fit, n_report: how many windows, from as many documents as there are. Those to stop by are taken from n_fit.
        seed: of the choice.

    Attributes:
        windows: part -> windows; "fit" for the gradient, some of them also "match" for least squares, "stop", "report".
        corpora: part -> the corpus that its windows index.
    """

    def __init__(
        self,
        corpus: Corpus | str | Sequence[str] | None,
        tokenizing: Model,
        length: int,
        n_fit: int,
        n_report: int,
        seed: int,
    ) -> None:
        self.tokenizing, self.length, self.seed = tokenizing, length, seed
        fit, report = _divided(corpus, seed)
        rng = np.random.default_rng([seed, 1])
        windows = _spread(_windows(tokenizing.windows, fit.texts, length), n_fit, rng)
        stopping = _some_documents(windows, min(STOP_SHARE * len(windows), STOP_MOST), rng)
        self.corpora = {"fit": fit, "match": fit, "stop": fit, "report": report}
        self.windows = {
            "fit": [w for w in windows if w.text not in stopping],
            "stop": [w for w in windows if w.text in stopping],
            "report": _spread(
                _windows(tokenizing.windows, report.texts, length), n_report, np.random.default_rng([seed, 2])
            ),
        }
        for part in PARTS:
            if not self.windows[part]:
                raise InputError(
                    f"{fit!r} has too few documents to fit on some, stop by others and report on others again; "
                    "give at least ten documents of some length."
                )
        lengths = np.cumsum([len(w) for w in self.windows["fit"]])
        self.windows["match"] = self.windows["fit"][: 1 + int(np.searchsorted(lengths, MATCHED))]
        self._held: OrderedDict[tuple[str, int, str], list[Tensor]] = OrderedDict()
        self._losses: dict[tuple[str, int | None], TokenLosses] = {}

    @cached_property
    def batches(self) -> dict[str, list[Batch]]:
        """The batches of each part, windows of like length together."""
        gathered = {}
        for part, windows in self.windows.items():
            ordered = sorted(windows, key=len)
            starts = range(0, len(ordered), SEQUENCES)
            gathered[part] = [self.tokenizing.collate(ordered[i : i + SEQUENCES]) for i in starts]
        return gathered

    @property
    def provenance(self) -> dict[str, Any]:
        """Documents, windows and seed."""
        about = {part: self.corpora[part].provenance for part in ("fit", "report")}
        counts = {f"{part}_sequences": len(self.windows[part]) for part in PARTS}
        return {"corpora": about, **counts, "window_length": self.length, "seed": self.seed}

    def hidden(self, model: Model, layer: int, part: str) -> Sequence[Tensor]:
        """The residual stream of `model` at `layer`, (sequences, length, d_model) for every batch of `part`.

        Kept for the next stitch as far as memory is set aside for it, computed batch by batch otherwise.
        """
        key = (model.weights_sha256, layer, part)
        if key not in self._held:
            computed = _Computed(model, layer, self.batches[part])
            if computed.nbytes > HELD:
                return computed
            self._held[key] = list(computed)
            while sum(t.nbytes for tensors in self._held.values() for t in tensors) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def losses_of(self, receiver: Model) -> TokenLosses:
        """The receiver's own losses on the documents to report on."""
        key = (receiver.weights_sha256, None)
        if key not in self._losses:
            with torch.no_grad():
                self._losses[key] = self.losses(receiver.logits(_on(receiver, b)) for b in self.batches["report"])
        return self._losses[key]

    def losses_of_mean(self, receiver: Model, into: int) -> TokenLosses:
        """Losses of the receiver when position `into` holds its mean activation everywhere."""
        key = (receiver.weights_sha256, into)
        if key not in self._losses:
            matched = zip(self.hidden(receiver, into, "match"), self.batches["match"], strict=True)
            mean = torch.cat([hidden[batch.mask] for hidden, batch in matched]).mean(0)
            with torch.no_grad():
                self._losses[key] = self.losses(
                    upper(receiver, mean.expand(*batch.ids.shape, -1), into, batch) for batch in self.batches["report"]
                )
        return self._losses[key]

    def losses(self, logits: Iterable[Tensor]) -> TokenLosses:
        """Losses behind the logits of every batch to report on, in order."""
        batches = self.batches["report"]
        nats = [token_losses(of, b).cpu()[targets(b)] for of, b in zip(logits, batches, strict=True)]
        document = [b.texts[:, None].expand(b.ids[:, 1:].shape)[targets(b)] for b in batches]
        return TokenLosses(torch.cat(nats).numpy(), torch.cat(document).numpy())

    @cached_property
    def document_bytes(self) -> dict[int, int]:
        """UTF-8 bytes of the text that is predicted, by document of the part to report on."""
        total: dict[int, int] = {}
        for window in self.windows["report"]:
            text = self.corpora["report"].texts[window.text]
            ends = window.offsets[window.offsets[:, 1] > window.offsets[:, 0]]
            if len(window) > len(ends):  # a special token in front: the first of the text is predicted too
                start = ends[0, 0]
            else:
                start = ends[0, 1]
            total[window.text] = total.get(window.text, 0) + len(text[start : ends[-1, 1]].encode())
        return total


def upper(receiver: Model, hidden: Tensor, into: int, batch: Batch) -> Tensor:
    """Logits of the receiver with `hidden` at position `into`."""
    batch = _on(receiver, batch)
    return receiver.head(receiver.run(hidden, into, receiver.n_layers, batch), batch)


def targets(batch: Batch) -> Tensor:
    """Which tokens are predicted: all that stand for text and have one before, bool (sequences, length - 1)."""
    return batch.carries_text[:, 1:] & batch.mask[:, 1:].cpu()


def token_losses(logits: Tensor, batch: Batch) -> Tensor:
    """Nats of every next token, (sequences, length - 1); what is no target has a value all the same."""
    wanted = batch.ids[:, 1:].to(logits.device)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), wanted.flatten(), reduction="none").view(wanted.shape)


def _on(model: Model, batch: Batch) -> Batch:
    return batch.to(model.device)


class _Computed(Sequence[Tensor]):
    """Activations that are computed when asked for."""

    def __init__(self, model: Model, layer: int, batches: Sequence[Batch]) -> None:
        self.model, self.layer, self.batches = model, layer, batches

    @property
    def nbytes(self) -> int:
        """What all of them would take."""
        return sum(b.ids.numel() for b in self.batches) * self.model.d_model * self.model.dtype.itemsize

    def __len__(self) -> int:
        return len(self.batches)

    @torch.no_grad()
    def __getitem__(self, index: Any) -> Any:
        batch = _on(self.model, self.batches[index])
        return self.model.run(self.model.embed(batch), 0, self.layer, batch)


def _divided(corpus: Corpus | str | Sequence[str] | None, seed: int) -> tuple[Corpus, Corpus]:
    """Documents to fit on and to report on."""
    if corpus is None or corpus == "python-docs":
        return load_corpus("python-docs", split="validation"), load_corpus("python-docs", split="test")
    whole = load_corpus(corpus)
    order = np.random.default_rng([seed, 0]).permutation(len(whole))
    cut = 2 * len(whole) // 3
    return whole.take(sorted(order[:cut])), whole.take(sorted(order[cut:]))


@lru_cache(maxsize=4)
def _windows(cut: Windows, texts: tuple[str, ...], length: int) -> list[Window]:
    """Stitches one after another read the same texts."""
    return cut(texts, length)


def _spread(windows: list[Window], wanted: int, rng: np.random.Generator) -> list[Window]:
    """At most `wanted` windows, documents taking turns, in random order."""
    turns: dict[int, int] = {}
    ranked = []
    for i in rng.permutation(len(windows)):
        if len(windows[i]) < 2:
            continue
        turn = turns[windows[i].text] = turns.get(windows[i].text, 0) + 1
        ranked.append((turn, i))
    return [windows[i] for _, i in sorted(ranked, key=lambda pair: pair[0])[:wanted]]


def _some_documents(windows: list[Window], wanted: float, rng: np.random.Generator) -> set[int]:
    """Random documents that have about `wanted` windows, never all documents."""
    documents, counts = np.unique([w.text for w in windows], return_counts=True)
    order = rng.permutation(len(documents))[:-1]
    enough = 1 + np.searchsorted(np.cumsum(counts[order]), wanted)
    return set(documents[order[:enough]].tolist())
