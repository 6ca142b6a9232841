"""Models that compute the same function as another, in another basis or with a layer more."""

import copy

import numpy as np
import scipy.linalg
import torch


def rotation_for(model, seed=0):
    """A random rotation that leaves the direction that LayerNorm removes where it is, (d_model, d_model)."""
    rng = np.random.default_rng(seed)
    ones = np.ones((model.d_model, 1)) / model.d_model**0.5
    basis = scipy.linalg.qr(np.hstack([ones, rng.standard_normal((model.d_model, model.d_model - 1))]))[0]
    turn = np.eye(model.d_model)
    turn[1:, 1:] = scipy.linalg.qr(rng.standard_normal((model.d_model - 1,) * 2))[0]
    return torch.from_numpy(basis @ turn @ basis.T)


def rotated(model, rotation):
    """The same function with its residual stream turned, norm gains folded into what reads from them first."""
    module = model.module
    state = {k: v.double() for k, v in module.state_dict().items()}

    def fold(norm, readers):
        gain, shift = state[f"{norm}.weight"].clone(), state[f"{norm}.bias"].clone()
        for reader in readers:
            weight = state[f"{reader}.weight"]
            state[f"{reader}.bias"] = state.get(f"{reader}.bias", weight.new_zeros(len(weight))) + weight @ shift
            state[f"{reader}.weight"] = weight * gain @ rotation
        state[f"{norm}.weight"], state[f"{norm}.bias"] = torch.ones_like(gain), torch.zeros_like(shift)

    for i in range(model.n_layers):
        fold(f"layers.{i}.ln1", [f"layers.{i}.attn.{x}" for x in "qkv"])
        fold(f"layers.{i}.ln2", [f"layers.{i}.mlp.fc_in"])
        for writer in ("attn.o", "mlp.fc_out"):
            state[f"layers.{i}.{writer}.weight"] = rotation.T @ state[f"layers.{i}.{writer}.weight"]
            state[f"layers.{i}.{writer}.bias"] = state[f"layers.{i}.{writer}.bias"] @ rotation
    fold("ln_out", ["head"])
    for name in ("tok_embed", "pos"):
        state[f"{name}.weight"] = state[f"{name}.weight"] @ rotation
    network = type(module)(module.config, head_bias=True)
    network.load_state_dict({k: v.float() for k, v in state.items()})
    return type(model)("rotated", network, model.tokenizer, {"source": "test"})


def deepened(model, after):
    """The same function with one more block, after block `after`, that adds nothing (GPT-NeoX)."""
    config = copy.deepcopy(model.module.config)
    config.num_hidden_layers += 1
    network, state = type(model.module)(config), {}
    for name, value in model.module.state_dict().items():
        before, block, rest = name.partition("layers.")
        number, _, what = rest.partition(".")
        if not block:
            state[name] = value
            continue
        state[f"{before}{block}{int(number) + (int(number) >= after)}.{what}"] = value
        if int(number) == 0:  # the new one, but for what it adds
            adds = what.startswith(("attention.dense.", "mlp.dense_4h_to_h."))
            state[f"{before}{block}{after}.{what}"] = torch.zeros_like(value) if adds else value
    network.load_state_dict(state)
    return type(model)("deepened", network, model.tokenizer, {"source": "test"})
