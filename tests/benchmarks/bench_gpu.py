"""What an accelerator gives, and whether it gives the same as the CPU: one table, for a real model.

    python -m tests.benchmarks.bench_gpu [model] [file.csv]        make gpu

Without an accelerator it says so and ends with 0. The table has one line per job, device and dtype. "seconds" are those
of the second of two runs. "forward" are the seconds of the same batches through transformers' own trunk on the same
device, and "ratio" is what the package takes beyond that. "difference" is the largest difference from the same job on
the CPU in float32: activations in standard deviations of their layer, CKA as it is, penalties in nats per token. Where
it exceeds "allowed", which for activations is what `load_model` documents, the exit code is 1.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import repsim_nb as rs
from repsim_nb.activations import Sampling
from repsim_nb.activations.extraction import BATCH_SHARE, MAX_BATCH_TOKENS, _batches, plan_aligned
from repsim_nb.models import Model
from repsim_nb.models.shape import shape_of
from repsim_nb.system.resources import Resources

ALLOWED = {  # between devices in float32, and between dtypes; by job
    "extraction": {"float32": 1e-3, "bfloat16": 0.3},
    "compare": {"float32": 1e-3, "bfloat16": 0.05},
    "stitch": {"float32": 1e-3, "bfloat16": 0.05},
}
COLUMNS = ["job", "device", "dtype", "batch_tokens", "tokens", "seconds", "forward", "ratio", "tokens_per_second"]
COLUMNS += ["peak_mb", "difference", "allowed"]


def accelerator() -> str | None:
    """The device to measure, or None."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def wait(device: str) -> None:
    """Let the device finish what it was given."""
    if device != "cpu":
        getattr(torch, device).synchronize()


def timed(device: str, work: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """What the second of two runs gave, its seconds, and the peak of the device's memory in megabytes."""
    work()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    wait(device)
    start = time.perf_counter()
    found = work()
    wait(device)
    seconds = time.perf_counter() - start
    return found, seconds, torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else None


def by_memory(model: Model, device: str) -> int:
    """Tokens per forward pass that take a tenth of the memory that is free on the device."""
    if device == "cuda":
        free = torch.cuda.mem_get_info()[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**30
    return max(1, min(MAX_BATCH_TOKENS, int(BATCH_SHARE * free) // shape_of(model).token_bytes))


def bare(model: Model, plan: Any) -> Callable[[], None]:
    """The same batches through transformers' own trunk, made beforehand."""
    windows = plan.selection.windows
    batches = [
        model.collate([windows[w].truncated(end) for w, end in batch])
        for batch in _batches(model, plan.selection, plan.batch_tokens)
    ]

    @torch.no_grad()
    def run() -> None:
        for batch in batches:
            model.module.base_model(input_ids=batch.ids, attention_mask=None, use_cache=False)

    return run


def extraction(model: Model, device: str, sampling: Sampling, batch_tokens: int | None) -> dict[str, Any]:
    """All layers at some rows, beside bare forward passes."""
    (plan,) = plan_aligned([model], None, sampling, Resources(batch_tokens=batch_tokens))
    values, seconds, peak = timed(device, lambda: plan.run(progress=False))
    forward = timed(device, bare(model, plan))[1]
    about = {"batch_tokens": plan.batch_tokens, "tokens": plan.tokens(), "forward": forward, "ratio": seconds / forward}
    return about | {"values": values, "seconds": seconds, "peak_mb": peak, "tokens_per_second": plan.tokens() / seconds}


def compare(model: Model, device: str, sampling: Sampling) -> dict[str, Any]:
    """CKA of every layer with every layer."""
    work = functools.partial(rs.compare, model, corpus=sampling.corpus, n_rows=sampling.n_rows, seed=sampling.seed)
    values, seconds, peak = timed(device, work)
    return {"values": {0: torch.from_numpy(values.to_numpy())}, "seconds": seconds, "peak_mb": peak}


def stitch(model: Model, device: str, sampling: Sampling, documents: int) -> dict[str, Any]:
    """The model into itself at half its depth, with a map fitted by least squares."""
    how = {"fit": "least_squares", "n_fit": documents, "n_report": documents, "seed": sampling.seed}
    work = functools.partial(rs.stitch, model, model, model.n_layers // 2, sampling.corpus, **how)
    stitched, seconds, peak = timed(device, work)
    return {"values": {0: torch.tensor([stitched.penalty])}, "seconds": seconds, "peak_mb": peak}


def difference(job: str, values: dict[int, torch.Tensor], reference: dict[int, torch.Tensor]) -> float:
    """The largest difference; of activations, in standard deviations of their layer."""
    scale = {layer: of.std() if job == "extraction" else 1.0 for layer, of in reference.items()}
    return max(float((values[layer] - of).abs().max() / scale[layer]) for layer, of in reference.items())


def measure(
    name: str, device: str, corpus: str | list[str] = "python-docs", n_rows: int = 2048, documents: int = 32
) -> pd.DataFrame:
    """The table for one model; device="cpu" stands in for an accelerator."""
    sampling = Sampling(rs.load_corpus(corpus), n_rows=n_rows)
    lines: list[dict[str, Any]] = []
    references: dict[str, dict[int, torch.Tensor]] = {}
    for where, dtype in (("cpu", "float32"), (device, "float32"), (device, "bfloat16")):
        model = rs.load_model(name, device=where, dtype=dtype)
        jobs = [("extraction", functools.partial(extraction, batch_tokens=None))]
        if lines:
            jobs.append(("extraction", functools.partial(extraction, batch_tokens=by_memory(model, where))))
        jobs += [("compare", compare), ("stitch", functools.partial(stitch, documents=documents))]
        for job, run in jobs:
            line = run(model, where, sampling)
            values = line.pop("values")
            reference = references.setdefault(job, values)
            line |= {"job": job, "device": where, "dtype": dtype, "allowed": ALLOWED[job][dtype]}
            lines.append(line | {"difference": difference(job, values, reference)})
            print(f"{job}, {where}, {dtype}: {line['seconds']:.2f} s", file=sys.stderr, flush=True)
        del model
    return pd.DataFrame(lines, columns=COLUMNS)


def markdown(table: pd.DataFrame) -> str:
    """The table for a page of documentation."""
    cells = [
        ["" if pd.isna(v) else f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in table.values
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(table), ["---"] * table.shape[1], *cells])


def main(name: str = "smollm2-135m", file: str = "results/gpu.csv", device: str | None = None) -> int:
    """Write and print the table; the exit code."""
    device = device or accelerator()
    if device is None:
        print("no GPU: nothing measured")
        return 0
    table = measure(name, device)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(file, index=False)
    print(f"{name} on {torch.cuda.get_device_name() if device == 'cuda' else device}, torch {torch.__version__}\n")
    print(markdown(table))
    beyond = table[table.difference > table.allowed]
    for line in beyond.itertuples():
        print(f"{line.job} in {line.dtype} on {line.device} differs by {line.difference:.2g}, more than {line.allowed}")
    return int(len(beyond) > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
