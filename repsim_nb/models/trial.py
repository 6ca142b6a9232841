"""A short run of a model that was just loaded, to check that its parts, joined at any position, are the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.batch import Batch, Window
from repsim_nb.models.model import Model, not_finite
from repsim_nb.models.parts import tapped

LENGTH = 9  # tokens of the trial's text; odd, and short because large models are slow
EXACT, ROUGH = 1e-4, 0.1  # rounding allowed, as a share of a row's largest value, in float32 and in lower precision

State = tuple[dict[str, str], dict[str, int]]  # see `state`


class Whole(NamedTuple):
    """The output of an architecture when transformers runs all of it.

    Attributes
    ----------
    out:
        The output of the head.
    hidden_states:
        Positions 0 to n_layers, the last often after the final norm; None if the architecture does not return them.
    """

    out: Tensor
    hidden_states: Sequence[Tensor] | None


class Trial(NamedTuple):
    """A text that was read alone: its tokens (length,), position n_layers, and the output of the head."""

    ids: np.ndarray
    hidden: Tensor
    out: Tensor


def run_whole(module: nn.Module, **given: Any) -> Any:
    """Run `module`, asking for its hidden states if it can return them."""
    takes = inspect.signature(module.forward).parameters
    if "output_hidden_states" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        given["output_hidden_states"] = True
    return module(**given)


@torch.no_grad()
def check_parts(model: Model, blocks: Sequence[nn.Module], whole: Callable[[Batch], Whole]) -> Trial:
    """Check that the model's parts, joined at any position, are the model.

    Every position must occur once, as (sequences, length, d_model), and be the architecture's own hidden state. Every
    block must give the next position when it runs alone. The head must give what the whole model does. Whether all
    blocks but the first give the last position is left to `check_rest`, or to comparing a run by `in_two` with the
    trial.

    Raises
    ------
    InputError
        They are not: the architecture does more between embedding and head than run its blocks, or what a block does
        depends on its number.
    """
    ids = random_ids(model, min(LENGTH, model.context))
    batch = batch_of(model, ids)
    below = range(model.n_layers)
    before = state(model.module)
    with refusing(model):
        seen: dict[int, Tensor] = {}
        with model._checked_tap(batch, below, seen.__setitem__) as see, tapped(blocks, 0, see):
            expected, stated = whole(batch)
        own: dict[int, Tensor] = {}
        model.residuals(batch, range(model.n_layers + 1), own.__setitem__)
        for layer in below:
            _compare(model, own[layer], seen[layer], f"position {layer} of its parts differs from the whole's")
        _check_stated(model, own, stated)
        for k in below:
            _compare(model, model.run(own[k], k, k + 1, batch), own[k + 1], _alone(k, k + 1))
        out = model.head(own[model.n_layers], batch)
        _compare(model, out, expected, "joined parts differ from the whole")
        _check_unchanged(before, state(model.module))
    return Trial(ids, own[model.n_layers], out)


def check_rest(model: Model, trial: Trial) -> None:
    """Check that all blocks but the first, numbered differently than in the whole model, give the last position.

    Raises
    ------
    InputError
        What a block does depends on its number.
    """
    n = model.n_layers
    if n > 2:
        _compare(model, in_two(model, batch_of(model, trial.ids)), trial.hidden, _alone(1, n))


def in_two(model: Model, batch: Batch) -> Tensor:
    """Position n_layers, from running the first block and then all others."""
    first = model.run(model.embed(batch), 0, 1, batch)
    return model.run(first, 1, model.n_layers, batch)


def read_alone(model: Model, ids: np.ndarray) -> Trial:
    """Run the model's parts on a single text."""
    batch = batch_of(model, ids)
    hidden = model.run(model.embed(batch), 0, model.n_layers, batch)
    return Trial(ids, hidden, model.head(hidden, batch))


def batch_of(model: Model, *texts: np.ndarray) -> Batch:
    """A batch of texts given as tokens."""
    return model.collate([Window(0, ids, np.zeros((len(ids), 2), dtype=np.int64)) for ids in texts])


