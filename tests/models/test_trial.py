"""Parts that are joined at any position are the model, or the model is refused. Small and random models."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import repsim_nb as rs
from repsim_nb.errors import InputError
from tests.models.test_neutral import TEXTS, loaded, random_causal, random_module


def rwkv(rescale_every):
    sizes = {"num_hidden_layers": 8, "context_length": 40, "attention_hidden_size": 16, "rescale_every": rescale_every}
    return random_module("rwkv", AutoModelForCausalLM, **sizes)


def test_load_model_refuses_blocks_that_hooks_never_see():
    with pytest.raises(InputError, match=r"cannot be run part by part: .* did not pass layer 0 in this run"):
        loaded(random_module("squeezebert", embedding_size=16))


def test_load_model_refuses_blocks_that_depend_on_their_number():
    with pytest.raises(InputError, match="from position 5 to 6 alone, they differ from the whole"):
        loaded(rwkv(6))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::repsim_nb.models.survey_table.UnsurveyedWarning")
def test_run_is_right_at_every_cut_of_an_rwkv_that_rescales_nothing():
    module = rwkv(0)
    model = loaded(module)
    batch = model.batch(TEXTS[:1])
    behind = module(input_ids=batch.ids, output_hidden_states=True, use_cache=False).hidden_states  # each block
    states = [model.embed(batch), *behind[:8]]
    for k in range(9):
        for m in range(k, 9):
            assert (model.run(states[k], k, m, batch) - states[m]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        ("longformer", {"attention_window": 8}, r"holds \(1, 16, 16\) at layer 0; expected \(1, 9, 16\)"),
        ("big_bird", {"block_size": 4, "num_random_blocks": 1}, "BlockSparseAttention becomes BigBirdSelfAttention"),
        ("nystromformer", {"num_landmarks": 8, "segment_means_seq_len": 16}, "not supported"),
    ],
)
def test_load_model_refuses_attention_that_needs_certain_lengths(kind, sizes, message):
    with pytest.raises(InputError, match=message):
        loaded(random_module(kind, **sizes))


class Selfish(torch.nn.Module):
    """A norm that learns as it runs."""

    def __init__(self, size):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size), requires_grad=False)

    def forward(self, x):
        self.weight.mul_(1.0)
        return x * self.weight


def test_load_model_refuses_a_model_that_changes_its_own_weights():
    module = random_causal("llama")
    module.model.norm = Selfish(16)
    with pytest.raises(InputError, match=r"changes its own weights as it runs, model\.norm\.weight among them"):
        loaded(module)


class Parity(torch.nn.Module):
    """A block that hands on a counter of the blocks before it, which only the first one sets."""

    def __init__(self, block, count):
        super().__init__()
        self.block, self.count = block, count

    def forward(self, hidden_states, **given):
        first = given["position_ids"].data_ptr() != self.count.get("of")
        self.count.update(of=given["position_ids"].data_ptr(), n=0 if first else self.count["n"] + 1)
        return self.block(hidden_states, **given) * (1 + self.count["n"] % 2)


def test_load_model_refuses_blocks_that_depend_on_how_many_ran_before():
    module, count = random_causal("llama"), {}
    module.model.layers = torch.nn.ModuleList(Parity(block, count) for block in module.model.layers)
    with pytest.raises(InputError, match=r"cannot be run part by part: .* differ"):
        loaded(module)


def test_read_refuses_a_module_that_runs_twice_in_a_block():
    module = random_module("bert", chunk_size_feed_forward=2)
    model = loaded(random_module("bert"))
    model.module = model._trunk = module  # whose MLP gives its output in pieces
    batch = model.batch([TEXTS[0]])
    taken = {}
    model.read(batch, [1], taken.__setitem__, "attn_out")
    assert taken[1].shape == (1, 4, 16)
    with pytest.raises(InputError, match=r"holds \(1, 2, 16\) at layer 1; expected \(1, 4, 16\)"):
        model.read(batch, [1], taken.__setitem__, "mlp_out")
    module.encoder.layer[0].attention.forward = _twice(module.encoder.layer[0].attention)
    with pytest.raises(InputError, match="passed layer 1 twice"):
        model.read(batch, [1], taken.__setitem__, "attn_out")


def _twice(attention):
    run = attention.forward

    def forward(*args, **given):
        run(*args, **given)
        return run(*args, **given)

    return forward


@pytest.mark.parametrize("taps", ["never", "some rows"])
def test_extract_returns_no_row_that_was_not_filled(taps, monkeypatch):
    model = loaded(random_module("bert"))
    blocks = model._blocks

    def run(hidden, k, m, batch, tap):
        return blocks(hidden, k, m, batch, None if taps == "never" else lambda p, h: tap(p, h[:1]))

    monkeypatch.setattr(model, "_blocks", run)
    with pytest.raises(InputError, match=r"did not pass layer 0|holds \(1, "):
        rs.extract(model, TEXTS, n_rows=9)
