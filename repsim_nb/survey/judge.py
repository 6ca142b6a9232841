"""Check whether this package reads an architecture as transformers does, with plain calls of the module as truth.

The truth does not use any code that runs models in this package: it is what the module returns for each text alone,
from its own `hidden_states` and from hooks on its blocks.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from repsim_nb.errors import InputError
from repsim_nb.survey.small import CONTEXT, small
from repsim_nb.zoo.vocabulary import word_tokenizer

TOLERANCE = 1e-3  # in standard deviations of a layer
LENGTHS = (60, 22, 22, 6, 35)  # tokens: longer than the local attention window, two equal, one odd
EVERY_CUT = (0,)  # texts that are run between any two layers
BATCHES = ((0, 1, 2, 3, 4), (1, 2), (0, 3))  # texts that are extracted together
VERDICTS = ("right", "refused", "cannot be built here", "wrong")


@dataclass(frozen=True)
class Verdict:
    """The outcome for an architecture.

    Attributes
    ----------
    verdict
        One of VERDICTS.
    reason
        Why it is not "right", or a note; may be empty.
    deviation
        Largest deviation from transformers, in standard deviations of a layer.
    """

    verdict: str
    reason: str = ""
    deviation: float | None = None


@dataclass(frozen=True)
class Truth:
    """What a module returns for one text alone: (length, width) at every layer, and its logits."""

    positions: list[Tensor]
    logits: Tensor | None


class WrongError(Exception):
    """The package returns something other than the module."""


@torch.no_grad()
def survey(kind: str, model_type: str, architecture: str) -> Verdict:
    """Build a small model of an architecture and judge how this package reads it."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    tokens = tokenizer()
    try:
        module = small(kind, model_type, architecture, tokens)
        module(input_ids=_ids(tokens, texts()[0]))
    except Exception as error:  # architectures fail in many ways on an unusual config
        return Verdict("cannot be built here", one_line(error))
    return judge(module, tokens)


def judge(module: PreTrainedModel, tokens: PreTrainedTokenizerBase) -> Verdict:
    """Load a module with this package and compare it with the truth."""
    import repsim_nb as rs

    try:
        model = rs.load_model(copy.deepcopy(module), tokenizer=tokens)
    except InputError as error:
        name = type(module).__name__
        return Verdict("refused", one_line(error).replace(f"{name} ({name}) ", ""))
    except Exception as error:
        return Verdict("wrong", f"a {type(error).__name__} on loading: {one_line(error)}")
    try:
        truths = _truths(module, tokens)
    except Exception as error:
        return Verdict("wrong", f"nothing says what is right: {one_line(error)}")
    found = Verdict("wrong")
    for truth in truths:
        found = _compared(model, truth)
        if found.verdict != "wrong":
            break
    return found


def tokenizer() -> PreTrainedTokenizerBase:
    """A tokenizer with one word per token, framed by [CLS] and [SEP]."""
    return word_tokenizer([f"w{i}" for i in range(91)], CONTEXT)


def texts() -> list[str]:
    """Texts with LENGTHS tokens, special tokens included."""
    chosen = torch.Generator().manual_seed(0)
    return [" ".join(f"w{i}" for i in torch.randint(91, (length - 2,), generator=chosen)) for length in LENGTHS]


