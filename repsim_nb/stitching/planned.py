"""What a stitching table is made of: models, cuts, entries, floors and documents, here and in workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.models import Model, load_model
from repsim_nb.stitching.fitting import Method, Seam
from repsim_nb.stitching.floors import untrained_twin
from repsim_nb.stitching.ground import Ground
from repsim_nb.stitching.joined import common_ground, join

CONTROLS = ("self", "shuffled", "untrained")
ENTRY_WINDOWS = 32  # reported on by default where there are many entries, which a report each takes most of the time
ENTRY_EXAMPLES = 512


@dataclass(frozen=True)
class Cut:
    """All stitches of one layer of a sender into one receiver, which share the sender's states and their moments."""

    sender: str
    receiver: str
    layer: int
    entries: tuple[int, ...]
    control: str = ""  # or "shuffled" or "untrained"

    def __str__(self) -> str:
        what = f"{self.control} " if self.control else ""
        return f"{what}{self.sender} into {self.receiver} at layer {self.layer}"


def named_controls(given: str | Iterable[str] | None, shuffle: bool) -> tuple[str, ...]:
    """Parse `controls`; raise if one is unknown or would have no effect."""
    if given is None:
        return ()
    names = (given,) if isinstance(given, str) else tuple(given)
    names = CONTROLS if names == ("all",) else names
    for name in names:
        if name not in CONTROLS:
            raise unknown("control", name, CONTROLS, '"all" takes all of them.')
    if shuffle and "shuffled" in names:
        raise InputError("shuffle=True shuffles the whole table, so controls='shuffled' adds nothing. Give one.")
    return tuple(name for name in CONTROLS if name in names)


@dataclass(frozen=True)
class Planned:
    """Models, cuts and documents of a table.

    Attributes
    ----------
    senders, receivers
        The models.
    layers
        Cuts of all senders, or of all models if receivers are stitched into themselves too.
    entries
        Entries of all receivers; None if every stitch enters at the layer that it leaves.
    cuts
        What is fitted, in an order in which activations are shared.
    controls
        Names of the controls.
    ground, method
        Documents, and how maps are fitted.
    race
        How many nats above the best entry of its cut a stitch stops; None for no race.
    twins
        Sender -> its untrained twin.
    """

    senders: list[Model]
    receivers: list[Model]
    layers: list[int]
    entries: list[int] | None
    cuts: list[Cut]
    controls: tuple[str, ...]
    ground: Ground
    method: Method
    shuffle: bool
    race: float | None
    twins: dict[str, Model] = field(default_factory=dict)

    @cached_property
    def models(self) -> dict[str, Model]:
        """All models by name, untrained twins apart."""
        return by_name([*self.senders, *self.receivers])

    def seams(self, cut: Cut) -> list[Seam]:
        """One for each entry."""
        models = self.twins if cut.control == "untrained" else self.models
        sender, receiver = models[cut.sender], self.models[cut.receiver]
        shuffle = self.shuffle or cut.control == "shuffled"
        return [join(sender, receiver, cut.layer, into, shuffle) for into in cut.entries]


