"""Train an embedded language model further on one kind of documents, wholly or in some of its blocks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from repsim_nb.corpora import load_corpus
from repsim_nb.system.shipped import data_dir
from repsim_nb.zoo.bert import metadata_of
from repsim_nb.zoo.export import card, evaluation_windows, mean_loss, write
from repsim_nb.zoo.neox import NeoX
from repsim_nb.zoo.recipes import RECIPES, DescendantRecipe, Recipe
from repsim_nb.zoo.training import pack, train

WEIGHTS = "model.safetensors"


def build_descendant(recipe: DescendantRecipe, out: Path, work: Path) -> Path:
    """Fine-tune, evaluate and write a language model; return its folder. The base is in `out`, or embedded."""
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    start = out / recipe.base if (out / recipe.base / WEIGHTS).exists() else data_dir() / recipe.base
    base = RECIPES[recipe.base]
    assert isinstance(base, Recipe)
    tokenizer: Any = AutoTokenizer.from_pretrained(start)
    backend, separator = tokenizer.backend_tokenizer, tokenizer.bos_token_id
    corpus = load_corpus("python-docs", "train")
    corpus = corpus.take(i for i, name in enumerate(corpus.documents) if name.startswith(f"{recipe.documents}:"))
    encoded = backend.encode_batch(list(corpus.texts), add_special_tokens=False)
    stream = pack([each.ids for each in encoded], separator, recipe.data_seed)
    model = read_back(base, start, len(tokenizer))
    freeze_all_but(model, recipe.blocks)
    curve = train(model, recipe, stream, separator, work / f"{recipe.name}.safetensors", lambda step: None)
    held_out = evaluation_windows(load_corpus("python-docs", "test"), backend, recipe.context, separator)
    about = metadata_of(start / WEIGHTS)
    seen = int(about["tokens_seen"]) + recipe.steps * recipe.batch * recipe.context
    unigram = json.loads(about["held_out"])["unigram_nats_per_token"]
    made = card(recipe, recipe.steps, seen, curve, corpus, len(stream))
    made["held_out"] = json.dumps(held_out.losses(mean_loss(model, held_out), unigram))
    write(model, base, tokenizer, out / recipe.name, made)
    return out / recipe.name


def read_back(recipe: Recipe, folder: Path, vocabulary: int) -> NeoX:
    """A model of the zoo with the weights of a folder, ready to be trained further."""
    heads = recipe.width // recipe.head_width
    model = NeoX(vocabulary, recipe.width, recipe.depth, heads, recipe.rotary, recipe.context, recipe.init_seed)
    model.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    return model


def freeze_all_but(model: nn.Module, blocks: tuple[int, ...] | None) -> None:
    """Leave only these blocks to be trained, numbered from 1; None leaves everything."""
    for name, parameter in model.named_parameters():
        block = re.match(r"gpt_neox\.layers\.(\d+)\.", name)
        parameter.requires_grad_(blocks is None or (block is not None and int(block[1]) + 1 in blocks))
