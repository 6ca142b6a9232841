"""Extraction beside bare forward passes and a loop over `output_hidden_states`: the same models, the same tokens."""

import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import repsim_nb as rs
from repsim_nb.activations import Sampling
from repsim_nb.activations.extraction import _batches, plan_aligned
from repsim_nb.models import Model
from tests.benchmarks.peers import CONTENDERS, loop_over_features
from tests.support.real_tokenizers import FILES
from tests.support.real_tokenizers import tokenizer as published
from tests.support.realdata import realdata

TOKENS = 512  # few, so that contenders take turns often
MOST = 10**6  # more rows than there are


def tokenizer() -> Any:
    """That of GPT-2 where it is present, else the embedded one."""
    if realdata(FILES["gpt2"]).exists():
        return published("gpt2", 1024)
    return rs.load_model("tiny-neox-w32-d2").tokenizer


def texts(count: Callable[[str], int], tokens: int) -> list[str]:
    """Whole paragraphs, as many as have about so many tokens."""
    file = realdata("wikitext2_valid.txt")
    corpus = rs.load_corpus(file) if file.exists() else rs.load_corpus("python-docs")
    found = [text for text in corpus.texts[:400] if 30 < count(text) < 250]
    ends = accumulate(map(count, found))
    return [text for text, end in zip(found, ends, strict=False) if end <= tokens]


def model(seed: int, small: bool) -> Model:
    """GPT-2 with random weights."""
    words = tokenizer()
    torch.manual_seed(seed)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2} if small else {}
    return rs.load_model(GPT2LMHeadModel(GPT2Config(vocab_size=len(words), **sizes)), tokenizer=words)


def sampling(corpus: list[str], n_rows: int = MOST) -> Sampling:
    return Sampling(corpus, n_rows=n_rows, rows_per_document=n_rows).loaded("python-docs")


def bare(models: list[Model], corpus: list[str]) -> Callable[[], None]:
    """Forward passes of transformers' own trunk over the batches that ours runs, made beforehand; nothing is kept."""
    prepared = []
    for plan in plan_aligned(models, None, sampling(corpus)):
        for batch in _batches(plan.model, plan.selection, plan.batch_tokens):
            windows = [plan.selection.windows[w].truncated(end) for w, end in batch]
            prepared.append((plan.model.module.transformer, plan.model.collate(windows).ids))

    @torch.no_grad()
    def run() -> None:
        for trunk, ids in prepared:
            trunk(input_ids=ids, use_cache=False)  # padding is on the right: a causal model needs no mask

    return run


@torch.no_grad()
def loop(models: list[Model], corpus: list[str]) -> list[list[Tensor]]:
    """What people write: a text at a time, every hidden state of every token."""
    found = []
    for model in models:
        states: list[list[Tensor]] = []
        for text in corpus:
            ids = model.tokenizer(text, return_tensors="pt")["input_ids"]
            out = model.module.transformer(input_ids=ids, output_hidden_states=True, use_cache=False)
            states.append([hidden[0] for hidden in out.hidden_states])
        found.append([torch.cat(layer) for layer in zip(*states, strict=True)])
    return found


def ours(models: list[Model], corpus: list[str], n_rows: int) -> list[list[Tensor]]:
    return [list(rs.extract(m, corpus, n_rows=n_rows, rows_per_document=n_rows).values()) for m in models]


def compared(models: list[Model], corpus: list[str], n_rows: int) -> np.ndarray:
    return rs.compare(*models, corpus, n_rows=n_rows, rows_per_document=n_rows).values


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def kept(model: Model, corpus: list[str], n_rows: int) -> np.ndarray:
    """Which of all tokens are rows: those that end a character."""
    selection = plan_aligned([model], None, sampling(corpus, n_rows))[0].selection
    starts = np.concatenate([[0], np.cumsum(selection.windows.counts)])
    return starts[selection.window] + selection.position


def difference(one: list[list[Tensor]], other: list[list[Tensor]]) -> float:
    """Largest difference in any layer but the last, relative to the layer's largest value.

    The last of transformers' hidden states is after the final norm, ours before it.
    """
    pairs = [(x, y) for a, b in zip(one, other, strict=True) for x, y in zip(a[:-1], b[:-1], strict=True)]
    return max(((x - y).abs().max() / y.abs().max()).item() for x, y in pairs)


def extraction(quick: bool) -> list[dict[str, Any]]:
    """Lines of the table."""
    from tests.benchmarks.bench_peers import alone, apart, turns

    models = [model(seed, quick) for seed in (0, 1)]
    words = tokenizer()
    corpus = texts(lambda text: len(words(text)["input_ids"]), 200 if quick else TOKENS)
    n = len(plan_aligned(models[:1], None, sampling(corpus))[0])
    package = next(c for c in CONTENDERS if c.name == "pytorch-cka")
    works: dict[str, Callable[[], Any]] = {
        "bare forward passes": bare(models, corpus),
        "loop over output_hidden_states": lambda: loop(models, corpus),
        "repsim-nb extract": lambda: ours(models, corpus, n),
        "loop, then loop over X'Y": lambda: loop_over_features(*loop(models, corpus)),
        "repsim-nb compare": lambda: compared(models, corpus, n),
    }
    if package.version:
        works["loop, then pytorch-cka"] = lambda: package.grid(*loop(models, corpus))
    hashing = seconds(lambda: [m.weights_sha256 for m in models])  # once per model, then remembered
    for work in works.values():
        work()
    peaks = {name: apart(alone, work, lambda: None)[0] for name, work in works.items()}
    first = list(works)[:3]
    taken = turns({name: works[name] for name in first}, 9, 40.0)
    taken = turns({name: work for name, work in works.items() if name not in first[1:]}, 3) | taken
    taken = {name: taken[name] for name in works}
    parts = {
        "tokenizing, choosing rows": seconds(lambda: plan_aligned(models, None, sampling(corpus, n))),
        "embeddings": seconds(lambda: [m.embed(m.batch([text])) for m in models for text in corpus]),
        "hashing, once per model": hashing,
    }
    size = {"part": "extraction", "rows": n, "width": models[0].d_model, "layers": models[0].n_layers + 1}
    at = kept(models[0], corpus, n)
    reference = [[layer[at] for layer in layers] for layers in taken["loop over output_hidden_states"].result]
    values = loop_over_features(*reference)
    lines = []
    for name, t in taken.items():
        line = size | {"contender": name, "version": "", "cpu_seconds": t.cpu, "wall_seconds": t.wall}
        line |= {"ratio": t.ratio, "peak_mb": peaks[name] / 1e6, "left_out": ""}
        if name == "repsim-nb extract":
            line["difference"] = difference(t.result, reference)
        elif name == "repsim-nb compare":  # the last layer is after the final norm in transformers
            line["difference"] = float(np.abs(t.result - values)[:-1, :-1].max())
        lines.append(line)
    for name, once in parts.items():
        ratio = once / taken["bare forward passes"].cpu
        lines.append(size | {"contender": name, "cpu_seconds": once, "ratio": ratio, "left_out": ""})
    if not package.version:
        lines.append(size | {"contender": "loop, then pytorch-cka", "left_out": "not installed"})
    return lines
