"""Small random models in TransformerLens' formats, written without the code that reads them."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from repsim_nb.system.shipped import data_dir

TOKENIZER = data_dir() / "tiny-neox-w32-d2"
SHAPE = {
    "d_model": 12,
    "n_layers": 3,
    "n_heads": 2,
    "d_head": 5,  # heads * d_head is not d_model: a swapped pair of axes cannot pass for the right one
    "d_mlp": 20,
    "n_ctx": 40,
    "d_vocab": 2048,
}


def today(act_fn: str = "gelu") -> dict[str, object]:
    """A config.json as TransformerLens writes it now."""
    return {"architecture": "TransformerLensNative", **SHAPE, "act_fn": act_fn, "normalization_type": "LN"}


def older(act_fn: str = "gelu") -> dict[str, object]:
    """A config.json as the toy models on the hub have it."""
    return {**SHAPE, "act_fn": act_fn, "attn_only": False, "normalization": "LN", "tokenizer_name": str(TOKENIZER)}


def older_weights(
    act_fn: str = "gelu", output_bias: bool = True, seed: int = 0, layers: int = SHAPE["n_layers"], mlps: bool = True
) -> dict[str, torch.Tensor]:
    """Random weights by the older names, masks included; norms are off one and zero so that none can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    width, heads, inner, mlp, vocabulary = (SHAPE[k] for k in ("d_model", "n_heads", "d_head", "d_mlp", "d_vocab"))

    def normal(*shape: int, around: float = 0.0) -> torch.Tensor:
        return around + torch.randn(shape, generator=generator) * 0.25

    weights = {"embed.W_E": normal(vocabulary, width), "pos_embed.W_pos": normal(SHAPE["n_ctx"], width)}
    for layer in range(layers):
        block = {f"attn.W_{x}": normal(heads, width, inner) for x in "QKV"}
        block |= {f"attn.b_{x}": normal(heads, inner) for x in "QKV"}
        block |= {"attn.W_O": normal(heads, inner, width), "attn.b_O": normal(width)}
        block |= {"mlp.W_in": normal(width, mlp), "mlp.b_in": normal(mlp)}
        block |= {"mlp.W_out": normal(mlp, width), "mlp.b_out": normal(width)}
        norms = {"ln1": width, "ln2": width} | ({"mlp.ln": mlp} if act_fn == "solu_ln" else {})
        for norm, size in norms.items():
            block |= {f"{norm}.w": normal(size, around=1.0), f"{norm}.b": normal(size)}
        if not mlps:
            block = {key: value for key, value in block.items() if not key.startswith(("mlp", "ln2"))}
        block |= {"attn.mask": torch.ones(4, 4).tril().bool(), "attn.IGNORE": torch.tensor(-1e5)}
        weights |= {f"blocks.{layer}.{key}": value for key, value in block.items()}
    weights |= {"ln_final.w": normal(width, around=1.0), "ln_final.b": normal(width)}
    weights |= {"unembed.W_U": normal(width, vocabulary)}
    return weights | ({"unembed.b_U": normal(vocabulary)} if output_bias else {})


def oldest(weights: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """The same weights as the SoLU models of the Pile hold them: other names, and in the smaller ones turned round."""
    turned = {}
    for key, value in weights.items():
        flip = layers <= 8 if key.endswith("W_pos") else layers <= 6 and "W_" in key
        name = key.replace("ln_final", "norm").replace(".ln", ".norm")
        turned[name] = value.transpose(-1, -2).contiguous() if flip else value
    return turned


def write(folder: Path, config: object, weights: dict[str, torch.Tensor], file: str = "model.safetensors") -> Path:
    """A model directory; by its name `file` is safetensors or what torch.save makes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if file.endswith(".pth"):
        torch.save(weights, folder / file)
    else:
        save_file(weights, folder / file)
    return folder
