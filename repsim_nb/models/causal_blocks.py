"""Causal models that can be read inside their blocks."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

from torch import nn

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.batch import Batch
from repsim_nb.models.model import Model, Tap
from repsim_nb.models.parts import inputs_tapped, outputs_tapped
from repsim_nb.models.positions import MLP_ACTIVATIONS, RESIDUAL
from repsim_nb.models.site_trial import tell
from repsim_nb.models.sites import BY_HEAD, INSIDE, Inside, by_name, shaped


class CausalBlocks(Model):
    """A causal model that can be read inside its blocks, as far as a trial can tell their parts."""

    @property
    @abstractmethod
    def n_heads(self) -> int:
        """Number of query heads of a block; 0 if its config states no one number."""

    @abstractmethod
    def _stack(self) -> list[nn.Module]:
        """All blocks."""

    def _through(self, batch: Batch, layer: int) -> None:
        """Run every block up to `layer` once, for hooks inside them."""
        self._blocks(self.embed(batch), 0, layer, batch, None)

    @cached_property
    def _inside(self) -> Inside:
        return tell(self, self._stack(), self.n_heads, self._through)

    @cached_property
    def sites(self) -> tuple[str, ...]:  # type: ignore[override]
        """Places where activations can be read; head_out and ov also by head, as "head_out.3"."""
        return RESIDUAL, *(site for site in INSIDE if site not in self._inside.refused)

    def width(self, site: str = RESIDUAL) -> int:
        """Width of the activations at a site."""
        return self._inside.d_mlp if site == MLP_ACTIVATIONS else self.d_model

    def _check_site(self, site: str) -> None:
        if site == RESIDUAL:
            return
        base, dot, head = site.partition(".")
        known = (*INSIDE, "pre_residual")
        if base not in known or (dot and base not in BY_HEAD):
            raise unknown("site", site, (RESIDUAL, *known), f"{self.name} is a {self.kind} model.")
        if base in self._inside.refused:
            raise InputError(
                f"{self.name} ({type(self.module).__name__}) cannot be read at {base}: {self._inside.refused[base]}. "
                f"It can be read at {', '.join(self.sites)}."
            )
        if dot and head not in map(str, range(self.n_heads)):
            raise InputError(
                f"{self.name} has no site {site!r}: its heads are {base}.0 to {base}.{self.n_heads - 1}, and {base} "
                "is all of them."
            )

    def _read_inside(self, batch: Batch, layers: list[int], tap: Tap, site: str) -> None:
        base, _, head = site.partition(".")
        path, entering = self._inside.where(base)
        modules = {layer: by_name(block) for layer, block in enumerate(self._stack(), 1) if layer in layers}
        number = int(head) if head else None

        def see(layer: int, value: Any) -> None:
            tap(layer, self._inside.made(modules[layer], shaped(value, batch), base, number))

        watched = {layer: own[path] for layer, own in modules.items()}
        with (inputs_tapped if entering else outputs_tapped)(watched, see):
            self._through(batch, layers[-1])
