"""The training loop of the zoo: deterministic, and resumable after an interruption at any time."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from repsim_nb.system.atomic import atomic
from repsim_nb.zoo.recipes import DescendantRecipe, Recipe

SAVE_EVERY = 100  # steps that an interruption can cost at most


def pack(token_lists: list[list[int]], separator: int, seed: int) -> np.ndarray:
    """One stream of tokens: documents in random order, each preceded by a separator."""
    order = np.random.default_rng(seed).permutation(len(token_lists))
    return np.concatenate([np.array([separator, *token_lists[i]], dtype=np.int32) for i in order])


def sequences(stream: np.ndarray, recipe: Recipe | DescendantRecipe, step: int, separator: int) -> Tensor:
    """The batch of one step, (sequences, context) starting with a separator; depends on data seed and step only."""
    rng = np.random.default_rng([recipe.data_seed, step])
    starts = rng.integers(0, len(stream) - recipe.context, recipe.batch)
    windows = stream[starts[:, None] + np.arange(recipe.context - 1)]
    return torch.from_numpy(np.insert(windows, 0, separator, axis=1).astype(np.int64))


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean cross-entropy of the next token, in nats."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


class Schedule(Protocol):
    """What the loop needs to know about a recipe."""

    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def warmup(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def checkpoints(self) -> tuple[int, ...]: ...


def learning_rate(recipe: Schedule, step: int) -> float:
    """Linear warm-up, then cosine decay to a tenth of the peak."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def train(
    model: nn.Module,
    recipe: Recipe | DescendantRecipe,
    stream: np.ndarray,
    separator: int,
    state_file: Path,
    on_checkpoint: Callable[[int], None],
) -> list[tuple[int, float]]:
    """Train a causal model on next tokens in place; return the loss curve in nats per token. See `descend`."""

    def loss_at(step: int) -> Tensor:
        ids = sequences(stream, recipe, step, separator)
        return next_token_loss(model(ids), ids)

    return descend(model, recipe, loss_at, state_file, on_checkpoint)


def descend(
    model: nn.Module,
    recipe: Schedule,
    loss_at: Callable[[int], Tensor],
    state_file: Path,
    on_checkpoint: Callable[[int], None] | None = None,
) -> list[tuple[int, float]]:
    """Train in place; return the loss curve [(step, mean loss since the last entry)].

    `loss_at(step)` is the loss of one batch and depends only on the step and the model. The state (weights, AdamW
    moments, step, curve) is saved atomically to `state_file` every 100 steps, and training resumes from it if it
    exists. `on_checkpoint(step)` is called at each of `recipe.checkpoints`.
    """
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)
    first, curve, recent = _resume(model, optimizer, state_file)
    started = time.perf_counter()
    for step in range(first, recipe.steps):
        if on_checkpoint is not None and step in recipe.checkpoints:
            on_checkpoint(step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        loss = loss_at(step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{recipe.name}: the loss is {loss.item()} at step {step}.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            curve.append((step + 1, round(float(np.mean(recent)), 4)))
            recent = []
            _save(model, optimizer, step + 1, curve, state_file)
            pace = 1000 * (time.perf_counter() - started) / (step + 1 - first)
            print(
                f"{recipe.name} step {step + 1}/{recipe.steps} loss {curve[-1][1]:.4f} {pace:,.0f} ms/step", flush=True
            )
    return curve


def _save(model: nn.Module, optimizer: torch.optim.Optimizer, step: int, curve: list, file: Path) -> None:
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters()}  # tied weights once
    for index, state in optimizer.state_dict()["state"].items():
        tensors.update({f"adam.{index}.{k}": v for k, v in state.items()})
    with atomic(file) as path:
        path.write_bytes(save(tensors, {"step": str(step), "curve": json.dumps(curve)}))


def _resume(
    model: nn.Module, optimizer: torch.optim.Optimizer, file: Path
) -> tuple[int, list[tuple[int, float]], list[float]]:
    if not file.exists():
        return 0, [], []
    with safe_open(file, "pt") as saved:
        about = saved.metadata()
        tensors = {key: saved.get_tensor(key) for key in saved.keys()}  # noqa: SIM118 (no mapping)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    state = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, index, field = key.split(".")
            state["state"].setdefault(int(index), {})[field] = value
    optimizer.load_state_dict(state)
    return int(about["step"]), [tuple(entry) for entry in json.loads(about["curve"])], []