def one_line(error: Exception) -> str:
    """The first line of an error message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("Class validation error") and len(lines) > 1:
        lines = lines[1:]
    return lines[0][:300] if lines else type(error).__name__


def _compared(model: Any, truth: list[Truth]) -> Verdict:
    worst, separate = 0.0, set()
    try:
        for what, deviation in _deviations(model, truth):
            if not deviation <= TOLERANCE:
                return Verdict("wrong", f"{what}: off by {deviation:.2g} standard deviations", deviation)
            worst = max(worst, deviation)
        for batch in BATCHES:
            try:
                model.batch([texts()[i] for i in batch])
            except InputError:  # texts in one batch would change each other; extraction runs them separately
                separate.add(len({LENGTHS[i] for i in batch}))
    except InputError as error:
        return Verdict("refused", one_line(error), worst)
    except Exception as error:
        return Verdict("wrong", f"a {type(error).__name__} when run: {one_line(error)}")
    if 1 in separate:
        return Verdict("right", "each text is run on its own", worst)
    return Verdict("right", "texts of different lengths are run separately" if separate else "", worst)


@torch.no_grad()
def _deviations(model: Any, truth: list[Truth]) -> Iterator[tuple[str, float]]:
    """Deviations of the package from the truth, for every way of running the model."""
    depth, width = len(truth[0].positions) - 1, truth[0].positions[0].shape[-1]
    if (model.n_layers, model.d_model) != (depth, width):
        raise WrongError(f"{model.n_layers} layers of width {model.d_model}, where there are {depth} of {width}")
    for number, alone in enumerate(truth):
        yield from _single_text(model, texts()[number], alone, cuts=number in EVERY_CUT)
    for indices in BATCHES:
        together, theirs = [texts()[i] for i in indices], [truth[i] for i in indices]
        yield from _extracted(model, together, theirs)
        with suppress(InputError):  # the model may refuse to run them in one batch
            yield from _batched(model, model.batch(together), theirs, cuts=indices == BATCHES[0])


def _single_text(model: Any, text: str, truth: Truth, cuts: bool) -> Iterator[tuple[str, float]]:
    """Every layer of one text, from its tokens and, with `cuts`, from any lower layer."""
    batch = model.batch([text])
    hidden = model.embed(batch)
    yield "the embedding of one text", _deviation(hidden[0], truth.positions[0])
    for position, wanted in enumerate(truth.positions):
        yield f"position {position} of one text", _deviation(model.run(hidden, 0, position, batch)[0], wanted)
    if truth.logits is not None:
        yield "logits of one text", _deviation(model.head(truth.positions[-1][None], batch)[0], truth.logits)
    if cuts:
        for k, m in combinations(range(model.n_layers + 1), 2):
            out = model.run(truth.positions[k][None], k, m, batch)[0]
            yield f"a text run from {k} to {m}", _deviation(out, truth.positions[m])


def _extracted(model: Any, together: list[str], truth: list[Truth]) -> Iterator[tuple[str, float]]:
    """Rows of several texts that are extracted together: all rows, and so few that windows may be cut."""
    import repsim_nb as rs

    for count in (sum(len(alone.positions[0]) - 2 for alone in truth), 3):
        acts = rs.extract(model, together, n_rows=count)
        places = list(zip(acts.rows["sequence"], acts.rows["position"], strict=True))
        for layer in acts:
            wanted = torch.stack([truth[text].positions[layer][position] for text, position in places])
            spread = torch.cat([alone.positions[layer] for alone in truth]).std()
            yield f"layer {layer}, {count} rows of {len(together)} texts", _deviation(acts[layer], wanted, spread)


def _batched(model: Any, batch: Any, truth: list[Truth], cuts: bool) -> Iterator[tuple[str, float]]:
    """Every layer of one batch of several texts, from its tokens and, with `cuts`, from any lower layer."""
    many = f"of {len(truth)} texts in one batch"
    positions = [model.embed(batch)]
    positions += [model.run(positions[0], 0, position, batch) for position in range(1, model.n_layers + 1)]
    for k, m in combinations(range(model.n_layers + 1), 2):
        if k and not cuts:
            break
        out = model.run(positions[k], k, m, batch) if k else positions[m]
        for row, alone in enumerate(truth):
            yield f"from {k} to {m} {many}", _deviation(out[row, : len(alone.positions[m])], alone.positions[m])
    logits = model.logits(batch)
    for row, alone in enumerate(truth):
        if alone.logits is not None:
            found = logits[row, : len(alone.logits)] if logits.dim() == 3 else logits[row]
            yield f"logits {many}", _deviation(found, alone.logits)


def _deviation(found: Tensor, wanted: Tensor, spread: Tensor | None = None) -> float:
    if found.shape != wanted.shape:
        raise WrongError(f"shape {tuple(found.shape)} where the module gives {tuple(wanted.shape)}")
    spread = wanted.std() if spread is None else spread
    return float((found.float() - wanted.float()).abs().max() / spread)


@torch.no_grad()
def _truths(module: PreTrainedModel, tokens: PreTrainedTokenizerBase) -> list[list[Truth]]:
    """The two ways to read a module's layers: its own `hidden_states`, and hooks on its blocks."""
    read = [
        _read(copy.deepcopy(module), tokens, text) for text in texts()
    ]  # a copy for each text, because some modules keep state
    ways = [list(way) for way in zip(*read, strict=True) if all(way)]
    if not ways:
        raise ValueError("it gives neither hidden_states nor one call of each of its blocks")
    for way in ways:
        if not all(torch.isfinite(p).all() for truth in way for p in truth.positions):
            raise ValueError("values at random weights are not finite")
    return ways


