"""Examples of the documentation, run as a reader would type them into a fresh session."""

from concurrent import futures
from contextlib import contextmanager

import matplotlib.pyplot as plt

from repsim_nb.measures.registry import _MEASURES


@contextmanager
def session(folder, monkeypatch):
    """Work in `folder`; afterwards close figures, and forget measures that an example registered.

    Pools have a thread in place of processes, which would import torch for a minute; tests/cluster has those.
    """
    known = set(_MEASURES)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(futures, "ProcessPoolExecutor", lambda *_: futures.ThreadPoolExecutor(1))
    try:
        yield
    finally:
        plt.close("all")
        for name in set(_MEASURES) - known:
            del _MEASURES[name]


def run_example(code, where, folder, monkeypatch):
    """Run it with no name known but its own."""
    with session(folder, monkeypatch):
        exec(compile(code, where, "exec"), {"__name__": "__main__"})
