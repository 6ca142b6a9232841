"""What a model's activations of a text depend on besides the text, from its config and from short runs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from repsim_nb.errors import InputError
from repsim_nb.models.model import Model
from repsim_nb.models.neutral import Neutral
from repsim_nb.models.trial import (
    Trial,
    batch_of,
    check_causal,
    check_rest,
    distance,
    in_two,
    random_ids,
    read_alone,
    refusing,
    tolerance,
)
from repsim_nb.system.atomic import OutputError, atomic
from repsim_nb.system.versions import versions

FEW = (5, 12, 29)  # lengths in tokens that are always tried
WORK = 6e9  # parameters times tokens that longer texts may take: some tenths of a second
LONGEST = 2048  # tokens: the attention of longer ones takes too much memory
MOST = 10  # lengths tried
BOUNDARIES = ("window", "block", "chunk", "local", "kernel", "segment", "landmark", "bucket", "span")
NUMBERED = ("idx", "index", "layer", "block_id")  # in names of attributes that only say which block it is
TURNING = ("longrope", "dynamic")  # kinds of rotary factors that depend on the longest sequence
SELECTING = ("index_topk", "index_topk_blocks", "indexer_budget")  # in configs: how many tokens attention selects
WORTH_KEEPING = 0.2  # seconds; the verdict of a longer probe is stored on disk

_verdicts: dict[str, Neutral] = {}


def probe(model: Model, trial: Trial, blocks: Sequence[nn.Module]) -> Neutral:
    """Find out what does not change a text's activations, compared with reading it alone.

    The config says where rotary factors change with the longest sequence. Everything else is tested on texts of random
    tokens, of odd lengths and of lengths around the windows and blocks that the config names, as far as `WORK` allows.
    They run through the first blocks only, as many as include one of each kind; short texts run through all.

    Raises
    ------
    InputError
        The model cannot read a text, or gives it other values each time.
    """
    key = _key(model)
    if known := _verdicts.get(key) or _read(key):
        with refusing(model), torch.no_grad():
            check_rest(model, trial)
    else:
        start = time.perf_counter()
        known = _probe(model, trial, _of_each_kind(blocks))
        if time.perf_counter() - start > WORTH_KEEPING:
            _keep(key, known)
    _verdicts[key] = known
    return known


@torch.no_grad()
def _probe(model: Model, trial: Trial, blocks: Sequence[nn.Module]) -> Neutral:
    below, reason = min([_rotary_switch(model), _selection(model)], key=lambda switch: switch[0] or model.context)
    seen, lengths = _Seen(model, len(blocks)), _lengths(model, blocks, below)
    in_full = _in_full(model, trial, below)
    with refusing(model):
        padding = [in_full, *(seen.padded(*pair) for pair in pairwise(lengths))]
        company = [seen.accompanied(length) for length in lengths[:2]]
        cut = [seen.cut(*pair) for pair in pairwise(lengths)] if model.kind == "causal" else []
        if not seen.again(lengths[0]) < tolerance(model):
            raise InputError("it gives other values each time it reads the same text")
    found = {"a longer text beside it": padding, "one of its length beside it": company, "what follows": cut}
    moved = {what: max(offs) for what, offs in found.items() if offs and not max(offs) < tolerance(model)}
    why = [f"{what} moves a text by {off:.0e} of a row's largest value" for what, off in moved.items()]
    if not moved:
        return Neutral(not reason, True, not reason, below, reason)
    return Neutral(
        padding="a longer text beside it" not in moved and not reason,
        company="one of its length beside it" not in moved,
        truncation="what follows" not in moved and not reason,
        why="; ".join([*why, reason] if reason else why),
    )


def _rotary_switch(model: Model) -> tuple[int, str]:
    """Up to how many tokens rotary factors are those of a short text, and the reason; 0 and "" if there is no limit."""
    own: Any = model.module.config
    config = own.get_text_config()
    given = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    ends: dict[str, int] = {}
    for rope in (given, *given.values()):  # of all layers, or by kind of layer
        if isinstance(rope, dict) and (kind := rope.get("rope_type", rope.get("type"))) in TURNING:
            said = "max_position_embeddings" if kind == "dynamic" else "original_max_position_embeddings"
            ends[kind] = rope.get(said) or getattr(config, said, None) or 0
    if not ends or model.context <= (below := min(ends.values())):
        return 0, ""
    return below, f"its rotary factors ({', '.join(ends)}) depend on the longest sequence from {below + 1:,} tokens on"


def _selection(model: Model) -> tuple[int, str]:
    """Up to how many tokens attention uses all, before it selects the best, and the reason; 0 and "" if no limit.

    Ties, and half of the scores behind a ReLU are 0, are decided by the length of the sequence.
    """
    whole: Any = model.module.config
    config = whole.get_text_config()
    said = [getattr(config, name, None) for name in SELECTING]
    chosen = [number for number in said if isinstance(number, int) and 0 < number < model.context]
    if not chosen:
        return 0, ""
    return min(chosen), f"its attention selects {min(chosen):,} tokens, and breaks ties by the longest sequence"


def turning(module: nn.Module) -> bool:
    """Whether a rotary embedding computes its factors again in every run."""
    return any(kind in str(getattr(module, "rope_type", "")) for kind in TURNING)


@contextmanager
def rotary_state(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Let rotary embeddings adapt to a sequence's length, and restore their state afterwards."""
    held = [({n: b.clone() for n, b in m.named_buffers()}, dict(vars(m))) for m in modules]
    try:
        yield
    finally:
        for module, (buffers, attributes) in zip(modules, held, strict=True):
            vars(module).update(attributes)
            for name, buffer in buffers.items():
                module._buffers[name] = buffer


