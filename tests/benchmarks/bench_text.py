"""How much memory tokenizing takes, beside what `text_bytes` says: one document, and many small ones.

    python -m tests.benchmarks.bench_text

Measured (Linux, 2 cores, Python 3.11, tokenizers 0.23), bytes for a byte of one document: this package's GPT-NeoX-like
tokenizer 201 (4 MB) and 174 (16 MB), GPT-2 160, GPT-NeoX 160, stories260K 175, BERT's pieces 137; in Cyrillic letters
GPT-NeoX 165, stories260K 203. Said: 195. Many texts of this package's tokenizer: within 15%.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
import time

import psutil

CASES = ((1, 4_000_000), (16, 1_000_000), (8_000, 2_000), (400_000, 40))


def measured(number: int, size: int) -> tuple[int, int]:
    """Bytes that tokenizing and finding places takes at most, and what is said of it."""
    import repsim_nb as rs
    from repsim_nb.activations.selection import _places
    from repsim_nb.models.tokenizing import text_bytes

    words = " ".join(rs.load_corpus("python-docs").texts)
    words = words * (1 + number * size // len(words))
    texts = [words[i * size : (i + 1) * size] for i in range(number)]
    cut = rs.load_model("tiny-neox-w32-d2").windows
    _places(cut(["warm"]))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    memory = psutil.Process().memory_info
    before, seen, done = memory().rss, [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen[0] = max(seen[0], memory().rss)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _places(cut(texts))
    done.set()
    watcher.join()
    return seen[0] - before, text_bytes(texts)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        took, said = measured(int(sys.argv[1]), int(sys.argv[2]))
        print(f"{sys.argv[1]:>8} texts of {sys.argv[2]} bytes: {took / 1e6:.0f} MB, said {said / 1e6:.0f} MB")
    else:
        for case in CASES:  # each in a process of its own
            subprocess.run([sys.executable, __file__, *map(str, case)], check=True)
