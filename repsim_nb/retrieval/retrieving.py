"""From a model and a corpus of queries and passages to ranked lists, and what that needs."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repsim_nb.activations.extraction import tokens_per_batch
from repsim_nb.activations.store import Store
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.models import Model, load_model
from repsim_nb.models.positions import RESIDUAL
from repsim_nb.models.shape import shape_of
from repsim_nb.retrieval.search import check_k, least_memory, search
from repsim_nb.retrieval.vectors import embed, vector_bytes
from repsim_nb.system.memory import limit_bytes, readable_size

if TYPE_CHECKING:
    import xarray as xr


@named_arguments()
def retrieve(
    model: Model | str,
    corpus: Corpus | str,
    k: int = 10,
    metric: str = "cosine",
    *,
    query_prefix: str | None = None,
    passage_prefix: str | None = None,
    rows: str | None = None,
    layer: int | None = None,
    site: str = RESIDUAL,
    leave_out: Mapping[Any, Collection[Any]] | None = None,
    store: Store | str | os.PathLike[str] | bool | None = None,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
) -> xr.Dataset:
    """Embed the queries and passages of a corpus with one model, and find the k passages nearest to each query.

    Parameters
    ----------
    model
        A Model, or anything that `load_model` takes.
    corpus
        A corpus with queries, or anything that `load_corpus` turns into one.
    k, metric, leave_out
        As in `search`.
    query_prefix, passage_prefix
        Text to prepend to every query and every passage; "" for none, None for the model's own prompts. See `embed`.
    rows, layer, site
        How a text becomes a vector: None takes the model's own sentence vectors where it has them, else the mean over
        tokens of the last layer. See `embed`, also for texts that are longer than the model's context.
    store, memory_limit, batch_tokens
        Resources; see `system.resources.Resources`.

    Returns
    -------
    xarray.Dataset
        As `search` returns it, with the ids of the corpus. attrs["provenance"] is one JSON string: model with revision
        and hash, corpus with hash, prefixes, how texts were read, k, metric, versions.

    Raises
    ------
    InputError
        As for `embed` and `search`, or if the corpus has no queries.

    Notes
    -----
    The model is loaded once and not kept, so that a loop over names has one model in memory at a time.
    `memory_of_retrieval` says beforehand what a call needs.

    How lists mislead: see `search`. Two models can differ because of their prefixes alone; the provenance has them.
    """
    read = with_queries(corpus)
    loaded = load_model(model)
    how: dict[str, Any] = {"rows": rows, "layer": layer, "site": site}
    how |= {"store": store, "memory_limit": memory_limit, "batch_tokens": batch_tokens}
    passages = embed(loaded, read, "passage", prefix=passage_prefix, **how)
    queries = embed(loaded, queries_of(read), "query", prefix=query_prefix, **how)
    found = search(
        queries,
        passages,
        k,
        metric,
        query_ids=queries["text"].values.tolist(),
        passage_ids=passages["text"].values.tolist(),
        leave_out=leave_out,
        memory_limit=memory_limit,
    )
    about = {
        side: json.loads(made.attrs["provenance"]) for side, made in (("queries", queries), ("passages", passages))
    }
    shared = {name: about["passages"][name] for name in ("model", "corpus", "rows", "layer", "site", "versions")}
    prefixes = {"query_prefix": about["queries"]["prefix"], "passage_prefix": about["passages"]["prefix"]}
    search_of = {"k": int(k), "metric": metric, "left_out": sum(map(len, (leave_out or {}).values()))}
    found.attrs["provenance"] = json.dumps(shared | prefixes | search_of, sort_keys=True)
    return found


def with_queries(corpus: Corpus | str) -> Corpus:
    """The corpus, loaded, after checking that it has queries."""
    read = load_corpus(corpus)
    if getattr(read, "queries", None) is None:
        raise InputError(f"{read!r} has no queries; expected a corpus of queries and passages, such as 'docstrings'.")
    return read


def queries_of(corpus: Corpus) -> Corpus:
    """The queries of a corpus as a corpus of their own.

    Examples
    --------
    >>> queries_of(load_corpus("docstrings", split="validation")).name
    'docstrings: queries'
    """
    read: Any = with_queries(corpus)
    name = f"{read.name}: queries"
    return Corpus(name, tuple(read.queries), tuple(read.query_ids), read.split, source=read.source)


@dataclass(frozen=True)
class RetrievalMemory:
    """Bytes that `retrieve` needs. Prints as a table.

    Attributes
    ----------
    weights
        Of the model.
    batch
        Of one batch inside the model, about.
    vectors
        Of the vectors of queries and passages.
    search
        Of the search, one query at a time; more queries at a time are faster and use what the limit allows.
    limit
        The limit, None if unknown.
    """

    weights: int
    batch: int
    vectors: int
    search: int
    limit: int | None

    @property
    def peak(self) -> int:
        """Bytes at most at once, texts apart: weights, vectors and either a batch or the search."""
        return self.weights + self.vectors + max(self.batch, self.search)

    def __str__(self) -> str:
        lines = {name: readable_size(getattr(self, name)) for name in ("weights", "batch", "vectors", "search", "peak")}
        lines["limit"] = "unknown" if self.limit is None else readable_size(self.limit)
        return "\n".join(f"{name:8} {value}" for name, value in lines.items())


@named_arguments()
def memory_of_retrieval(
    model: Model | str,
    corpus: Corpus | str,
    k: int = 10,
    *,
    memory_limit: int | None = None,
    batch_tokens: int | None = None,
) -> RetrievalMemory:
    """Estimate the memory of `retrieve` with the same arguments, from the model's config; no weights are loaded.

    Parameters
    ----------
    model, corpus, k, memory_limit, batch_tokens
        As in `retrieve`.

    Returns
    -------
    RetrievalMemory
        Bytes by part.

    Raises
    ------
    InputError
        As for `retrieve`.

    Notes
    -----
    Vectors are taken to be as wide as the model; a Dense module after its pooling changes that. Tokenizing needs up to
    200 bytes per byte of the texts that are tokenized at a time.

    Examples
    --------
    >>> print(memory_of_retrieval("tiny-neox-w32-d2", "docstrings", memory_limit=10**9))  # doctest: +ELLIPSIS
    weights  626 kB
    batch    ...
    """
    read: Any = with_queries(corpus)
    shape = shape_of(model)
    check_k(k, len(read))
    tokens = max(shape.context, tokens_per_batch(shape, given=batch_tokens))
    return RetrievalMemory(
        weights=shape.weights,
        batch=tokens * shape.token_bytes,
        vectors=vector_bytes(len(read) + len(read.queries), shape.d_model),
        search=least_memory(len(read.queries), len(read), shape.d_model, int(k)),
        limit=limit_bytes(memory_limit),
    )
