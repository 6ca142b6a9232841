"""All pairs of a family of models over any number of sequences: one model in memory at a time, sums instead of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from repsim_nb.activations import Activations, extract
from repsim_nb.activations.extraction import PATIENCE
from repsim_nb.comparison import same_rows
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError
from repsim_nb.labels import labelled
from repsim_nb.measures import get_measure
from repsim_nb.models import Model, Packing, load_model

if TYPE_CHECKING:
    import xarray as xr

CHARACTERS = 4  # of text per token, roughly: how much text is cut into windows at once
LEAST = 4  # tokens of a sequence: HSIC1 needs them


def compare_family(
    models: Sequence[Model | str],
    corpus: Corpus | str | Sequence[str] | None = None,
    *,
    n_sequences: int = 1000,
    length: int | None = None,
    at_once: int = 32,
    seed: int = 0,
) -> dict[tuple[str, str], xr.DataArray]:
    """Every layer of every model against every layer of every other, by debiased CKA within sequences.

        CKA = sum_s HSIC1_s(X, Y) / sqrt(sum_s HSIC1_s(X, X) sum_s HSIC1_s(Y, Y)),   s: the sequences

    Documents are packed into sequences of one length, all of whose positions are rows, first and special tokens
    included; tokens are compared with tokens of their own sequence alone. The paper used sequences of 1,024 tokens and
    1,000 of them, and averaged the ratios of sequences; the ratio of averages here is the estimator of Nguyen et al.

    For every sequence the U-centred Gram matrices of all layers of all models are vectors, whose inner products are all
    HSIC1 at once (Szekely and Rizzo 2014), so that the cost hardly grows with the number of pairs. What is held is
    the Gram matrices of `at_once` sequences, 4 * at_once * (layers of all models) * length^2 bytes, and the activations
    of one model on these, however many sequences there are.

    Args:
        models: of one tokenizer. Those given by name are loaded for every `at_once` sequences anew, so that no two are
            in memory together; those given as Models stay.
        corpus: as in `extract`.
        n_sequences: how many; all that the corpus fills if these are fewer (what is compared is in attrs["n_rows"]).
        length: tokens of a sequence; None is the shortest context.
        at_once: sequences held; more of them mean fewer loads.
        seed: of the order of documents.

    Returns:
        (later model, earlier one) -> DataArray (layer_a, layer_b), every pair once and each model with itself, as
        `compare_all` returns.

    Raises:
        InputError: models of different tokenizers or one name, fewer tokens than one sequence, numbers out of range.

    Reference: Nguyen, Raghu and Kornblith 2021, eq. 3; Brown et al. 2023, appendix C.
    """
    for name, value, least in (("n_sequences", n_sequences, 1), ("at_once", at_once, 1), ("length", length, LEAST)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InputError(f"{name}={value!r}; expected a whole number, at least {least}.")
    texts, length = _settled(models, corpus, length)
    packing = Packing("packed", length)
    ends: dict[str, Activations] = {}
    total: Any = 0.0
    seen = 0
    with tqdm(total=n_sequences, desc="sequences", delay=PATIENCE, leave=False) as bar:
        for part in _parts(texts, at_once * length * CHARACTERS, seed):
            wanted = min(at_once, n_sequences - seen)
            grams: list[Tensor] = []
            for given in models:
                model = load_model(given)
                wanted = min(wanted, _sequences(model, part, packing))
                if not wanted:
                    break
                acts = extract(model, part, rows="padded", n_rows=wanted * length, seed=seed, packing=packing)
                if grams:
                    same_rows(next(iter(ends.values())), acts)
                grams.append(_grams(acts, length))
                ends[model.name] = acts
            if wanted:
                vectors = torch.cat(grams, dim=1)
                total = total + torch.bmm(vectors, vectors.mT).double().sum(0).numpy(force=True)
                seen += wanted
                bar.update(wanted)
            if seen == n_sequences:
                break
    if not seen:
        raise InputError(
            f"{texts!r} has fewer tokens than one sequence of {length}. Give a shorter length or more text."
        )
    return _maps(total, ends, length, seen, texts, seed)


def _settled(models: Sequence[Model | str], corpus: Any, length: int | None) -> tuple[Corpus, int]:
    """The corpus and the length, from what models say of themselves; each is loaded and let go."""
    if isinstance(models, str | Model) or not models:
        raise InputError(f"models={models!r}; expected a list of models or names.")
    names, contexts = [], []
    for given in models:
        model = load_model(given)
        names.append(model.name)
        contexts.append(model.context)
        corpus = model.made_for if corpus is None else corpus
    if len(set(names)) < len(names):
        raise InputError(f"A family has each model once; received {', '.join(names)}.")
    if length is not None and length > min(contexts):
        short = names[contexts.index(min(contexts))]
        raise InputError(f"length={length} is more than the {min(contexts)} tokens that {short} reads at once.")
    return load_corpus(corpus), length or min(contexts)


def _parts(corpus: Corpus, characters: int, seed: int) -> Iterator[Corpus]:
    """The documents in a random order, so many at a time that they hold about as many characters."""
    waiting: list[int] = []
    held = 0
    for document in np.random.default_rng(seed).permutation(len(corpus)).tolist():
        waiting.append(document)
        held += len(corpus.texts[document])
        if held >= characters:
            yield corpus.take(waiting)
            waiting, held = [], 0
    if waiting:
        yield corpus.take(waiting)


def _sequences(model: Model, part: Corpus, packing: Packing) -> int:
    """How many packed windows the documents fill."""
    tokens = sum(len(ids) + 1 for ids, _ in model.windows.tokens(part.texts)) - 1
    return tokens // model.windows.room(packing.length or model.context, packing.bos)


def _grams(acts: Activations, length: int) -> Tensor:
    """U-centred Gram matrices as vectors, float32 (sequences, layers, length^2).

    Their inner products over length (length - 3) are HSIC1 (Szekely and Rizzo 2014, eq. 2.1).
    """
    vectors = []
    for x in acts.values():
        rows = x.view(-1, length, x.shape[1]).double()
        rows = rows - rows.mean(1, keepdim=True)
        gram = rows @ rows.mT
        gram.diagonal(dim1=1, dim2=2).zero_()
        sums = gram.sum(2)
        gram -= (sums[:, :, None] + sums[:, None, :]) / (length - 2)
        gram += sums.sum(1)[:, None, None] / ((length - 1) * (length - 2))
        gram.diagonal(dim1=1, dim2=2).zero_()
        vectors.append(gram.flatten(1).float())
    return torch.stack(vectors, dim=1)


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