def _in_full(model: Model, trial: Trial, below: int) -> float:
    """How much texts change that share a batch, one padded, through all blocks and the head.

    They run in two parts. If two beginnings of the trial's text, one padded, match the trial, then a causal model does
    not look ahead, its parts act like the whole, and one run is enough. Otherwise texts are tested one by one.
    """
    half = len(trial.ids) // 2 + 1
    if model.kind == "causal":
        begun = [_beginning(trial, length) for length in (max(half, len(trial.ids) - 1), half)]
        with refusing(model):
            if (off := _together(model, begun)) < tolerance(model):
                return off
    with refusing(model):
        start = read_alone(model, trial.ids[:half])
    if model.kind == "causal" and not 0 < below < len(trial.ids):
        check_causal(model, trial, start)
    with refusing(model):
        if not (off := _together(model, [trial, start])) < tolerance(model):
            check_rest(model, trial)
    return off


def _beginning(trial: Trial, length: int) -> Trial:
    """The result of a causal model for the first tokens."""
    return Trial(trial.ids[:length], trial.hidden[:, :length], trial.out[:, :length])


def _together(model: Model, texts: Sequence[Trial]) -> float:
    """How much texts change that share a batch."""
    batch = batch_of(model, *(text.ids for text in texts))
    hidden = in_two(model, batch)
    out = model.head(hidden, batch)
    moved = []
    for row, text in enumerate(texts):
        length = len(text.ids)
        moved.append(distance(hidden[row, :length], text.hidden[0]))
        moved.append(distance(out[row, :length] if out.dim() == 3 else out[row], text.out[0]))
    return max(moved)


