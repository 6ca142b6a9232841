"""What a trained stitch costs, and whether it is finished: random cells of the embedded GeLU and SoLU models.

    python -m tests.benchmarks.bench_stitching [cells] [times longer, 0 for none]

One thread, process CPU seconds, loading of models and texts apart.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import statistics
import sys
import time

import numpy as np
import torch

import repsim_nb as rs
from repsim_nb.stitching import fitting
from repsim_nb.stitching.fitting import Method
from repsim_nb.stitching.joined import common_ground, join
from repsim_nb.stitching.stitched import N_FIT, STEPS, Stitched, stitch_on


def timed(ground: object, seam: object, method: Method) -> tuple[Stitched, float]:
    start = time.process_time()
    stitched = stitch_on(ground, seam, method)
    return stitched, time.process_time() - start


def main(cells: int, longer: int) -> None:
    torch.set_num_threads(1)
    names = [n for n in rs.list_models().index if n.startswith(("tiny-gelu", "tiny-solu"))]
    rng = np.random.default_rng(0)
    alone, warm, gains = [], [], []
    print("| sender | receiver | layer | penalty | interval | alone, s | in a table, s | longer run |")
    print("|---|---|---|---|---|---|---|---|")
    for _ in range(cells):
        depth = str(rng.choice(["3l", "4l"]))
        sender, receiver = (
            rs.load_model(str(n)) for n in rng.choice([n for n in names if depth in n], 2, replace=False)
        )
        seam = join(sender, receiver, int(rng.integers(1, sender.n_layers)), None)
        ground = common_ground([sender, receiver], None, N_FIT, None, 0)
        _ = ground.batches_of(sender), sender.weights_sha256, receiver.weights_sha256
        stitched, seconds = timed(ground, seam, Method())
        alone.append(seconds)
        warm.append(timed(ground, seam, Method())[1])  # activations and the receiver's own losses are there by now
        text = "-"
        if longer:
            patience, fitting.PATIENCE = fitting.PATIENCE, 10**6
            long, _ = timed(ground, seam, Method(steps=longer * STEPS))
            fitting.PATIENCE = patience
            gains.append(stitched.penalty - long.penalty)
            text = f"{long.penalty:.4f}"
        low, high = stitched.interval()
        print(
            f"| {sender.name} | {receiver.name} | {seam.layer} | {stitched.penalty:.4f} | {low:.3f} to {high:.3f} "
            f"| {alone[-1]:.1f} | {warm[-1]:.1f} | {text} |",
            flush=True,
        )
    print(f"median CPU seconds: alone {statistics.median(alone):.1f}, in a table {statistics.median(warm):.1f}")
    if gains:
        print(f"a run {longer} times longer is better by {np.mean(gains):.4f} on average, {max(gains):.4f} at most")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
