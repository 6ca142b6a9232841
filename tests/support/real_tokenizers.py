"""Tokenizers that nobody here made, and small untrained models around their vocabularies."""

from functools import cache

import pytest
import torch

from tests.support.realdata import FOLDER, realdata

FILES = {"gpt2": "gpt2_tokenizer.json", "neox": "neox_tokenizer.json", "llama": "stories260k/tokenizer.json"}
needs_realdata = pytest.mark.skipif(
    not all(realdata(name).exists() for name in FILES.values()),
    reason=f"needs published tokenizers ({', '.join(FILES.values())}) in a folder named by {FOLDER}",
)


@cache
def tokenizer(kind, length=64):
    from transformers import PreTrainedTokenizerFast

    ends = {"eos_token": "</s>", "bos_token": "<s>"} if kind == "llama" else {"eos_token": "<|endoftext|>"}
    if kind == "gpt2":
        ends["bos_token"] = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_file=str(realdata(FILES[kind])), model_max_length=length, **ends)


@cache
def model(kind, seed=0):
    """Two layers, width 8, context 64 tokens."""
    import transformers

    import repsim_nb as rs

    vocabulary = len(tokenizer(kind))
    sizes = {"vocab_size": vocabulary, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    names = {"gpt2": "GPT2", "neox": "GPTNeoX", "llama": "Llama"}
    config = getattr(transformers, f"{names[kind]}Config")(**sizes, max_position_embeddings=64, intermediate_size=16)
    network = getattr(transformers, "GPT2LMHeadModel" if kind == "gpt2" else f"{names[kind]}ForCausalLM")
    torch.manual_seed(seed)
    return rs.load_model(network(config), tokenizer=tokenizer(kind))