@dataclass(frozen=True)
class TablePlan:
    """What a table is made from, here and in workers, and the folder of finished cells."""

    senders: tuple[Any, ...]
    receivers: tuple[Any, ...]
    layers: Any
    corpus: Any
    seed: int
    method: Method
    n_fit: int
    n_report: int | None
    shuffle: bool
    into: Any = None
    controls: tuple[str, ...] = ()
    race: float | None = None
    folder: Path | None = None

    def made(self) -> Planned:
        """Load the models and choose the documents."""
        lower, higher = self._loaded()
        models = by_name([*lower, *higher])
        cuts = self._cuts(lower, higher)
        twins = {m.name: untrained_twin(m, self.seed) for m in lower} if "untrained" in self.controls else {}
        every = [*models.values(), *twins.values()]
        made = Planned(
            lower, higher, *self._axes(cuts), cuts, self.controls,
            common_ground(every, self.corpus, self.n_fit, self._windows(lower[0]), self.seed, self.method.fits),
            self.method, self.shuffle, self.race, twins,
        )  # fmt: skip
        made.ground.seams = [seam for cut in cuts for seam in made.seams(cut)]
        for model in (*lower, *higher):
            if made.ground.identity(model) != made.ground.identity(models[model.name]):
                raise _duplicate_name(model.name)
        return made

    def _loaded(self) -> tuple[list[Model], list[Model]]:
        sides = (self.senders, self.receivers)
        once = {m: load_model(m) for m in dict.fromkeys(m for side in sides for m in side if isinstance(m, str))}
        lower, higher = ([once[m] if isinstance(m, str) else load_model(m) for m in side] for side in sides)
        if not lower or not higher:
            raise InputError("Need at least one sender and one receiver.")
        return lower, higher

    def _windows(self, model: Model) -> int | None:
        if self.n_report is not None or self.into is None:
            return self.n_report
        return ENTRY_WINDOWS if model.kind == "causal" else ENTRY_EXAMPLES

    def _cuts(self, lower: Sequence[Model], higher: Sequence[Model]) -> list[Cut]:
        """Cuts of every pair, then those of each control."""
        if self.into is None:
            shallowest = min((*lower, *higher), key=lambda m: m.n_layers).positions(self.layers)
            plain = [Cut(s.name, r.name, k, (k,)) for s in lower for k in shallowest for r in higher]
            own = [Cut(r.name, r.name, k, (k,)) for r in higher for k in shallowest]
        else:
            plain = [cut for s in lower for r in higher for cut in self._of_pair(s, r, s.positions(self.layers))]
            own = [cut for r in higher for cut in self._of_pair(r, r, self._within(r))]
        cuts = dict.fromkeys(plain)
        if "self" in self.controls:
            cuts |= dict.fromkeys(own)
        for control in ("shuffled", "untrained"):
            if control in self.controls:
                cuts |= {Cut(c.sender, c.receiver, c.layer, c.entries, control): None for c in plain}
        return list(cuts)

    def _of_pair(self, sender: Model, receiver: Model, layers: Iterable[int]) -> list[Cut]:
        entries = tuple(dict.fromkeys(receiver.positions(self.into)))
        return [Cut(sender.name, receiver.name, layer, entries) for layer in dict.fromkeys(layers)]

    def _within(self, receiver: Model) -> list[int]:
        """Those of the layers that a receiver has too."""
        if isinstance(self.layers, str):
            return receiver.positions(self.layers)
        asked = self.layers if isinstance(self.layers, Iterable) else [self.layers]
        deep = receiver.n_layers
        return [own for k in asked if -deep - 1 <= k <= deep for own in receiver.positions(k)]

    def _axes(self, cuts: Sequence[Cut]) -> tuple[list[int], list[int] | None]:
        if self.into is None:
            return list(dict.fromkeys(cut.layer for cut in cuts)), None
        return sorted({cut.layer for cut in cuts}), sorted({into for cut in cuts for into in cut.entries})

    def about(self, made: Planned) -> dict[str, Any]:
        """What all cells depend on, for the provenance; cells that a race may stop depend on each other too."""
        race = {} if self.race is None else {"race": self.race, "entries": made.entries}
        return asdict(self.method) | {"shuffled_sender": self.shuffle} | race | made.ground.provenance


def by_name(models: Sequence[Model]) -> dict[str, Model]:
    """Models by name; raise if two different ones have the same."""
    named: dict[str, Model] = {}
    for model in models:
        if named.setdefault(model.name, model).provenance != model.provenance:
            raise _duplicate_name(model.name)
    return named


def _duplicate_name(name: str) -> InputError:
    return InputError(f"Two different models are named {name!r}. Rename one: model.name = ...")