def _read(module: PreTrainedModel, tokens: PreTrainedTokenizerBase, text: str) -> tuple[Truth | None, Truth | None]:
    """One text's truth from `hidden_states`, and from hooks."""
    ids = _ids(tokens, text)
    depth = module.config.get_text_config().num_hidden_layers
    with _watched(module, depth) as (stacks, norms):
        out = module(input_ids=ids, output_hidden_states=True)
    logits = out["logits"][0] if "logits" in out else None
    hooked = next((seen for seen in stacks if _regular(seen, depth + 1, ids.shape[1])), None)
    listed = out.get("hidden_states")
    listed = list(listed) if listed is not None and _regular(listed, depth + 1, ids.shape[1]) else None
    if listed is not None:  # its last entry may come after the final norm
        before = [
            given for given, normed in norms if normed.shape == listed[-1].shape and torch.equal(normed, listed[-1])
        ]
        last = before[-1] if before else listed[-1] if hooked is None else hooked[-1]
        listed[-1] = last
        if hooked is not None and before:
            hooked[-1] = last
    return (
        Truth([p[0] for p in listed], logits) if listed else None,
        Truth([p[0] for p in hooked], logits) if hooked else None,
    )


def _ids(tokens: PreTrainedTokenizerBase, text: str) -> Tensor:
    return torch.tensor([tokens(text)["input_ids"]])


def _regular(seen: Sequence[Any], count: int, length: int) -> bool:
    """Whether these are the layers of one text, all with the same shape."""
    shapes = {tuple(p.shape) if isinstance(p, Tensor) else () for p in seen}
    return len(seen) == count and len(shapes) == 1 and len(shape := shapes.pop()) == 3 and shape[:2] == (1, length)


@contextmanager
def _watched(module: nn.Module, depth: int) -> Iterator[tuple[list[list[Any]], list[tuple[Tensor, Tensor]]]]:
    """Record inputs and outputs of every stack of `depth` modules, and of every norm outside these stacks.

    For a stack: the input of its first module, then the output of each, in the order of calls.
    """
    stacks: list[list[Any]] = []
    norms: list[tuple[Tensor, Tensor]] = []
    handles = []
    blocks = [inner for inner in module.modules() if isinstance(inner, nn.ModuleList) and len(inner) == depth]
    inside = {id(part) for stack in blocks for part in stack.modules()}
    for stack in blocks:
        seen: list[Any] = []
        stacks.append(seen)

        def enters(_: Any, args: Any, kwargs: Any, seen: list[Any] = seen) -> None:
            given = args[0] if args else kwargs.get("hidden_states")
            seen.append(given.clone() if isinstance(given, Tensor) else None)

        def leaves(_: Any, __: Any, out: Any, seen: list[Any] = seen) -> None:
            value = out if isinstance(out, Tensor) else out[0]
            seen.append(value.clone() if isinstance(value, Tensor) else None)

        handles.append(stack[0].register_forward_pre_hook(enters, with_kwargs=True))
        handles += [block.register_forward_hook(leaves) for block in stack]

    def normed(_: Any, args: Any, kwargs: Any, out: Any) -> None:
        given = next(iter([*args, *kwargs.values()]), None)
        if isinstance(given, Tensor) and isinstance(out, Tensor):
            norms.append((given.clone(), out.clone()))

    for part in module.modules():
        if "norm" in type(part).__name__.lower() and id(part) not in inside:
            handles.append(part.register_forward_hook(normed, with_kwargs=True))
    try:
        yield stacks, norms
    finally:
        for handle in handles:
            handle.remove()
