"""Speed and memory of the linear measures, as ratios to a plain GEMM of the same work in the same run.

    python tests/benchmarks/bench_measures.py [job ...]

One thread, process CPU seconds; floor and job alternate, and the median ratio of the repeats is given, because a
shared machine changes its speed from one second to the next. Peak memory (Linux) is beyond what was held before.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import contextlib
import ctypes
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import repsim_nb as rs
from repsim_nb.activations.extraction import tokens_per_batch
from repsim_nb.measures import get_measure
from repsim_nb.models import Model
from repsim_nb.models.shape import shape_of

LAYERS = 12
SEEDS = 50
SEQUENCES = 512


class Job(NamedTuple):
    """What is timed, and what the same arithmetic costs at least."""

    name: str
    target: str
    work: Callable[[], object]
    floor: Callable[[], object]
    scale: float = 1.0  # of the floor: only a share of it is run
    repeats: int = 3


def layers(n: int, d: int, seed: int) -> list[Tensor]:
    """Layers that share 40 directions, with a spectrum that falls and a mean that is not 0."""
    rng = torch.Generator().manual_seed(0)
    shared = torch.randn(n, 40, generator=rng)
    rng = torch.Generator().manual_seed(seed)
    spectrum = 1 / torch.arange(1, d + 1).sqrt()
    return [
        shared @ torch.randn(40, d, generator=rng) * 0.2
        + torch.randn(n, d, generator=rng) * spectrum
        + torch.randn(d, generator=rng)
        for _ in range(LAYERS)
    ]


def grid(name: str, xs: list[Tensor], ys: list[Tensor], **params: object) -> np.ndarray:
    measure = get_measure(name, **params)
    return measure.grid([measure.prepare(x, "x") for x in xs], [measure.prepare(y, "y") for y in ys])


def products(xs: list[Tensor], ys: list[Tensor], count: int) -> None:
    for k in range(count):
        _ = xs[k % LAYERS].T @ ys[(k + 1) % LAYERS]


def cka() -> Job:
    xs, ys = layers(10_000, 768, 1), layers(10_000, 768, 2)
    # 144 products and 24 symmetric ones counted half; 12 are run.
    return Job("cka, n=10,000 d=768", "1.15", lambda: grid("cka", xs, ys), lambda: products(xs, ys, 12), 13)


def gram() -> Job:
    xs, ys = layers(2_000, 2_048, 1), layers(2_000, 2_048, 2)

    def floor() -> None:
        for x in xs:  # 24 symmetric products, counted half
            _ = x @ x.T

    return Job("cka, n=2,000 d=2,048", "1.3", lambda: grid("cka", xs, ys), floor, repeats=15)


def procrustes() -> Job:
    xs, ys = layers(10_000, 768, 1), layers(10_000, 768, 2)
    return Job(
        "procrustes, n=10,000 d=768", "1.5 (best known 1.82)", lambda: grid("procrustes", xs, ys),
        lambda: products(xs, ys, 12), 12,
    )  # fmt: skip


def fast() -> Job:
    """The floor is the first job itself; prints how far the values are off and whether the stated error says so."""
    xs, ys = layers(10_000, 768, 1), layers(10_000, 768, 2)

    def sampled(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        measure = get_measure("cka", fast=True, seed=seed)
        return measure.grid_with_errors([measure.prepare(x, "x") for x in xs], [measure.prepare(y, "y") for y in ys])

    exact = grid("cka", xs, ys)
    runs = [sampled(seed) for seed in range(SEEDS)]
    errors = np.array([np.abs(values - exact) for values, _ in runs])
    covered = np.mean([error <= 2 * stated for error, (_, stated) in zip(errors, runs, strict=True)])
    stated = np.sqrt(np.mean([stated**2 for _, stated in runs]))
    print(
        f"fast cka, {SEEDS} repeats: largest error {errors.max():.5f}, root mean square "
        f"{np.sqrt((errors**2).mean()):.5f}, stated {stated:.5f}, within 2 standard errors {covered:.1%}",
        file=sys.stderr,
    )
    return Job("fast cka, n=10,000 d=768", "0.2", sampled, lambda: grid("cka", xs, ys), repeats=3)


def random_model(seed: int) -> Model:
    """A causal model of 6 layers and width 128 with random weights."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = rs.load_model("tiny-neox-w32-d2").tokenizer
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=128, num_hidden_layers=6, num_attention_heads=4, intermediate_size=512,
        max_position_embeddings=128,
    )  # fmt: skip
    return rs.load_model(GPTNeoXForCausalLM(config), tokenizer=tokenizer)


