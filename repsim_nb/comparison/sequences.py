"""All pairs of a family of models over any number of sequences: one model in memory at a time, sums instead of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from repsim_nb.system.memory import limit_bytes, readable_size
from repsim_nb.system.progress import steps
from repsim_nb.system.resources import Resources

if TYPE_CHECKING:
    import xarray as xr

AHEAD = 8  # characters of text per token that are looked at for a cut; few texts have more
SPARE = 8  # tokens: a text that is cut may fall into fewer
LEAST = 4  # tokens of a sequence: HSIC1 needs them


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
) -> dict[tuple[str, str], xr.DataArray]:
    """Every layer of every model against every layer of every other, by debiased CKA within sequences.

        CKA = sum_s HSIC1_s(X, Y) / sqrt(sum_s HSIC1_s(X, X) sum_s HSIC1_s(Y, Y)),   s: the sequences

    Documents are packed into sequences of one length, all of whose positions are rows, first and special tokens
    included; tokens are compared with tokens of their own sequence alone.

    Parameters
    ----------
    models
        Of one tokenizer. Those given by name are loaded for every `at_once` sequences anew, so that no two are in
        memory together; those given as Models stay.
    corpus, site
        As in `extract`.
    n_sequences
        How many; all that the corpus fills if these are fewer (what is compared is in attrs["n_rows"]).
    length
        Tokens of a sequence; None is the shortest context.
    at_once
        Sequences held; more of them mean fewer loads.
    seed
        Seed of the order of documents.
    memory_limit
        Bytes that the Gram matrices of `at_once` sequences may take; None is half of what is available.
    batch_tokens
        Tokens run at once, see `system.resources.Resources`.

    Returns
    -------
    dict
        (later model, earlier one) -> DataArray (layer_a, layer_b), every pair once and each model with itself, as
        `compare_all` returns.

    Raises
    ------
    InputError
        Models of different tokenizers or one name, fewer tokens than one sequence, numbers out of range, more memory
        than the limit.

    Notes
    -----
    The paper used sequences of 1,024 tokens and 1,000 of them, and averaged the ratios of sequences; the ratio of
    averages here is the estimator of Nguyen et al. (2021, eq. 3). See Brown et al. (2023), appendix C.

    For every sequence the U-centred Gram matrices of all layers of all models are vectors, whose inner products are all
    HSIC1 at once (Szekely and Rizzo 2014), so that the cost hardly grows with the number of pairs. What is held is the
    Gram matrices of `at_once` sequences, 4 * at_once * (layers of all models) * length^2 bytes, and one model and its
    activations on these, however many sequences there are.

    Examples
    --------
    >>> maps = compare_family(["tiny-neox-w32-d2", "tiny-neox-w64-d2"], n_sequences=4, length=32)
    >>> sorted(maps)[0]
    ('tiny-neox-w32-d2', 'tiny-neox-w32-d2')
    """
    for name, value, least in (("n_sequences", n_sequences, 1), ("at_once", at_once, 1), ("length", length, LEAST)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InputError(f"{name}={value!r}; expected a whole number, at least {least}.")
    texts, length, windows, n_layers = _settled(models, corpus, length)
    packing = Packing("packed", length)
    _check_memory(min(at_once, n_sequences), n_layers, length, memory_limit)
    resources = Resources(memory_limit=memory_limit, batch_tokens=batch_tokens)
    held = torch.empty(min(at_once, n_sequences), n_layers, length**2)  # once: it is nearly all the memory there is
    ends: dict[str, Activations] = {}
    total: Any = 0.0
    seen = 0
    parts = _parts(windows, texts, packing, at_once, seed)
    for part in steps(parts, "sequences", "part", total=-(-n_sequences // at_once)):
        wanted = min(at_once, n_sequences - seen, _sequences(windows, part, packing))
        if not wanted:
            break
        sampling = Sampling(part, site, "padded", wanted * length, None, seed, packing)
        vectors, layer = held[:wanted], 0
        for given in models:
            (acts,) = aligned([load_model(given)], ["all"], sampling, resources)
            name = acts.provenance["model"]["model"]
            ends[name] = _emptied(acts)
            same_rows(next(iter(ends.values())), acts)
            for x in acts.values():
                vectors[:, layer] = _gram(x, length)
                layer += 1
        total = total + torch.bmm(vectors, vectors.mT).double().sum(0).numpy(force=True)
        seen += wanted
        if seen == n_sequences:
            break
    if not seen:
        raise InputError(
            f"{texts!r} has fewer tokens than one sequence of {length}. Give a shorter length or more text."
        )
    return _maps(total, ends, length, seen, texts, seed)


def _check_memory(at_once: int, layers: int, length: int, given: int | None) -> None:
    limit, one = limit_bytes(given), 4 * layers * length**2
    if limit is not None and at_once * one > limit:
        most = limit // one
        fewer = f"set at_once to at most {most}" if most else "choose a shorter length or fewer models"
        raise InputError(
            f"The Gram matrices of {at_once} sequences of {length} tokens take {readable_size(at_once * one)}; the "
            f"limit is {readable_size(limit)}. Raise memory_limit, or {fewer}."
        )


def _settled(models: Sequence[Model | str], corpus: Any, length: int | None) -> tuple[Corpus, int, Windows, int]:
    """The corpus, the length, the tokenizer and the layers of all models; each model is loaded and let go."""
    if isinstance(models, str | Model) or not models:
        raise InputError(f"models={models!r}; expected a list of models or names.")
    names, contexts, n_layers = [], [], 0
    for given in models:
        model = load_model(given)
        names.append(model.name)
        contexts.append(model.context)
        n_layers += model.n_layers + 1
        corpus = model.made_for if corpus is None else corpus
    if len(set(names)) < len(names):
        raise InputError(f"A family has each model once; received {', '.join(names)}.")
    if length is not None and length > min(contexts):
        short = names[contexts.index(min(contexts))]
        raise InputError(f"length={length} is more than the {min(contexts)} tokens that {short} reads at once.")
    return load_corpus(corpus), length or min(contexts), model.windows, n_layers


def _parts(windows: Windows, corpus: Corpus, packing: Packing, at_once: int, seed: int) -> Iterator[Corpus]:
    """All of the text, documents in a random order, cut where `at_once` sequences are full."""
    room = at_once * windows.room(packing.length or 0, packing.bos) + SPARE
    waiting: list[str] = []
    free = room
    for document in np.random.default_rng(seed).permutation(len(corpus)).tolist():
        text = corpus.texts[document]
        while text.strip():
            _, spans = next(windows.tokens([text[: room * AHEAD]]))
            if not len(spans):  # of nothing but characters that the tokenizer leaves out
                text = text[room * AHEAD :]
                continue
            if len(spans) < free and len(text) <= room * AHEAD:
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


def _sequences(windows: Windows, part: Corpus, packing: Packing) -> int:
    """How many packed windows the documents fill."""
    tokens = sum(len(ids) + 1 for ids, _ in windows.tokens(part.texts)) - 1
    return tokens // windows.room(packing.length or 0, packing.bos)


def _emptied(acts: Activations) -> Activations:
    """Rows and names of the layers without what they hold."""
    return Activations({layer: torch.empty(len(acts.rows), 0) for layer in acts}, acts.rows, acts.provenance)


def _gram(x: Tensor, length: int) -> Tensor:
    """U-centred Gram matrices of a layer as vectors, float32 (sequences, length^2).

    Their inner products over length (length - 3) are HSIC1 (Szekely and Rizzo 2014, eq. 2.1).
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
    """The grid of all layers of all models, cut into maps of pairs."""
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
