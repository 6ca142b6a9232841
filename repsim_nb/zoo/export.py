"""Train a model from a recipe and write it in its target format, with metadata: losses, seeds, curve, hashes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.errors import needs
from repsim_nb.models.native import NativeConfig
from repsim_nb.system.atomic import atomic_folder
from repsim_nb.zoo.neox import NeoX
from repsim_nb.zoo.recipes import AnyRecipe, Recipe, as_json
from repsim_nb.zoo.toy import initialised
from repsim_nb.zoo.training import pack, train
from repsim_nb.zoo.vocabulary import train_tokenizer

LICENCE = "MIT (weights); trained on docstrings and source of the packages listed in the corpus provenance"


def build_recipe(recipe: Recipe, out: Path, work: Path) -> Path:
    """Train, evaluate and export one model; return its folder."""
    from tokenizers import Tokenizer

    if not recipe.rotary:
        needs(f"Building {recipe.name}", "transformer_lens")
    torch.set_num_threads(1)
    corpus = load_corpus("python-docs", split="train")
    tokenizer = train_tokenizer(corpus.texts, recipe.context)
    separator = tokenizer.bos_token_id
    backend: Tokenizer = tokenizer.backend_tokenizer
    stream = pack(
        [e.ids for e in backend.encode_batch(corpus.texts, add_special_tokens=False)], separator, recipe.data_seed
    )
    model = _plain(recipe, len(tokenizer))
    target = out / recipe.name
    held_out = evaluation_windows(load_corpus("python-docs", split="test"), backend, recipe.context, separator)
    baseline = _unigram_loss(stream, len(tokenizer), held_out)

    def export(step: int, curve: list | None = None) -> None:
        folder = target if curve is not None else out / f"{recipe.name}@step{step}"
        loss = mean_loss(model, held_out)
        about = card(recipe, step, step * recipe.batch * recipe.context, curve or [], corpus, len(stream))
        write(model, recipe, tokenizer, folder, about | {"held_out": json.dumps(held_out.losses(loss, baseline))})

    curve = train(model, recipe, stream, separator, work / f"{recipe.name}.safetensors", export)
    export(recipe.steps, curve)
    return target


def card(
    recipe: AnyRecipe, step: int, tokens_seen: int, curve: Sequence, corpus: Corpus, train_tokens: int
) -> dict[str, str]:
    """The metadata of a language model, without its held-out losses."""
    return {
        "format": "pt",
        "family": recipe.family,
        "recipe": as_json(recipe),
        "step": str(step),
        "tokens_seen": str(tokens_seen),
        "train_tokens": str(train_tokens),
        "loss_curve": json.dumps(curve),
        "corpus_sha256": corpus.sha256,
        "corpus_source": json.dumps(dict(corpus.source)),
        "licence": LICENCE,
    }


def _plain(recipe: Recipe, vocabulary: int) -> nn.Module:
    heads = recipe.width // recipe.head_width
    if recipe.rotary:
        return NeoX(vocabulary, recipe.width, recipe.depth, heads, recipe.rotary, recipe.context, recipe.init_seed)
    return initialised(_native_config(recipe, vocabulary), recipe.init_seed)


def _native_config(recipe: Recipe, vocabulary: int) -> NativeConfig:
    return NativeConfig(
        d_model=recipe.width,
        n_layers=recipe.depth,
        n_heads=recipe.width // recipe.head_width,
        d_head=recipe.head_width,
        d_mlp=4 * recipe.width,
        n_ctx=recipe.context,
        d_vocab=vocabulary,
        act_fn=recipe.activation,
    )


class HeldOut:
    """Held-out windows, each preceded by a separator, and the factor from nats per token to bits per byte."""

    def __init__(self, windows: list[list[int]], n_bytes: int, separator: int):
        self.windows = sorted(windows, key=len)
        self.separator = separator
        self.tokens = sum(len(w) for w in windows)
        self.bits_per_byte = self.tokens / n_bytes / math.log(2)

    def losses(self, loss: float, unigram: float) -> dict[str, Any]:
        """The entry of the metadata: a model's loss and that of training frequencies, in nats per token."""
        return {
            "corpus": "python-docs",
            "split": "test",
            "tokens": self.tokens,
            "nats_per_token": loss,
            "bits_per_byte": loss * self.bits_per_byte,
            "unigram_nats_per_token": unigram,
            "unigram_bits_per_byte": unigram * self.bits_per_byte,
        }


