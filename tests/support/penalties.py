"""Stitching tables with known truth: effects of senders, receivers, pairs and documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Effects:
    """Standard deviations of random effects on the penalty, in nats per token; those of documents are per document."""

    sender: float = 0.02
    receiver: float = 0.02
    pair: float = 0.01
    document: float = 0.0
    sender_by_document: float = 0.0
    receiver_by_document: float = 0.0
    pair_by_document: float = 0.1
    layer: float = 0.0  # of a pair at one layer


def penalty_table(
    rng: np.random.Generator,
    effects: Effects = Effects(),
    per_kind: int | tuple[int, int] = 5,
    *,
    foreign: float = 0.0,
    sender: float = 0.0,
    receiver: float = 0.0,
    layers: int = 2,
    documents: int = 30,
) -> tuple[xr.Dataset, dict[str, str]]:
    """Draw a table of models a0, a1, ... and b0, b1, ..., and their kinds.

    `foreign` is added for a into b, `sender` for senders of kind a, `receiver` for receivers of kind b.
    """
    sizes = (per_kind,) * 2 if isinstance(per_kind, int) else per_kind
    names = [f"{kind}{i}" for kind, size in zip("ab", sizes, strict=True) for i in range(size)]
    n = len(names)
    of_a = np.array([name[0] == "a" for name in names])
    penalty = 0.3 + sender * of_a[:, None] + receiver * ~of_a + foreign * np.outer(of_a, ~of_a)
    penalty = penalty + effects.sender * rng.standard_normal((n, 1)) + effects.receiver * rng.standard_normal(n)
    penalty = penalty + effects.pair * rng.standard_normal((n, n))
    penalty = penalty[:, :, None] + effects.layer * rng.standard_normal((n, n, layers))
    by_document = (
        effects.document * rng.standard_normal(documents)
        + effects.sender_by_document * rng.standard_normal((n, 1, 1, documents))
        + effects.receiver_by_document * rng.standard_normal((1, n, 1, documents))
        + effects.pair_by_document * rng.standard_normal((n, n, layers, documents))
    )
    tokens = rng.integers(50, 200, documents)
    own = 3.0 * np.tile(tokens, (n, 1))
    nats = (penalty[..., None] + by_document) * tokens + own[None, :, None]
    table = xr.Dataset(
        {
            "document_loss": (("sender", "receiver", "layer", "document"), nats),
            "document_receiver_loss": (("receiver", "document"), own),
            "document_tokens": ("document", tokens),
        },
        coords={"sender": names, "receiver": names, "layer": list(range(1, layers + 1))},
    )
    return table, {name: name[0] for name in names}
