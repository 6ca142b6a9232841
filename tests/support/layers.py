"""Representations whose layers are known to decay smoothly, to come in blocks, or to hold massive activations."""

import numpy as np


def smooth(seed, n_layers=9, keep=0.9, n=300, d=24):
    """Layers that forget at one rate: CKA of layers l apart is keep ** (2 l) up to sampling."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    layers = [x]
    for _ in range(n_layers - 1):
        x = keep * x + np.sqrt(1 - keep**2) * rng.normal(size=(n, d))
        layers.append(x)
    return dict(enumerate(layers))


def apart_at_both_ends(seed, ratio, n_layers=9, keep=0.9, n=300, d=24):
    """Layers that forget without blocks, `ratio` times as much at the first and last step as in the middle."""
    rng = np.random.default_rng(seed)
    steps = np.exp(np.log(ratio) * np.linspace(-1, 1, n_layers - 1) ** 2)
    layers = [rng.normal(size=(n, d))]
    for step in steps / steps.mean():
        kept = keep**step
        layers.append(kept * layers[-1] + np.sqrt(1 - kept**2) * rng.normal(size=(n, d)))
    return dict(enumerate(layers))


def uneven(seed, keeps, n=300, d=24):
    """Layers that forget, each step at its own rate; `seed` may be a generator."""
    rng = np.random.default_rng(seed)
    layers = [rng.normal(size=(n, d))]
    for keep in keeps:
        layers.append(keep * layers[-1] + np.sqrt(1 - keep**2) * rng.normal(size=(n, d)))
    return dict(enumerate(layers))


def planted(seed, sizes, n=300, d=24, drift=0.97, between=0.3):
    """Blocks of these sizes: layers of a block forget slowly, different blocks share little."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, d))
    layers = []
    for size in sizes:
        x = np.sqrt(between) * common + np.sqrt(1 - between) * rng.normal(size=(n, d))
        for _ in range(size):
            layers.append(x)
            x = drift * x + np.sqrt(1 - drift**2) * rng.normal(size=(n, d))
    return dict(enumerate(layers))


def massive(seed, where, n_layers=9, tokens=6, size=60.0):
    """Smooth decay, but at the layers `where` a few tokens have a massive value in one feature."""
    layers = smooth(seed, n_layers, keep=0.85)
    rng = np.random.default_rng(1000 + seed)
    rows = rng.choice(len(layers[0]), tokens, replace=False)
    for layer in where:
        layers[layer][rows, 3] += size * (1 + 0.1 * rng.normal(size=tokens))
    return layers, np.sort(rows)