class _Seen:
    """Runs of the first blocks on beginnings of one text, alone and in batches."""

    def __init__(self, model: Model, depth: int):
        self.model, self.depth = model, depth
        self.text = random_ids(model, min(model.context, LONGEST))
        self._alone: dict[int, Tensor] = {}

    def alone(self, length: int) -> Tensor:
        """(length, d_model)."""
        if length not in self._alone:
            self._alone[length] = self._run(self.text[:length])[0]
        return self._alone[length]

    def padded(self, short: int, long: int) -> float:
        """How much two texts change that share a batch, one padded."""
        both = self._run(self.text[:short], self.text[:long])
        return max(distance(both[0, :short], self.alone(short)), distance(both[1], self.alone(long)))

    def cut(self, short: int, long: int) -> float:
        """How much the beginning of a text changes when the rest follows."""
        return distance(self.alone(long)[:short], self.alone(short))

    def accompanied(self, length: int) -> float:
        """How much a text changes, first and last in a batch, next to similar and different texts."""
        own = self.text[:length]
        others = [own[::-1].copy(), np.roll(own, 1), *[np.full_like(own, token) for token in own[:4]]]
        both = self._run(own, *others, own)
        return max(distance(both[row], self.alone(length)) for row in (0, -1))

    def again(self, length: int) -> float:
        """How much a text changes when it is read again, after all others."""
        return distance(self._run(self.text[:length])[0], self.alone(length))

    def _run(self, *ids: np.ndarray) -> Tensor:
        batch = batch_of(self.model, *ids)
        return self.model.run(self.model.embed(batch), 0, self.depth, batch)


def _lengths(model: Model, blocks: Sequence[nn.Module], below: int) -> list[int]:
    """Lengths to try, ascending: a few, some around boundaries that the config names, and the longest affordable."""
    weights = max(1, sum(p.numel() for block in blocks for p in block.parameters()))
    affordable = WORK / weights
    longest = min(model.context, below or model.context, LONGEST)
    about = [near for named in sorted(_boundaries(model.module.config)) for near in (named - 1, named + 2)]
    chosen = {min(length, longest) for length in FEW}
    for length in [*about, longest, min(longest // 2 + 1, int(affordable / 4))]:
        if 0 < length <= longest and len(chosen) < MOST and 3 * (sum(chosen) + length) < affordable:
            chosen.add(length)
    return sorted(chosen)


def _boundaries(config: Any) -> set[int]:
    """Numbers of tokens in a config, judging by the names of its entries."""
    found: set[int] = set()
    for name, value in config.get_text_config().to_dict().items():
        if any(part in name for part in BOUNDARIES):
            values = value if isinstance(value, list | tuple) else [value]
            found |= {v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 2}
    return found


def _of_each_kind(blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """The first blocks, as many as include one of each kind."""
    kinds = [_kind(block) for block in blocks]
    first = {kind: place for place, kind in reversed(list(enumerate(kinds)))}
    return list(blocks)[: max(first.values()) + 1]


def _kind(block: nn.Module) -> Any:
    """Modules of a block and their settings, without its number."""
    return tuple(
        (name, type(part).__name__, tuple(sorted((k, str(v)) for k, v in vars(part).items() if _is_setting(k, v))))
        for name, part in block.named_modules()
    )


def _is_setting(name: str, value: Any) -> bool:
    if name.startswith("_") or not isinstance(value, int | float | str):
        return False
    return isinstance(value, str | bool) or not any(part in name for part in NUMBERED)


def _key(model: Model) -> str:
    """Hash of all that a verdict depends on: config, versions, device, this module, and a sample of the weights.

    Rounding may hide an effect in an untrained model that shows in a trained one.
    """
    sample = [
        [name, *p.flatten()[:: max(1, p.numel() // 4)][:4].float().tolist()]
        for name, p in model.module.named_parameters()
        if not p.is_meta
    ]
    config: Any = model.module.config
    about = [model.kind, config.to_dict(), model.context, str(model.dtype), str(model.device), versions(), sample]
    about += [getattr(config, "_attn_implementation", None), Path(__file__).read_text(encoding="utf-8")]
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _file(key: str) -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("repsim-nb")) / "neutral" / f"{key}.json"


def _read(key: str) -> Neutral | None:
    """The verdict on disk; None if there is none, or it cannot be read."""
    with suppress(OSError, ValueError, TypeError):
        return Neutral(**json.loads(_file(key).read_text(encoding="utf-8")))
    return None


def _keep(key: str, verdict: Neutral) -> None:
    """Store the verdict on disk for the next process, if possible."""
    with suppress(OSError, OutputError), atomic(_file(key)) as path:
        path.write_text(json.dumps(asdict(verdict)), encoding="utf-8")
