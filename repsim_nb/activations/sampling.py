"""Which rows of which text are compared: chosen once, and the same in every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import InputError, unknown
from repsim_nb.models import Packing

KINDS = ("tokens", "last", "mean", "cls", "padded")


@dataclass(frozen=True)
class Sampling:
    """Which rows of which text, and where in the model they are read.

    Parameters
    ----------
    corpus
        A Corpus or anything `load_corpus` takes. None is the corpus that the models were made for (python-docs for
        language models, nli-heuristics for classifiers), split "test".
    site
        "resid_post", the residual stream, or a place inside the blocks where the model has it (`model.sites`):
        "attn_out", "mlp_out", "pre_residual". These have no layer 0.
    rows
        What one row is.

        - "tokens": one chosen token; tokens are spread over documents.
        - "last": the last token of a document.
        - "mean": the mean over the window that holds a document's last token; of encoders, as sentence-transformers
          pools, with special tokens but without a prompt, else over text alone.
        - "cls": of classifiers and encoders, the token that a classifier's head reads, the first of that window.
        - "padded": every position of whole windows filled up to the model's context, special tokens and padding
          included. No other kind includes those.

        Between models with different tokenizers "mean" and "cls" take only documents that are one window in all
        models, since other windows would hold different text.
    n_rows
        Rows at most. A corpus with fewer gives all it has, with a FewerRowsWarning for "tokens" and "padded".
    rows_per_document
        Tokens taken from one document at most; documents are then drawn at random, as many as it takes. None spreads
        the rows over all documents. For rows="tokens" alone.
    seed
        Seed of the choice of rows.
    packing
        "documents" (a window holds text of one document, and a long document has several), "packed" (documents joined
        by the end-of-text token and cut into windows of one length) or a `Packing`, which also says how long windows
        are and whether they begin with a beginning-of-text token.

    Raises
    ------
    InputError
        An unknown kind of rows or packing, or a number out of range.

    Examples
    --------
    >>> Sampling(n_rows=100).packing.kind
    'documents'
    """

    corpus: Corpus | str | Sequence[Any] | None = field(default=None, repr=False)
    site: str = "resid_post"
    rows: str = "tokens"
    n_rows: int = 4096
    rows_per_document: int | None = None
    seed: int = 0
    packing: Any = "documents"  # a Packing once this is made

    def __post_init__(self) -> None:
        if self.rows not in KINDS:
            raise unknown("kind of rows", self.rows, KINDS)
        counts = ("n_rows",) if self.rows_per_document is None else ("n_rows", "rows_per_document")
        for name in counts:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name}={value!r}; expected a positive whole number.")
        if self.rows_per_document is not None and self.rows != "tokens":
            raise InputError(
                f'rows_per_document would have no effect: rows="{self.rows}" says how many rows a document has. Leave '
                'it out, or take rows="tokens".'
            )
        object.__setattr__(self, "packing", Packing.of(self.packing))

    def of(self, corpus: Any) -> Sampling:
        """The same of another corpus."""
        return replace(self, corpus=corpus)

    def loaded(self, made_for: str) -> Sampling:
        """The same with its corpus loaded; `made_for` names the corpus to take where none was given."""
        return self.of(load_corpus(made_for if self.corpus is None else self.corpus))

    @property
    def text(self) -> Corpus:
        """The corpus, once `loaded`."""
        assert isinstance(self.corpus, Corpus)
        return self.corpus

    @property
    def settings(self) -> dict[str, Any]:
        """All but the corpus, for the provenance."""
        settings = {name: getattr(self, name) for name in ("site", "rows", "n_rows", "seed")}
        if self.rows_per_document is not None:
            settings["rows_per_document"] = self.rows_per_document
        return settings | {"packing": asdict(self.packing)}
