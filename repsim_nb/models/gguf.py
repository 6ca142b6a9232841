"""GGUF files: quantised weights in one file. Converting one takes a minute; the result then loads in seconds."""

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
MAGIC = b"GGUF"
CONVERSION = 1  # increase when the conversion changes
QUANTISATION = "quantization_config"


def converted(file: Path, cache: Path) -> Path:
    """The folder of a GGUF file in Hugging Face's format, written by the first call.

    Parameters
    ----------
    file
        A GGUF file of an architecture that transformers reads, such as Llama, Qwen2, Mistral or Gemma.
    cache
        Folder for converted models. Each has the hash of its file in its name.

    Returns
    -------
    Path
        A folder with config.json, model.safetensors and the tokenizer. The weights are the float32 numbers that the
        quantised ones stand for.

    Raises
    ------
    InputError
        If it is no GGUF file, or transformers does not read its architecture.
    """
    folder = cache / f"gguf-{sha256_of(file)[:32]}-{CONVERSION}"
    if not (folder / "config.json").is_file():
        with atomic_folder(folder) as draft:
            convert(file, draft)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Write the model in a GGUF file to an existing folder, in Hugging Face's format."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with open(file, "rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise InputError(f"'{file}' is not a GGUF file: its first bytes are not {MAGIC!r}. Download it again.")
    given: dict[str, Any] = {"gguf_file": file.name, **NO_CODE}
    with naming(f"Cannot read '{file}'", "Use a GGUF file of an architecture that transformers reads."), quiet():
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "float32"}
    config.pop(QUANTISATION, None)  # the weights are ordinary numbers from here on
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if config.get("tie_word_embeddings"):
        for name in getattr(model, "_tied_weights_keys", None) or ():
            tensors.pop(name, None)
    weights = folder / "model.safetensors"
    weights.touch()
    permissions = weights.stat().st_mode
    save_file(tensors, weights, {"format": "pt", "gguf_sha256": sha256_of(file)})
    weights.chmod(permissions)  # save_file leaves 0600
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str), encoding="utf-8")


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
