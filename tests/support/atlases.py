"""Atlases with known truth."""

import numpy as np
import xarray as xr


def atlas_of(penalty, senders, receivers, *, depths=None, noise=0.0, documents=40, similarity=None, seed=0):
    """A table of cuts and entries from penalties (sender, receiver, layer, into), noisy by document."""
    rng = np.random.default_rng(seed)
    penalty = np.asarray(penalty, dtype=float)
    tokens = rng.integers(50, 200, documents)
    own = 3.0 * np.tile(tokens, (len(receivers), 1))
    by_document = penalty[..., None] + noise * rng.standard_normal((*penalty.shape, documents))
    nats = by_document * tokens + own[None, :, None, None]
    dims = ("sender", "receiver", "layer", "into")
    deep = depths or dict.fromkeys((*senders, *receivers), penalty.shape[3] - 1)
    found = (nats - own[None, :, None, None]).sum(-1) / tokens.sum()
    table = xr.Dataset(
        {
            "penalty": (dims, found, {"units": "nats per token"}),
            "document_loss": ((*dims, "document"), nats),
            "document_receiver_loss": (("receiver", "document"), own),
            "document_tokens": ("document", tokens),
        },
        coords={
            "sender": list(senders),
            "receiver": list(receivers),
            "layer": list(range(penalty.shape[2])),
            "into": list(range(penalty.shape[3])),
            "document": [f"d{i}" for i in range(documents)],
            "sender_layers": ("sender", [deep[name] for name in senders]),
            "receiver_layers": ("receiver", [deep[name] for name in receivers]),
        },
    )
    if similarity is not None:
        table = table.assign(similarity=(("measure", *dims), similarity)).assign_coords(
            measure=[f"m{i}" for i in range(len(similarity))]
        )
    return table
