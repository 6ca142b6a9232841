"""GGUF files: quantised weights in one file, converted once to a plain folder that loads in seconds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint_folder import naming
from repsim_nb.models.tokenizer import NO_CODE, quiet
from repsim_nb.system.atomic import atomic_folder

SUFFIX = ".gguf"
CONVERSION = 1  # raise when what is written of a file changes
QUANTISATION = "quantization_config"
WHERE = "a path to a GGUF file"


def converted(file: Path, cache: Path) -> Path:
    """The folder of a GGUF file in Hugging Face's format, written at the first call.

    Parameters
    ----------
    file
        A GGUF file of an architecture that transformers reads (Llama, Qwen2, Mistral, Gemma and others).
    cache
        Where folders are kept, each under the hash of its file.

    Returns
    -------
    Path
        With config.json, model.safetensors (float32, as the quantised weights stand for) and the tokenizer.

    Raises
    ------
    InputError
        No GGUF file, an architecture that transformers does not read, or no package `gguf`.
    """
    folder = cache / f"gguf-{sha256_of(file)[:32]}-{CONVERSION}"
    if not (folder / "config.json").is_file():
        with atomic_folder(folder) as draft:
            convert(file, draft)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Write what a GGUF file holds to `folder`; the second half of `converted`."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _check(file)
    with naming(f"Cannot read '{file}'", "Expected a GGUF file of an architecture that transformers reads."), quiet():
        given: dict[str, Any] = {"gguf_file": file.name, **NO_CODE}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
    config = model.config.to_dict()
    config.pop(QUANTISATION, None)  # the weights are plain numbers from here on
    config |= {"architectures": [type(model).__name__], "dtype": "float32", "torch_dtype": "float32"}
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    for name in model._tied_weights_keys or () if config.get("tie_word_embeddings") else ():
        tensors.pop(name, None)
    save_file(tensors, folder / "model.safetensors", {"format": "pt", "gguf_sha256": sha256_of(file)})
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str), encoding="utf-8")


def _check(file: Path) -> None:
    """The four letters that every such file begins with, and the package that reads the rest."""
    from importlib.util import find_spec

    with open(file, "rb") as opened:
        if opened.read(4) != b"GGUF":
            raise InputError(f"'{file}' is no GGUF file: it does not begin with GGUF. Download it again.")
    if find_spec("gguf") is None:
        raise InputError(f"Reading '{file}' needs the package gguf: pip install gguf")


def sha256_of(file: Path) -> str:
    """Hash of a file's bytes."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
