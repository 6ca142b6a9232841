"""What extraction costs beyond bare forward passes, and how near its peak memory is to the estimate.

    python -m tests.benchmarks.bench_extraction [repeats]

Untrained GPT-NeoX models of three shapes, saved with the embedded tokenizer, each job in a process of its own. Memory:
the peak of resident memory during `compare` (loading, extraction, CKA of all layers) above what the process held
before, beside `estimate(...).peak`. CPU: process seconds of running a plan (every layer kept at every chosen row)
beside the same batches, made beforehand, through transformers' own trunk; the least of some repeats, in turns.
"Prepared" is what comes before: tokenizing, choosing rows.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import repsim_nb as rs
from repsim_nb.activations import Sampling
from repsim_nb.activations.extraction import _batches, plan_aligned

JOBS = {  # width, layers, heads, context, tokens per text, texts
    "small model, many rows": (256, 4, 8, 256, 250, 80),
    "wide model, few rows": (1024, 6, 16, 256, 120, 12),
    "long context": (512, 2, 8, 4096, 4000, 4),
}
PROGRAM = (
    "import json, sys; from tests.benchmarks.bench_extraction import measure; "
    "print(json.dumps(measure(*json.loads(sys.argv[1]))))"
)
COLUMNS = ("rows", "tokens", "estimate", "peak", "ratio", "forward", "extraction", "ratio", "prepared")


def texts(tokens: int, count: int) -> list[str]:
    """Of about so many tokens each."""
    whole = "\n".join(rs.load_corpus("python-docs", "train").texts)
    letters = int(3.2 * tokens)
    return [whole[i * letters : (i + 1) * letters] for i in range(count)]


def saved(folder: str, width: int, layers: int, heads: int, context: int) -> None:
    tokenizer = rs.load_model("tiny-neox-w32-d2").tokenizer
    tokenizer.model_max_length = context
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=context,
    )
    torch.manual_seed(0)
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def resident(what: str) -> int:
    """Bytes now (VmRSS) or at most since the last reset (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])


def measure(folder: str, tokens: int, count: int, repeats: int) -> dict[str, float]:
    corpus = rs.load_corpus(texts(tokens, count))
    rs.compare("tiny-neox-w32-d2", corpus=corpus.texts[:1], n_rows=32)  # everything is imported
    n_rows = int(0.9 * tokens * count / 1.6)
    about = rs.estimate(folder, corpus=corpus, n_rows=n_rows)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident("VmRSS")
    rs.compare(folder, corpus=corpus, n_rows=n_rows)
    peak = resident("VmHWM") - before
    model = rs.load_model(folder)
    start = time.process_time()
    (plan,) = plan_aligned([model], None, Sampling(corpus, n_rows=n_rows))
    prepared = time.process_time() - start
    trunk = model.module.gpt_neox
    batches = []
    for batch in _batches(model, plan.selection, plan.batch_tokens):
        windows = [plan.selection.windows[w].truncated(end) for w, end in batch]
        batches.append(model.collate(windows))
    floors, runs = [], []
    for _ in range(repeats):
        start = time.process_time()
        with torch.no_grad():
            for batch in batches:
                trunk(input_ids=batch.ids, attention_mask=None, use_cache=False)  # padding is on the right
        floors.append(time.process_time() - start)
        start = time.process_time()
        plan.run(progress=False)
        runs.append(time.process_time() - start)
    return {
        "rows": n_rows,
        "tokens": plan.tokens(),
        "estimate": about.peak,
        "peak": peak,
        "forward": min(floors),
        "extraction": min(runs),
        "prepared": prepared,
    }


def main(repeats: int) -> None:
    print(f"{'job':<24}" + "".join(f"{name:>11}" for name in COLUMNS), flush=True)
    for name, (width, layers, heads, context, tokens, count) in JOBS.items():
        with tempfile.TemporaryDirectory() as folder:
            saved(folder, width, layers, heads, context)
            command = [sys.executable, "-c", PROGRAM, json.dumps([folder, tokens, count, repeats])]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
        m = json.loads(done.stdout.splitlines()[-1])
        memory = [f"{m['estimate'] / 1e6:.0f} MB", f"{m['peak'] / 1e6:.0f} MB", f"{m['peak'] / m['estimate']:.2f}"]
        cpu = [f"{m['forward']:.2f} s", f"{m['extraction']:.2f} s", f"{m['extraction'] / m['forward']:.3f}"]
        cells = [m["rows"], m["tokens"], *memory, *cpu, f"{m['prepared']:.2f} s"]
        print(f"{name:<24}" + "".join(f"{cell:>11}" for cell in cells), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
