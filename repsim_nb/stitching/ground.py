"""Documents for fitting, early stopping and reporting, and cached activations and losses of models on them."""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from repsim_nb.activations.selection import check_coverage
from repsim_nb.corpora import Corpus, list_corpora, load_corpus
from repsim_nb.errors import InputError
from repsim_nb.models import Batch, Model, Window
from repsim_nb.models.identity import UntraceableError
from repsim_nb.models.neutral import NEUTRAL
from repsim_nb.stitching.shared import collated, states_at_receiver, stretches, window_of
from repsim_nb.stitching.task import KINDS, Losses, Task, predicted
from repsim_nb.system.progress import steps

PARTS = ("fit", "stop", "report")
MATCH_TOKENS = 2**16  # used by a least-squares fit; a gradient fit needs more
CACHE_BYTES = 2**30  # of activations kept for the next stitch
CACHE_BYTES_PER_PASS = CACHE_BYTES // 4  # kept from one pass, so that other models are not evicted
LESS_TEXT = "Cheaper: less text (n_fit, n_report)."  # for passes that every fit needs
CHEAPER = "Cheaper: less text (n_fit, n_report), or fit='least_squares'."
STOP_SHARE = 0.15  # of the fit windows, held out for early stopping


class Joint(Protocol):
    """The layers of two models that a stitch joins."""

    @property
    def sender(self) -> Model: ...  # noqa: D102
    @property
    def receiver(self) -> Model: ...  # noqa: D102
    @property
    def layer(self) -> int: ...  # noqa: D102
    @property
    def into(self) -> int: ...  # noqa: D102


