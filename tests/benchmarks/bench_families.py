"""Peak memory of streaming a family of models over 100, 1,000 and 5,000 sequences, each in a process of its own.

    python -m tests.benchmarks.bench_families [models ...]

Two ways: `compare_family` (CKA within sequences, all pairs), and `stream` of the first two models (CKA over all rows).
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import resource
import subprocess
import sys
import time

COUNTS = (100, 1000, 5000)
LENGTH = 256
FAMILY = ("tiny-neox-w32-d2", "tiny-neox-w64-d4")


def once(way: str, count: int, names: list[str]) -> None:
    import repsim_nb as rs
    from repsim_nb.models import Packing

    models = [rs.load_model(name) for name in names]
    corpus = rs.load_corpus("python-docs", split="train")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    if way == "compare_family":
        result = next(iter(rs.compare_family(models, corpus, n_sequences=count, length=LENGTH).values()))
    else:
        from repsim_nb.comparison.streaming import stream

        packing = Packing("packed", LENGTH)
        result = stream(*models[:2], corpus, rows="padded", n_rows=count * LENGTH, packing=packing)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sequences, seconds = result.attrs["n_rows"] // LENGTH, time.perf_counter() - start
    print(f"{way:16}{sequences:>10,}{before:>12,.0f}{peak:>12,.0f}{seconds:>10,.0f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["once"]:
        once(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    else:
        print(f"{'way':16}{'sequences':>10}{'MB before':>12}{'MB at peak':>12}{'seconds':>10}", flush=True)
        for way in ("compare_family", "stream"):
            for count in COUNTS:
                command = [sys.executable, "-m", "tests.benchmarks.bench_families", "once", way, str(count)]
                subprocess.run([*command, *(sys.argv[1:] or FAMILY)], check=True)