def sequences(model: Model) -> list[str]:
    """Texts of one window each."""
    corpus = rs.load_corpus("python-docs", split="train")
    windows = [w for w in model.windows(corpus.texts) if len(w) == model.context]
    return [corpus.texts[w.text][w.offsets[1][0] : w.offsets[-1][1]] for w in windows[:SEQUENCES]]


def forward_passes(models: list[Model], texts: list[str]) -> Callable[[], object]:
    """The same batches through transformers' own blocks, tokenized beforehand, nothing kept and no head run."""
    windows = models[0].windows(texts)
    size = tokens_per_batch(shape_of(models[0])) // max(map(len, windows))
    batches = [models[0].collate(windows[i : i + size]) for i in range(0, len(windows), size)]

    @torch.no_grad()
    def run() -> None:
        for model in models:
            for batch in batches:
                mask = None if batch.mask.all() else batch.mask
                model.module.gpt_neox(input_ids=batch.ids, attention_mask=mask, use_cache=False)

    return run


def end_to_end(rows: str) -> Job:
    models = [random_model(1), random_model(2)]
    texts = sequences(models[0])
    forward = forward_passes(models, texts)
    _ = [model.weights_sha256 for model in models]

    def work() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fewer rows than a million
            return rs.compare(*models, texts, rows=rows, n_rows=10**6 if rows == "tokens" else SEQUENCES)

    n = work().attrs["n_rows"]
    x = torch.randn(n, 7 * 128)

    def floor() -> None:
        forward()
        if rows == "tokens":  # 49 products of (n, 128) and 14 symmetric ones, counted half
            _ = x.T @ x
            for part in x.split(128, dim=1):
                _ = part.T @ part

    name = "two 6-layer models, 512 sequences, " + ("one row each" if rows == "last" else f"{n:,} token rows")
    return Job(name, "1.06" if rows == "last" else "1.05", work, floor, repeats=5)


JOBS = {
    "cka": cka,
    "gram": gram,
    "procrustes": procrustes,
    "last": partial(end_to_end, "last"),
    "tokens": partial(end_to_end, "tokens"),
    "fast": fast,
}


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def peak_memory(work: Callable[[], object]) -> float | None:
    """Bytes at the peak beyond those held before; None where the system does not say."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that the process still holds would hide what is asked for
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def run(job: Job) -> str:
    job.floor()
    memory = peak_memory(job.work)
    seconds, floors = [], [cpu(job.floor) * job.scale]
    for _ in range(job.repeats):
        seconds.append(cpu(job.work))
        floors.append(cpu(job.floor) * job.scale)
    ratios = [2 * s / (f + g) for s, f, g in zip(seconds, floors, floors[1:], strict=False)]
    extra = "" if memory is None else f"{memory / 1e6:.0f} MB"
    middle = statistics.median
    return (
        f"| {job.name} | {middle(seconds):.2f} | {middle(floors):.2f} | {middle(ratios):.3f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) | {job.target} | {extra} |"
    )


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    print("| job | seconds | floor | ratio | target | extra peak memory |\n|---|---|---|---|---|---|")
    for name in names or JOBS:
        if name not in JOBS:
            sys.exit(f"Unknown job {name!r}; there are {', '.join(JOBS)}.")
        print(run(JOBS[name]()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
