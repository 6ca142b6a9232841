"""Which rows of which text are compared. Chosen once, and the same for every model."""

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
    """Which rows of which text to sample, and the place in the model to read them from.

    Parameters
    ----------
    corpus
        A Corpus, or anything that `load_corpus` takes. None means the test split of the corpus that the models were
        made for (python-docs for language models, nli-heuristics for classifiers).
    site
        "resid_post" for the residual stream, or a place inside the blocks if the model has it (`model.sites`). Layer l
        is then inside block l, and there is no layer 0.

        - "attn_out", "mlp_out": what attention and MLP add to the residual stream.
        - "pre_residual": what the last addition of a block adds. Classifiers and encoders only.
        - "mlp_act": the activations of the MLP, d_mlp wide: what enters its last matrix. Causal models only.
        - "head_out": attention's output without the bias of its output matrix; "head_out.3" is the share of head 3,
          counted from 0. The shares of all heads sum to "head_out". Causal models only.
        - "ov": the same before attention mixes positions: each token's own values times the output matrix; "ov.3"
          is that of head 3. With grouped keys and values a head uses the values of its group. Causal models only.

        See `models.sites` for how they are found and which architectures have them.
    rows
        What one row is.

        - "tokens": one sampled token; tokens are spread over documents.
        - "last": the last token of a document.
        - "mean": the mean over the window that holds the document's last token. Encoders pool as
          sentence-transformers does (special tokens included, prompt excluded); other models average text tokens only.
        - "cls": the token that a classifier's head reads, the first of that window. Classifiers and encoders only.
        - "padded": every position of whole windows padded to the model's context, special tokens and padding
          included. No other kind includes those.

        For models with different tokenizers, "mean" and "cls" use only documents that fit one window in every model,
        since other windows would hold different text.
    n_rows
        Maximum number of rows. A smaller corpus is used completely, with a FewerRowsWarning for "tokens" and "padded".
    rows_per_document
        Rows to take from each document, for rows="tokens" only. Documents are drawn at random until there are enough
        rows; if there are not enough documents, each gives more, so 1 spreads the rows over as many as there are.
        None chooses by cost: the fewest for which a model runs at most six tokens per row, and no more than leaves 64
        documents (see docs/cost.md). Rows of one document are alike, so intervals over documents widen with it.
    seed
        Seed for sampling rows.
    packing
        "documents" (a window holds text of one document; long documents are split), "packed" (documents are joined
        by the end-of-text token and cut into windows of equal length) or a `Packing`, which also sets the window
        length and whether windows begin with a beginning-of-text token.

    Raises
    ------
    InputError
        If the kind of rows or packing is unknown, or a number is out of range.

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
                f'rows_per_document would have no effect: rows="{self.rows}" sets the number of rows per document. '
                'Leave it out, or use rows="tokens".'
            )
        object.__setattr__(self, "packing", Packing.of(self.packing))

    def of(self, corpus: Any) -> Sampling:
        """A copy for another corpus."""
        return replace(self, corpus=corpus)

    def loaded(self, made_for: str) -> Sampling:
        """A copy with its corpus loaded; `made_for` names the default corpus."""
        return self.of(load_corpus(made_for if self.corpus is None else self.corpus))

    @property
    def text(self) -> Corpus:
        """The corpus, once `loaded`."""
        assert isinstance(self.corpus, Corpus)
        return self.corpus

    @property
    def settings(self) -> dict[str, Any]:
        """All settings except the corpus, for the provenance."""
        settings = {name: getattr(self, name) for name in ("site", "rows", "n_rows", "seed")}
        if self.rows_per_document is not None:
            settings["rows_per_document"] = self.rows_per_document
        return settings | {"packing": asdict(self.packing)}
