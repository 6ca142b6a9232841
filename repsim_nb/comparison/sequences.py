"""Compare all pairs of a model family over any number of sequences, with one model in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from repsim_nb.activations import Activations, Sampling
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.result import labelled
from repsim_nb.comparison.sides import same_rows
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.measures import get_measure
from repsim_nb.models import Model, Packing, load_model
from repsim_nb.models.batch import Windows
from repsim_nb.models.sending import check_sendable
from repsim_nb.system.executor import mapped, remembered
from repsim_nb.system.memory import limit_bytes, readable_size
from repsim_nb.system.resources import Resources

if TYPE_CHECKING:
    import xarray as xr

CHARACTERS_PER_TOKEN = 8  # upper bound used to find a cut; few texts have more
SPARE_TOKENS = 8  # because a cut text may have fewer tokens
MIN_LENGTH = 4  # tokens per sequence, required by HSIC1


@named_arguments()
def compare_family(
    models: Sequence[Model | str],
    corpus: Corpus | str | Sequence[str] | None = None,
    *,
    site: str = "resid_post",
    n_sequences: int = 1000,
    length: int | None = None,
    at_once: int = 32,
    seed: int = 0,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
    executor: Executor | None = None,
) -> dict[tuple[str, str], xr.DataArray]:
    """Compare all layers of all models by debiased CKA within sequences.

        CKA = sum_s HSIC1_s(X, Y) / sqrt(sum_s HSIC1_s(X, X) sum_s HSIC1_s(Y, Y)),   s: the sequences

    Documents are packed into sequences of equal length. Every position is a row, including first and special tokens,
    and tokens are only compared with tokens of the same sequence.

    Parameters
    ----------
    models
        Models with the same tokenizer. Models given by name are reloaded for every `at_once` sequences, so that only
        one is in memory; Model objects stay in memory.
    corpus, site
        As in `extract`.
    n_sequences
        Number of sequences, or all that the corpus fills if there are fewer (see attrs["n_rows"]).
    length
        Tokens per sequence. None means the shortest context.
    at_once
        Number of sequences processed together; more mean fewer model loads.
    seed
        Seed for the order of documents.
    memory_limit
        Maximum bytes for the Gram matrices of `at_once` sequences. None means half of the available memory.
    batch_tokens
        Tokens per forward pass; see `system.resources.Resources`.
    executor
        Where parts of `at_once` sequences run, which needs names of models; see `system.resources.Resources`.

    Returns
    -------
    dict
        (later model, earlier model) -> DataArray (layer_a, layer_b): every pair once and every model with itself, as
        returned by `compare_all`.

    Raises
    ------
    InputError
        If tokenizers differ, two models have the same name, the text does not fill one sequence, a number is out of
        range, or the memory limit is exceeded.

    Notes
    -----
    Values are not comparable with those of `compare`, which compares tokens across documents and samples them: within
    a sequence, position and first-token effects weigh more.

    Brown et al. (2023, appendix C) used 1,000 sequences of 1,024 tokens and averaged the ratios of sequences. The
    ratio of averages used here is the estimator of Nguyen et al. (2021, eq. 3).

    The U-centred Gram matrices of a sequence are treated as vectors, whose inner products give all HSIC1 at once
    (Szekely and Rizzo 2014), so the cost hardly grows with the number of pairs. Memory holds the Gram matrices of
    `at_once` sequences, 4 * at_once * (layers of all models) * length^2 bytes, plus one model and its activations.

    Examples
    --------
    >>> maps = compare_family(["tiny-neox-w32-d2", "tiny-neox-w64-d2"], n_sequences=4, length=32)
    >>> sorted(maps)[0]
    ('tiny-neox-w32-d2', 'tiny-neox-w32-d2')
    """
    for name, value, least in (
        ("n_sequences", n_sequences, 1),
        ("at_once", at_once, 1),
        ("length", length, MIN_LENGTH),
    ):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InputError(f"{name}={value!r}; expected a whole number of at least {least}.")
    check_sendable([] if isinstance(models, str | Model) else models, executor)
    texts, length, windows, n_layers = _resolve(models, corpus, length, site)
    packing = Packing("packed", length)
    together = min(at_once, n_sequences)
    _check_memory(together, n_layers, length, memory_limit)
    resources = Resources(memory_limit=memory_limit, batch_tokens=batch_tokens, executor=executor)
    sampling = Sampling(None, site, "padded", together * length, None, seed, packing)
    job = _Family(models, sampling, resources.alone, (together, n_layers, length))
    parts = _filling(_text_parts(windows, texts, packing, at_once, seed), windows, packing, at_once, n_sequences)
    count = -(-n_sequences // at_once)
    sums = mapped(
        _products, job, parts, resources.executor, what="sequences", unit="part", name=_part_name, total=count
    )
    total: Any = 0.0
    seen, ends = 0, list[Activations]()
    for wanted, ends, products in sums:  # noqa: B007
        total = total + products
        seen += wanted
    if not seen:
        raise InputError(
            f"{texts!r} has fewer tokens than one sequence of {length}. Give a shorter length or more text."
        )
    return _maps(total, {acts.provenance["model"]["model"]: acts for acts in ends}, length, seen, texts, seed)


@dataclass(frozen=True)
class _Family:
    """What all parts of the sequences have in common."""

    models: Sequence[Model | str]
    sampling: Sampling
    resources: Resources
    room: tuple[int, int, int]  # sequences, layers of all models, length

    def held(self) -> Tensor:
        """Room for the Gram matrices of a part, nearly all of the memory, allocated once."""
        sequences, layers, length = self.room
        return torch.empty(sequences, layers, length**2)


def _products(job: _Family, part: tuple[Corpus, int]) -> tuple[int, list[Activations], np.ndarray]:
    """Number of sequences of a part, outlines of the models, and inner products of all layers, summed over them."""
    texts, wanted = part
    _, _, length = job.room
    sampling = replace(job.sampling, corpus=texts, n_rows=wanted * length)
    vectors, layer = remembered("Gram matrices", job.held)[:wanted], 0
    ends: list[Activations] = []
    for given in job.models:
        (acts,) = aligned([load_model(given)], ["all"], sampling, job.resources)
        ends.append(_without_values(acts))
        same_rows(ends[0], acts)
        for x in acts.values():
            vectors[:, layer] = _gram(x, length)
            layer += 1
    return wanted, ends, torch.bmm(vectors, vectors.mT).double().sum(0).numpy(force=True)


def _part_name(part: tuple[Corpus, int]) -> str:
    texts, wanted = part
    return f"{wanted} sequences from {texts!r}"


def _filling(
    parts: Iterator[Corpus], windows: Windows, packing: Packing, at_once: int, n_sequences: int
) -> Iterator[tuple[Corpus, int]]:
    """Parts of the text with the number of sequences to take from each, until there are enough."""
    seen = 0
    for part in parts:
        wanted = min(at_once, n_sequences - seen, _count_sequences(windows, part, packing))
        if not wanted:
            return
        yield part, wanted
        seen += wanted


def _check_memory(at_once: int, layers: int, length: int, given: int | None) -> None:
    limit, one = limit_bytes(given), 4 * layers * length**2
    if limit is not None and at_once * one > limit:
        most = limit // one
        fewer = f"set at_once to at most {most}" if most else "choose a shorter length or fewer models"
        raise InputError(
            f"The Gram matrices of {at_once} sequences of {length} tokens need {readable_size(at_once * one)}; the "
            f"limit is {readable_size(limit)}. Raise memory_limit, or {fewer}."
        )


def _resolve(
    models: Sequence[Model | str], corpus: Any, length: int | None, site: str
) -> tuple[Corpus, int, Windows, int]:
    """Corpus, length, tokenizer and total number of layers. Loads each model briefly."""
    if isinstance(models, str | Model) or not models:
        raise InputError(f"models={models!r}; expected a list of models or names.")
    names, contexts, n_layers = [], [], 0
    for given in models:
        model = load_model(given)
        names.append(model.name)
        contexts.append(model.context)
        n_layers += len(model.positions("all", site))
        corpus = model.made_for if corpus is None else corpus
    if len(set(names)) < len(names):
        raise InputError(f"List each model once; got {', '.join(names)}.")
    if length is not None and length > min(contexts):
        short = names[contexts.index(min(contexts))]
        raise InputError(f"length={length} is longer than the context of {short}, {min(contexts)} tokens.")
    return load_corpus(corpus), length or min(contexts), model.windows, n_layers


def _text_parts(windows: Windows, corpus: Corpus, packing: Packing, at_once: int, seed: int) -> Iterator[Corpus]:
    """All of the text, documents in random order, cut into parts that fill `at_once` sequences."""
    room = at_once * windows.room(packing.length or 0, packing.bos) + SPARE_TOKENS
    waiting: list[str] = []
    free = room
    for document in np.random.default_rng(seed).permutation(len(corpus)).tolist():
        text = corpus.texts[document]
        while text.strip():
            _, spans = next(windows.tokens([text[: room * CHARACTERS_PER_TOKEN]]))
            if not len(spans):  # only characters that the tokenizer drops
                text = text[room * CHARACTERS_PER_TOKEN :]
                continue
            if len(spans) < free and len(text) <= room * CHARACTERS_PER_TOKEN:
                waiting.append(text)
                free -= len(spans) + 1
                break
            cut = int(spans[min(free, len(spans)) - 1, 1])
            waiting.append(text[:cut])
            text = text[cut:]
            yield load_corpus(waiting)
            waiting, free = [], room
    if waiting:
        yield load_corpus(waiting)


def _count_sequences(windows: Windows, part: Corpus, packing: Packing) -> int:
    """Number of packed windows that the documents fill."""
    tokens = sum(len(ids) + 1 for ids, _ in windows.tokens(part.texts)) - 1
    return tokens // windows.room(packing.length or 0, packing.bos)


def _without_values(acts: Activations) -> Activations:
    """Activations with rows and layers, but without values."""
    return Activations({layer: torch.empty(len(acts.rows), 0) for layer in acts}, acts.rows, acts.provenance)


def _gram(x: Tensor, length: int) -> Tensor:
    """U-centred Gram matrices of a layer as vectors, float32 (sequences, length^2).

    Their inner products divided by length (length - 3) are HSIC1 (Szekely and Rizzo 2014, eq. 2.1).
    """
    rows = x.view(-1, length, x.shape[1]).double()
    rows = rows - rows.mean(1, keepdim=True)
    gram = rows @ rows.mT
    gram.diagonal(dim1=1, dim2=2).zero_()
    sums = gram.sum(2)
    gram -= (sums[:, :, None] + sums[:, None, :]) / (length - 2)
    gram += sums.sum(1)[:, None, None] / ((length - 1) * (length - 2))
    gram.diagonal(dim1=1, dim2=2).zero_()
    return gram.flatten(1)


def _maps(
    total: Any, ends: dict[str, Activations], length: int, seen: int, texts: Corpus, seed: int
) -> dict[tuple[str, str], xr.DataArray]:
    """Split the grid of all layers of all models into one map per pair."""
    measure = get_measure("cka", batch=length)
    alone = np.sqrt(np.diag(total))
    grid = np.clip(total / np.outer(alone, alone), *measure.bounds)
    start = np.concatenate([[0], np.cumsum([len(acts) for acts in ends.values()])])
    spans = {name: slice(start[i], start[i + 1]) for i, name in enumerate(ends)}
    how = {"corpus": texts.provenance, "n_rows": seen * length, "seed": seed}
    whole = {
        name: Activations({layer: torch.empty(seen * length, 0) for layer in acts}, acts.rows, acts.provenance | how)
        for name, acts in ends.items()
    }
    names = list(ends)
    return {
        (a, b): labelled(
            grid[spans[a], spans[b]], measure, whole[a], whole[b], estimator=f"{seen:,} sequences of {length}"
        )
        for i, a in enumerate(names)
        for b in names[: i + 1]
    }