def evaluation_windows(corpus: Corpus, backend: Any, context: int, separator: int) -> HeldOut:
    """The documents of a corpus, cut into windows of the context."""
    encoded = backend.encode_batch(corpus.texts, add_special_tokens=False)
    windows = [e.ids[i : i + context - 1] for e in encoded for i in range(0, len(e.ids), context - 1)]
    return HeldOut(windows, sum(len(t.encode("utf-8")) for t in corpus.texts), separator)


def _unigram_loss(stream: np.ndarray, vocabulary: int, held_out: HeldOut) -> float:
    """Loss of add-one smoothed training frequencies, in nats per token."""
    counts = np.bincount(stream, minlength=vocabulary) + 1.0
    log_share = np.log(counts / counts.sum())
    return -float(np.mean(log_share[np.concatenate(held_out.windows)]))


@torch.no_grad()
def mean_loss(model: nn.Module, held_out: HeldOut, batch: int = 32) -> float:
    """Mean loss of a model on held-out windows, in nats per token."""
    model.eval()
    total = 0.0
    for start in range(0, len(held_out.windows), batch):
        rows = held_out.windows[start : start + batch]
        length = max(map(len, rows))
        ids = torch.full((len(rows), length + 1), held_out.separator)
        targets = torch.full((len(rows), length), -100)
        for i, row in enumerate(rows):
            ids[i, 1 : len(row) + 1] = targets[i, : len(row)] = torch.tensor(row)
        logits = model(ids)[:, :-1]
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
    model.train()
    return total / held_out.tokens


def write(model: nn.Module, recipe: Recipe, tokenizer: Any, folder: Path, about: dict[str, str]) -> None:
    """Write config, fp16 weights and tokenizer; assert that the model read back computes the same function."""
    half: dict[str, Tensor] = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    with atomic_folder(folder) as partial:
        tokenizer.save_pretrained(partial)
        (partial / "model.safetensors").write_bytes(save(half, about))
        reader = _write_neox if recipe.rotary else _write_native
        _assert_same_function(model, half, reader(recipe, tokenizer, partial))


def _write_neox(recipe: Recipe, tokenizer: Any, folder: Path) -> Callable[[Tensor], Tensor]:
    """Write the config of a Hugging Face GPTNeoXForCausalLM; return the function that transformers reads back."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    GPTNeoXConfig(
        architectures=["GPTNeoXForCausalLM"],
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        num_hidden_layers=recipe.depth,
        num_attention_heads=recipe.width // recipe.head_width,
        intermediate_size=4 * recipe.width,
        max_position_embeddings=recipe.context,
        rope_parameters={
            "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": recipe.rotary / recipe.head_width,
        },
        hidden_act=recipe.activation,
        use_parallel_residual=True,
        tie_word_embeddings=False,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float16",
    ).save_pretrained(folder)  # fmt: skip
    exported = GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return lambda ids: exported(ids).logits


def _write_native(recipe: Recipe, tokenizer: Any, folder: Path) -> Callable[[Tensor], Tensor]:
    """Write the config of a TransformerLens native model; return the logits function TransformerLens reads back."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources.native import NativeModel

    config = _native_config(recipe, len(tokenizer)).written()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    exported = NativeModel(TransformerBridgeConfig.from_dict(config)).eval()
    exported.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    return exported


@torch.no_grad()
def _assert_same_function(model: nn.Module, half: dict[str, Tensor], exported: Callable[[Tensor], Tensor]) -> None:
    ids = torch.randint(0, 2000, (4, 64), generator=torch.Generator().manual_seed(0))
    expected = torch.func.functional_call(model, {k: v.float() for k, v in half.items()}, (ids,))
    difference = ((expected - exported(ids)).abs().max() / expected.abs().max()).item()
    if difference > 1e-5:
        raise AssertionError(
            f"Exported logits differ from the trained model's by {difference:.1e} of the largest logit."
        )
