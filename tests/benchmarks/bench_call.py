"""What one call costs beyond bare forward passes: two models of GPT-2's size, default arguments.

    python -m tests.benchmarks.bench_call [n_rows]

Random weights of the shapes of GPT-2 and Pythia-160m, the validation text of WikiText-2 and their published tokenizers
(tests/support/realdata.py), one thread, CPU seconds. Bare: `n_rows` tokens in windows of 1,024 through transformers'
own network, without its head. Then `compare(a, b, corpus)` at its defaults, with one row per document, and at its
defaults with an interval; the tokens each runs and the mean width of the interval beside it.

"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

import repsim_nb as rs
from repsim_nb.activations import Sampling
from repsim_nb.activations.extraction import plan_aligned
from repsim_nb.models import Model
from tests.support.real_tokenizers import tokenizer
from tests.support.realdata import realdata


def gpt2_sizes() -> list[Model]:
    """Untrained models of the shapes of GPT-2 (124 million parameters) and Pythia-160m (162 million)."""
    torch.manual_seed(0)
    pythia = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    networks: dict[str, Any] = {
        "gpt2": GPT2LMHeadModel(GPT2Config()),
        "neox": GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=50304, max_position_embeddings=2048, **pythia)),
    }
    return [rs.load_model(network.eval(), tokenizer=tokenizer(kind, 1024)) for kind, network in networks.items()]


def paragraphs() -> list[str]:
    """The lines of WikiText-2, validation, that hold text."""
    lines = realdata("wikitext2_valid.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip()]


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


@torch.no_grad()
def bare(model: Model, tokens: int) -> float:
    """CPU seconds of the network without its head, in windows of 1,024."""
    ids = torch.randint(
        0, 50000, (max(1, tokens // 1024), min(1024, tokens)), generator=torch.Generator().manual_seed(0)
    )
    trunk = model.module.base_model
    trunk(input_ids=ids[:, :128], use_cache=False)
    return cpu(lambda: trunk(input_ids=ids, use_cache=False))[0]


def main() -> None:
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    models, corpus = gpt2_sizes(), rs.load_corpus(paragraphs())
    rs.compare(*models, corpus, n_rows=64)  # everything is imported
    models = gpt2_sizes()
    forward = sum(bare(model, n_rows) for model in models)
    print(f"bare forward passes over {n_rows:,} tokens in each: {forward:.1f} CPU s", flush=True)
    for each, interval in ((None, None), (None, True), (1, True)):
        how = {"n_rows": n_rows, "rows_per_document": each}
        seconds, grid = cpu(lambda how=how, interval=interval: rs.compare(*models, corpus, interval=interval, **how))
        plans = plan_aligned(models, None, Sampling(corpus, **how))
        width = f", interval {float((grid.high - grid.low).mean()):.4f} wide" if interval else ""
        chosen = plans[0].selection.rows_per_document
        print(
            f"rows_per_document={each} ({chosen}): {seconds:.1f} CPU s, {seconds / forward:.1f} times; "
            f"{sum(plan.tokens() for plan in plans) / (2 * n_rows):.1f} tokens a row{width}",
            flush=True,
        )


if __name__ == "__main__":
    main()