class Ground:
    """Windows from three disjoint sets of documents, batched, with cached activations of models on them.

    Parameters
    ----------
    corpus
        The text. None means the corpus that the models were made for. A named corpus uses its split "validation" for
        fitting and "test" for reporting; other documents are split at random, two thirds for fitting.
    models
        All models that will be used. The kind of the first one sets the task. Windows are as long as the shortest
        context of the models with the same tokenizer; for several tokenizers see `shared`.
    n_fit, n_report
        Number of windows, spread over as many documents as possible. Windows for early stopping come out of n_fit;
        n_report=None takes the default of the task.
    seed
        Seed for the split and the sample of windows.
    fits
        Whether anything is fitted; otherwise all documents are for reporting.
    seams
        The stitches to come. Layers of one model that they need are computed together.

    Attributes
    ----------
    task
        What is predicted.
    windows
        Part -> windows: "fit" for gradient steps, a subset of it "match" for least squares, "stop" and "report".
    corpora
        Part -> the corpus that its windows index.
    matched
        The part used for means and least squares.
    coverage
        Share of the coarsest tokenizer's token boundaries that all tokenizers have in common; 1 for one tokenizer.

    Raises
    ------
    InputError
        If there are too few documents, or the tokenizers share too few token boundaries.
    """

    def __init__(
        self,
        corpus: Corpus | str | Sequence[str] | None,
        models: Sequence[Model],
        n_fit: int,
        n_report: int | None,
        seed: int,
        fits: bool = True,
        seams: Sequence[Joint] = (),
    ) -> None:
        self.models, self.seed, self.seams = list(models), seed, seams
        self.corpora = _split_corpus(models[0].made_for if corpus is None else corpus, seed, fits)
        self.task: Task = KINDS[models[0].kind](self.corpora.values())
        self.matched = "match" if fits else "report"
        self.coverage = 1.0
        self._batches: dict[tuple[Any, ...], dict[str, list[Batch]]] = {}
        self.windows: dict[str, list[Window]] = {}
        if fits:
            self._choose_fit_windows(n_fit)
        report = self._cut("report")
        wanted = self.task.n_report if n_report is None else n_report
        self.windows["report"] = sample_windows(report, wanted, np.random.default_rng([seed, 2]))
        if not all(self.windows.values()):
            raise InputError(
                f"{self.corpora['report']!r} has too few documents for separate fit, early-stopping and report sets. "
                "Use at least ten documents with more than a few tokens."
            )
        self._cache: OrderedDict[tuple[str, int, str], list[Tensor]] = OrderedDict()
        self._means: dict[tuple[str, int], Tensor] = {}
        self._losses: dict[tuple[str, str, int | None], Losses] = {}
        self._identities: dict[int, tuple[Model, str]] = {}  # holds the model too, so that its id is not reused

    def _choose_fit_windows(self, n_fit: int) -> None:
        rng = np.random.default_rng([self.seed, 1])
        windows = sample_windows(self._cut("fit"), n_fit, rng)
        stopping = _sample_documents(windows, min(STOP_SHARE * len(windows), self.task.stop_most), rng)
        self.windows = {
            "fit": [w for w in windows if w.text not in stopping],
            "stop": [w for w in windows if w.text in stopping],
        }
        lengths = np.cumsum([len(w) for w in self.windows["fit"]])
        self.windows["match"] = self.windows["fit"][: 1 + int(np.searchsorted(lengths, MATCH_TOKENS))]

    def identity(self, model: Model) -> str:
        """A key that is equal for models with the same values, computed when first needed.

        A model that cannot be hashed gets a key that is unique to it and to this process.
        """
        if id(model) not in self._identities:
            try:
                own = model.fingerprint()
            except UntraceableError:
                own = f"{os.getpid()} {time.time_ns()}"
            self._identities[id(model)] = model, own
        return self._identities[id(model)][1]

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Maximum window length in tokens, by the key of each tokenizer."""
        keys = dict.fromkeys(model.windows.text_key for model in self.models)
        return {key: min(m.context for m in self.models if m.windows.text_key == key) for key in keys}

    def _cut(self, part: str) -> list[Window]:
        """All windows of a part with the first model's tokenizer, or shared stretches for several tokenizers."""
        corpus, (length, *_) = self.corpora[part], self.lengths.values()
        if len(self.lengths) == 1:
            return self.task.windows(self.models[0].windows, corpus, length)
        firsts = [next(m for m in self.models if m.windows.text_key == key) for key in self.lengths]
        windows, shared, places = stretches(
            tuple(m.windows for m in firsts), tuple(self.lengths.values()), corpus.texts
        )
        self.coverage = check_coverage(firsts, places, shared)
        return list(windows)

    def batches_of(self, model: Model) -> dict[str, list[Batch]]:
        """The batches of each part, with the tokenizer of `model`."""
        key = model.windows.text_key, model.pad, "token_type_ids" in model.tokenizer.model_input_names
        if key not in self._batches:
            self._batches[key] = {
                part: [
                    collated(model, group)
                    for together in self._batchable(windows)
                    for group in self.task.groups(together, part)
                ]
                for part, windows in self.windows.items()
            }
        return self._batches[key]

    def _batchable(self, windows: list[Window]) -> list[list[Window]]:
        """Split windows into parts that may share batches: one part, unless batching changes a model's values."""
        if all(model.neutral == NEUTRAL for model in self.models):
            return [windows]
        parts: dict[tuple[int, ...], list[Window]] = {}
        for number, window in enumerate(windows):
            apart = tuple(model.neutral.apart(len(window_of(model, window)), number) for model in self.models)
            parts.setdefault(apart, []).append(window)
        return list(parts.values())

    @property
    def provenance(self) -> dict[str, Any]:
        """Documents, windows and seed; for several tokenizers also their hashes and window lengths."""
        parts = [part for part in PARTS if part in self.windows]
        about = {part: self.corpora[part].provenance for part in parts if part != "stop"}
        counts = {f"{part}_sequences": len(self.windows[part]) for part in parts}
        lengths = {hashlib.sha256(key.encode()).hexdigest()[:16]: length for key, length in self.lengths.items()}
        length = next(iter(lengths.values())) if len(lengths) == 1 else lengths
        several = {"coverage": self.coverage} if len(lengths) > 1 else {}
        return {"corpora": about, **counts, "window_length": length, **several, "seed": self.seed}

    def hidden(self, model: Model, layer: int, part: str) -> Sequence[Tensor]:
        """The residual stream of `model` at `layer`, (sequences, length, d_model) for every batch of `part`.

        Cached for the next stitch if it fits the cache, else computed batch by batch.
        """
        key = (self.identity(model), layer, part)
        if key not in self._cache:
            computed = _LazyActivations(model, layer, self.batches_of(model)[part])
            if computed.nbytes > CACHE_BYTES:
                return computed
            wanted = [layer, *self._needed_too(model, layer, part)]
            self._cache_pass(model, wanted[: max(1, CACHE_BYTES_PER_PASS // computed.nbytes)], part)
            while sum(t.nbytes for tensors in self._cache.values() for t in tensors) > CACHE_BYTES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _needed_too(self, model: Model, layer: int, part: str) -> list[int]:
        """Other layers that the stitches need, those after `layer` first; the top only for losses, which come last."""
        others = self._needs.get(self.identity(model), set()) - {layer}
        judged = part == "report" and any(self.identity(seam.receiver) == self.identity(model) for seam in self.seams)
        top = {model.n_layers} - {layer, *others} if judged else ()
        return [*sorted(others, key=lambda other: (other < layer, other)), *top]

    @cached_property
    def _needs(self) -> dict[str, set[int]]:
        needs: dict[str, set[int]] = {}
        for seam in self.seams:
            for model, layer in ((seam.sender, seam.layer), (seam.receiver, seam.into)):
                needs.setdefault(self.identity(model), set()).add(layer)
        return needs

    @torch.no_grad()
    def _cache_pass(self, model: Model, layers: Sequence[int], part: str) -> None:
        """Run the model once and cache several layers, the first one last so that it is evicted last."""
        kept: dict[int, list[Tensor]] = {layer: [] for layer in reversed(layers)}
        batches = self.batches_of(model)[part]
        for batch in steps(batches, f"{model.name}, {part}", "token", sizes=_tokens(batches), cheaper=LESS_TEXT):
            model.residuals(_on(model, batch), layers, lambda layer, hidden: kept[layer].append(hidden))
        self._cache.update({(self.identity(model), layer, part): tensors for layer, tensors in kept.items()})

    @torch.no_grad()
    def losses_of(self, receiver: Model) -> Losses:
        """The receiver's own losses on the report documents."""
        key = (self.identity(receiver), self.task.key(receiver), None)
        if key not in self._losses:
            top = receiver.n_layers
            given = zip(self.hidden(receiver, top, "report"), self.batches_of(receiver)["report"], strict=True)
            self._losses[key] = self.losses(receiver, (logits_from(receiver, h, top, b) for h, b in given))
        return self._losses[key]

    @torch.no_grad()
    def losses_of_mean(self, receiver: Model, into: int) -> Losses:
        """Losses of the receiver with layer `into` replaced by its mean activation at every position."""
        key = (self.identity(receiver), self.task.key(receiver), into)
        if key not in self._losses:
            mean = self._mean(receiver, into)
            batches = self.batches_of(receiver)["report"]
            self._losses[key] = self.losses(receiver, _logits_of_constant(receiver, mean, into, batches))
        return self._losses[key]

    def _mean(self, model: Model, layer: int) -> Tensor:
        """Mean activation over the tokens used for fitting, (d_model,)."""
        if (self.identity(model), layer) not in self._means:
            for each in {layer} | self._needs.get(self.identity(model), set()):
                matched = zip(self.hidden(model, each, self.matched), self.batches_of(model)[self.matched], strict=True)
                rows = torch.cat([hidden[batch.mask] for hidden, batch in matched])
                self._means[self.identity(model), each] = rows.mean(0)
        return self._means[self.identity(model), layer]

    def nats(self, receiver: Model, logits: Tensor, part: str, number: int) -> Tensor:
        """Differentiable loss of every prediction in one batch, (predictions,)."""
        batch = self.batches_of(receiver)[part][number]
        return self.task.nats(receiver, logits, batch, self.task.answers(batch, self.corpora[part]))

    def losses(self, receiver: Model, logits: Iterable[Tensor]) -> Losses:
        """Losses from the logits of every report batch, in order."""
        batches = self.batches_of(receiver)["report"]
        watched = steps(logits, f"losses of {receiver.name}", "token", sizes=_tokens(batches), cheaper=LESS_TEXT)
        return self.task.losses(receiver, watched, batches, self.corpora["report"])

    def sent(self, sender: Model, layer: int, receiver: Model, part: str, shuffle: bool = False) -> Sequence[Tensor]:
        """The sender's states at the receiver's tokens, (sequences, length, d_sender) for every batch.

        With `shuffle`, its states at random other positions of the same batch.
        """
        hidden = self.hidden(sender, layer, part)
        if not shuffle and sender.windows.text_key == receiver.windows.text_key:
            return hidden
        return _SentStates(hidden, self.batches_of(sender)[part], self.batches_of(receiver)[part], self.seed, shuffle)

    def bytes_predicted(self, receiver: Model) -> int:
        """UTF-8 bytes of the predicted text in the report part."""
        if len(self.lengths) == 1:
            return sum(self._document_bytes.values())
        corpus, batches = self.corpora["report"], self.batches_of(receiver)["report"]
        return sum(
            len(corpus.texts[document][start:end].encode())
            for batch in batches
            for document, (start, end) in zip(
                self.task.documents(batch).tolist(), batch.offsets[:, 1:][predicted(batch)].tolist(), strict=True
            )
        )

    @cached_property
    def _document_bytes(self) -> dict[int, int]:
        """UTF-8 bytes of the predicted text, by report document, for one tokenizer."""
        total: dict[int, int] = {}
        for window in self.windows["report"]:
            text = self.corpora["report"].texts[window.text]
            ends = window.offsets[window.offsets[:, 1] > window.offsets[:, 0]]
            if len(window) > len(ends):  # with a leading special token the first text token is predicted too
                start = ends[0, 0]
            else:
                start = ends[0, 1]
            total[window.text] = total.get(window.text, 0) + len(text[start : ends[-1, 1]].encode())
        return total


def logits_from(receiver: Model, hidden: Tensor, into: int, batch: Batch) -> Tensor:
    """Logits of the receiver with `hidden`, in any precision, at layer `into`."""
    batch = _on(receiver, batch)
    return receiver.head(receiver.run(hidden.to(receiver.dtype), into, receiver.n_layers, batch), batch)


def _logits_of_constant(receiver: Model, row: Tensor, into: int, batches: Sequence[Batch]) -> Iterator[Tensor]:
    """Logits of the receiver with the same row at all positions, batch by batch, each length computed once.

    A causal model computes only the longest sequence: the others are its beginnings.
    """
    lengths = [batch.mask.sum(1).tolist() for batch in batches]
    longest = max(map(max, lengths))
    if receiver.kind == "causal" and receiver.neutral.cut(longest):
        place, number = next((of.index(longest), i) for i, of in enumerate(lengths) if longest in of)
        one = batches[number].take([place])
        logits = logits_from(receiver, row.expand(*one.ids.shape, -1), into, one)
        yield from (logits[:, : batch.ids.shape[1]].expand(len(batch), -1, -1) for batch in batches)
        return
    for batch, of in zip(batches, lengths, strict=True):
        last = {length: place for place, length in enumerate(of)}
        few = batch.take(list(last.values()))
        logits = logits_from(receiver, row.expand(*few.ids.shape, -1), into, few)
        order = list(last)
        yield logits[[order.index(length) for length in of]]


def _tokens(batches: Sequence[Batch]) -> list[int]:
    return [batch.ids.numel() for batch in batches]


def _on(model: Model, batch: Batch) -> Batch:
    return batch.to(model.device)


class _LazyActivations(Sequence[Tensor]):
    """Activations that are computed on access."""

    def __init__(self, model: Model, layer: int, batches: Sequence[Batch]) -> None:
        self.model, self.layer, self.batches = model, layer, batches

    @property
    def nbytes(self) -> int:
        """Bytes that all of them together would need."""
        return sum(b.ids.numel() for b in self.batches) * self.model.d_model * self.model.dtype.itemsize

    def __len__(self) -> int:
        return len(self.batches)

    @torch.no_grad()
    def __getitem__(self, index: Any) -> Any:
        batch = _on(self.model, self.batches[index])
        return self.model.run(self.model.embed(batch), 0, self.layer, batch)


class _SentStates(Sequence[Tensor]):
    """The sender's states at the receiver's tokens, aligned on access."""

    def __init__(
        self, hidden: Sequence[Tensor], own: Sequence[Batch], into: Sequence[Batch], seed: int, shuffle: bool
    ) -> None:
        self.hidden, self.own, self.into, self.seed, self.shuffle = hidden, own, into, seed, shuffle

    def __len__(self) -> int:
        return len(self.own)

    def __getitem__(self, index: Any) -> Any:
        hidden = self.hidden[index]
        if self.shuffle:
            hidden = _shuffled(hidden, self.own[index].mask.to(hidden.device), self.seed)
        return states_at_receiver(hidden, self.own[index], self.into[index])


def _shuffled(hidden: Tensor, mask: Tensor, seed: int) -> Tensor:
    rows = hidden[mask]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).to(rows.device)
    shuffled = hidden.clone()
    shuffled[mask] = rows[order]
    return shuffled


def _split_corpus(corpus: Corpus | str | Sequence[str], seed: int, fits: bool) -> dict[str, Corpus]:
    """Split the corpus into the documents of each part."""
    if isinstance(corpus, str) and corpus in list_corpora().index:
        report = load_corpus(corpus, split="test")
        return _parts(load_corpus(corpus, split="validation"), report) if fits else {"report": report}
    whole = load_corpus(corpus)
    if not fits:
        return {"report": whole}
    order = np.random.default_rng([seed, 0]).permutation(len(whole))
    cut = 2 * len(whole) // 3
    return _parts(whole.take(sorted(order[:cut])), whole.take(sorted(order[cut:])))


def _parts(fit: Corpus, report: Corpus) -> dict[str, Corpus]:
    return {"fit": fit, "match": fit, "stop": fit, "report": report}


def sample_windows(windows: list[Window], wanted: int, rng: np.random.Generator) -> list[Window]:
    """Sample at most `wanted` windows in random order, spread evenly over documents."""
    turns: dict[int, int] = {}
    ranked = []
    for i in rng.permutation(len(windows)):
        if len(windows[i]) < 2:
            continue
        turn = turns[windows[i].text] = turns.get(windows[i].text, 0) + 1
        ranked.append((turn, i))
    return [windows[i] for _, i in sorted(ranked, key=lambda pair: pair[0])[:wanted]]


def _sample_documents(windows: list[Window], wanted: float, rng: np.random.Generator) -> set[int]:
    """Sample documents that have about `wanted` windows together, never all documents."""
    documents, counts = np.unique([w.text for w in windows], return_counts=True)
    order = rng.permutation(len(documents))[:-1]
    enough = 1 + np.searchsorted(np.cumsum(counts[order]), wanted)
    return set(documents[order[:enough]].tolist())