def random_ids(model: Model, length: int) -> np.ndarray:
    """Random ordinary tokens, the same each time, whatever the tokenizer."""
    config: Any = getattr(model.module, "config", None)
    rows = getattr(config, "vocab_size", None) or len(model.tokenizer)
    special = {*model.tokenizer.all_special_ids, getattr(config, "pad_token_id", None)}
    known = min(rows, len(model.tokenizer))
    ordinary = np.ones(known, dtype=bool)
    ordinary[[i for i in special if i is not None and 0 <= i < known]] = False
    ids = np.flatnonzero(ordinary) if ordinary.any() else np.arange(rows)
    return np.random.default_rng(0).choice(ids, length)


def _check_stated(model: Model, own: dict[int, Tensor], stated: Sequence[Tensor] | None) -> None:
    """Hidden states are the input of each block, for Mamba its output; the last comes after the final norm."""
    if stated is None or len(stated) != model.n_layers + 1 or stated[0].shape != own[0].shape:
        return
    behind = 0 if distance(own[0], stated[0]) < tolerance(model) else 1
    for layer in range(behind, model.n_layers + behind):
        what = f"position {layer} differs from the hidden state that transformers returns"
        _compare(model, own[layer], stated[layer - behind], what)


def _alone(k: int, m: int) -> str:
    return f"run from position {k} to {m} alone, they differ from the whole"


def check_causal(model: Model, whole: Trial, start: Trial) -> None:
    """Check that no token looks ahead; Gemma 3, for one, may have use_bidirectional_attention in its config."""
    off = distance(whole.out[:, : len(start.ids)], start.out)
    if not off < tolerance(model, 1e-3):
        raise InputError(
            f"{model.name} ({type(model.module).__name__}) looks ahead: later tokens change earlier logits by "
            f"{off:.0e} of the largest, so it is not a causal language model."
        )


class NotFiniteError(Exception):
    """NaN or infinite values, which cannot be compared."""


def distance(values: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest value of its row.

    Raises
    ------
    NotFiniteError
        Values that are NaN or infinite.
    """
    expected = expected.to(values.device).float()
    off = ((values.float() - expected).abs().amax(-1) / expected.abs().amax(-1).clamp(min=1e-30)).max().item()
    if not np.isfinite(off):
        raise NotFiniteError
    return off


def tolerance(model: Model, exact: float = EXACT) -> float:
    """The largest `distance` that rounding may cause in the model's precision."""
    return exact if torch.finfo(model.dtype).eps < 1e-6 else ROUGH


def _compare(model: Model, values: Tensor, expected: Tensor, what: str) -> None:
    if values.shape != expected.shape:
        raise InputError(f"{what}: {tuple(values.shape)} for {tuple(expected.shape)}")
    off = distance(values, expected)
    if not off < tolerance(model):
        raise InputError(f"{what} by {off:.0e} of its largest value")


@contextmanager
def refusing(model: Model) -> Iterator[None]:
    """Turn any error of running an architecture part by part into an InputError that names it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except NotFiniteError:
        raise not_finite(model, "at its last layer") from None
    except Exception as error:
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(
            f"{model.name} ({type(model.module).__name__}) cannot be run part by part: {why:.200}. It is not supported."
        ) from error


def state(module: nn.Module) -> State:
    """The class of every module, and how often each parameter was changed in place."""
    kinds = {name: type(part).__name__ for name, part in module.named_modules()}
    return kinds, {name: p._version for name, p in module.named_parameters() if not p.is_meta}


def _check_unchanged(
    before: tuple[dict[str, str], dict[str, int]], after: tuple[dict[str, str], dict[str, int]]
) -> None:
    """Check that a run left the model unchanged; otherwise the same text would get other values the next time."""
    (kinds, versions), (kinds_now, versions_now) = before, after
    other = next((name for name, kind in kinds.items() if kinds_now.get(name) != kind), None)
    if other is not None:
        raise InputError(f"it changes as it runs, {kinds[other]} becomes {kinds_now.get(other)}")
    weight = next((name for name, version in versions.items() if versions_now.get(name) != version), None)
    if weight is not None:
        raise InputError(f"it changes its own weights as it runs, {weight} among them")
