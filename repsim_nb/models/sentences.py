"""How a sentence-embedding model makes one vector of its tokens, from files as sentence-transformers lays them out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from repsim_nb.errors import InputError

LAYOUT = "modules.json"
MODES = {  # in a pooling's config.json, of today or before 2026 -> here
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "lasttoken": "last",
    "cls_token": "cls",
    "mean_tokens": "mean",
    "max_tokens": "max",
}


@dataclass(frozen=True)
class Pooling:
    """From states of tokens to one vector per sequence.

    Attributes:
        mode: "mean" over all tokens but padding, "max" over them, "cls" (the first) or "last".
        normalized: whether the vector is scaled to length 1.
        more: what else the published model does, which is not done here.
    """

    mode: str
    normalized: bool = False
    more: tuple[str, ...] = ()

    def __call__(
        self, hidden: Float[Tensor, "sequences length d_model"], mask: Bool[Tensor, "sequences length"]
    ) -> Float[Tensor, "sequences d_model"]:
        """Pooled.

        Raises:
            InputError: a published model that does more than this.
        """
        if self.more:
            raise InputError(f"This model's sentence embeddings need {', '.join(self.more)}, which is not supported.")
        real = mask[..., None]
        match self.mode:
            case "mean":
                vector = (hidden * real).sum(1) / real.sum(1)
            case "max":
                vector = hidden.masked_fill(~real, float("-inf")).amax(1)
            case "cls":
                vector = hidden[:, 0]
            case _:
                vector = hidden[range(len(hidden)), mask.sum(1) - 1]
        return F.normalize(vector, dim=-1) if self.normalized else vector


@dataclass(frozen=True)
class Layout:
    """Where in a folder the encoder of a sentence-embedding model is, and what comes behind it."""

    encoder: str = ""
    pooling: Pooling | None = None
    longest: int | None = None


def read_layout(folder: Path) -> Layout:
    """The layout of `folder`; that of an ordinary checkpoint where it holds no modules.json.

    Raises:
        InputError: a modules.json that is broken, or begins with anything but a transformer.
    """
    if not (folder / LAYOUT).is_file():
        return Layout()
    modules = _json(folder / LAYOUT)
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    if kinds[:1] != ["Transformer"]:
        raise InputError(f"'{folder / LAYOUT}' begins with {kinds[:1]}; expected a Transformer, then a Pooling.")
    encoder = modules[0].get("path", "")
    longest = [folder / encoder / f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "mpnet")]
    found = [_json(file) for file in longest if file.is_file()]
    return Layout(encoder, _pooling(folder, modules, kinds), found[0].get("max_seq_length") if found else None)


def _pooling(folder: Path, modules: list[dict[str, Any]], kinds: list[str]) -> Pooling | None:
    if "Pooling" not in kinds:
        return None
    config = _json(folder / modules[kinds.index("Pooling")]["path"] / "config.json")
    given = config.get("pooling_mode", [])
    modes = [given] if isinstance(given, str) else list(given)
    modes += [key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on]
    unknown = [mode for mode in modes if mode not in MODES]
    other = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize", "Dropout")]
    together = [" and ".join(modes) + " pooling at once"] if len(modes) != 1 else []
    more = (*(f"{mode} pooling" for mode in unknown), *(f"a {kind} module" for kind in other), *together)
    return Pooling(MODES.get(modes[0], "mean") if modes else "mean", "Normalize" in kinds, more)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"'{file}' cannot be read: {why}. Copy or download the model again.") from None
