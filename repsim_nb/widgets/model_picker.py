"""Pick one model, or several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import traitlets

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.catalogue import list_models
from repsim_nb.models.place import HUB_ID
from repsim_nb.models.published import repositories
from repsim_nb.system.memory import readable_size
from repsim_nb.widgets.bounds import contained
from repsim_nb.widgets.choice import Choice
from repsim_nb.widgets.picker import FULL, NARROW, Picker, facts

if TYPE_CHECKING:
    import pandas as pd

ANY = "any"
SIZES = {"under 0.2 M": (0.0, 0.2e6), "0.2 to 0.4 M": (0.2e6, 0.4e6), "over 0.4 M": (0.4e6, float("inf"))}


class ModelPicker(Picker):
    """Search and filter the catalogue, family by family; choosing downloads nothing.

    The list shows one family, at first that of the chosen model; what is typed into the search field is looked for in
    all.
    A hub id or a folder that is not in the catalogue can be chosen by typing it into the search field.

    Parameters
    ----------
    value
        A name, checkpoint (`name@revision`), hub id or folder; with `multiple` a sequence of them.
    multiple
        Whether several may be chosen.
    title
        The heading.

    Attributes
    ----------
    value
        Trait: a str, with `multiple` a tuple of str, never empty.

    Raises
    ------
    InputError
        The value does not name a model.
    """

    value = traitlets.Any(help="name of the model, or a tuple of names")

    def __init__(self, value: Any = None, *, multiple: bool = False, title: str = "Model"):
        self.multiple = multiple
        frame = _catalogue()
        self._search = widgets.Text(
            description="search",
            placeholder="part of a name, hub id or folder",
            tooltip="Part of a name; or a hub id such as EleutherAI/pythia-70m, or a folder",
            layout=FULL,
            style=NARROW,
        )
        # With all that they show from the start: servers drop later messages when many come at once.
        given = (value,) if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
        names = [str(name) for name in given] or [str(frame.index[0])]
        family = described(names[0]).get("family", ANY)
        listed = [*frame.index[[family in (ANY, each) for each in frame.family]]]
        self._family = Choice(
            description="family", tooltip="Whose models are listed", layout=FULL, options=_families(frame), value=family
        )
        self._filters = {
            "kind": _filter("kind", frame.kind),
            "source": _filter("source", frame.source),
            "size": _filter("size", SIZES),
            "activation": _filter("activation", frame.activation),
        }
        several = "; Ctrl or Shift for several" if multiple else ""
        self._list = Choice(
            description="model",
            tooltip=f"Models that pass the filters{several}",
            rows=6,
            multiple=multiple,
            layout=FULL,
            options=_listed(names, listed),
            value=names if multiple else names[0],
        )
        self._about = widgets.HTML()
        more = widgets.ToggleButton(description="Filters", tooltip="Show the filters")
        more.add_class("repsim-filters-button")
        filters = widgets.VBox(list(self._filters.values()))
        filters.layout.display = "none"
        more.observe(lambda change: setattr(filters.layout, "display", "" if change.new else "none"), "value")
        top = widgets.HBox([self._search, more], layout=FULL)
        super().__init__(title, "model", [top, filters, self._family, self._list, self._about])
        for control in (self._search, self._family, *self._filters.values()):
            self.when(control, self._filter)
        self.when(self._list, self._choose)
        first = str(frame.index[0])
        self.value = value if value is not None else ((first,) if multiple else first)

    @traitlets.validate("value")
    def _valid(self, proposal: Any) -> str | tuple[str, ...]:
        given = proposal["value"]
        if not self.multiple:
            return check_name(given)
        names = (given,) if isinstance(given, str) else given
        if not isinstance(names, list | tuple) or not names:
            raise InputError(f"Expected one or more names of models, got {given!r}.")
        return tuple(dict.fromkeys(check_name(name) for name in names))

    @property
    def names(self) -> tuple[str, ...]:
        """The chosen models as a tuple, even if it is only one."""
        return self.value if self.multiple else (self.value,)

    @traitlets.observe("value")
    def _show(self, change: Any) -> None:
        families = [known["family"] for known in map(described, self.names) if known]
        if families and self._family.value not in (ANY, *families):
            with self.updating():
                self._family.value = families[0]
        self._filter()
        self._about.value = "".join(map(_about, self.names)) if len(self.names) == 1 else _about_many(self.names)

    def _filter(self, change: Any = None) -> None:
        """List what passes the filters, what is chosen, and what was typed if it is not in the catalogue."""
        frame = _catalogue()
        for column, control in self._filters.items():
            if control.value != ANY:
                if column == "size":
                    low, high = SIZES[control.value]
                    frame = frame[(frame.n_parameters >= low).fillna(False) & (frame.n_parameters < high).fillna(False)]
                else:
                    frame = frame[(frame[column] == control.value).fillna(False)]
        self._offer_families(frame)
        typed = self._search.value.strip()
        if not typed and self._family.value != ANY:
            frame = frame[frame.family == self._family.value]
        names = [name for name in frame.index if typed.lower() in name.lower()]
        with self.alert.guarding():
            if typed not in _catalogue().index and _is_elsewhere(typed):
                names.insert(0, typed)
        with self.updating(), self._list.hold_sync():
            self._list.options = _listed(self.names, names)
            self._list.value = list(self.value) if self.multiple else self.value

    def _offer_families(self, frame: pd.DataFrame) -> None:
        """Offer the families of the models in `frame`."""
        offered = _families(frame)
        with self.updating(), self._family.hold_sync():
            self._family.options = offered
            if self._family.value not in (family for _, family in offered):
                self._family.value = ANY

    def _choose(self, change: Any) -> None:
        try:
            self.value = change.new
        finally:
            self._filter()  # a refused choice is undone


def _families(frame: pd.DataFrame) -> list[Any]:
    """The families of the models in `frame`, with how many they are; checkpoints do not count."""
    counts = frame.family[~frame.index.str.contains("@")].value_counts(sort=False)
    return [(f"all {counts.sum()} models", ANY), *((f"{f} ({n})", str(f)) for f, n in counts.items())]


def _listed(chosen: Sequence[str], names: Iterable[str]) -> list[Any]:
    """What is chosen and not among the names, and the names."""
    names = list(names)
    return [*(name for name in chosen if name not in names), *names]


def _filter(name: str, choices: Any) -> widgets.Dropdown:
    options = [ANY, *dict.fromkeys(c for c in choices if isinstance(c, str))]
    return widgets.Dropdown(options=options, description=name, tooltip=f"Only models of this {name}", layout=FULL)


@cache
def _catalogue() -> pd.DataFrame:
    """The models, each followed by its checkpoints."""
    import pandas as pd

    frame = list_models()
    rows = []
    for name, row in frame.iterrows():
        rows.append(row)
        for revision in str(row.revisions).split(", ") if isinstance(row.revisions, str) and row.revisions else []:
            if revision != "...":  # stands for entries left out of a long list
                rows.append(row.rename(f"{name}@{revision}"))
    return pd.DataFrame(rows).convert_dtypes()


def check_name(name: Any) -> str:
    """Return `name` if a model can be loaded by it; nothing is loaded.

    Raises
    ------
    InputError
        It does not name a model, or is a folder that may not be read.
    """
    if not isinstance(name, str):
        raise InputError(f"Expected the name of a model, got {type(name).__name__}.")
    if name in _catalogue().index:
        return name
    if _is_elsewhere(name):
        return contained(name)
    raise unknown("model", name, _catalogue().index, "Or give a local directory, or a hub id such as owner/name.")


def _is_elsewhere(name: str) -> bool:
    """Whether `name` is a hub id, an alias of one, or a readable folder with a model."""
    name = contained(name)
    base = name.partition("@")[0]
    return (
        bool(HUB_ID.fullmatch(base))
        or base in repositories()
        or (bool(name) and (Path(name).expanduser() / "config.json").is_file())
    )


def described(name: str) -> dict[str, Any]:
    """What the catalogue says about a model, also by alias or revision; empty for models that are not in it."""
    frame, base = _catalogue(), name.partition("@")[0]
    for known in (name, base, *frame.index[frame.repository == repositories().get(base, "")][:1]):
        if known in frame.index:
            return {str(k): v for k, v in frame.loc[known].dropna().items()}
    return {}


def checkpoints_of(model: str) -> list[str]:
    """The checkpoints of a model in order of step; the model itself if it has none."""
    base = model.partition("@")[0]
    known = str(described(base).get("revisions", ""))
    revisions = [revision for revision in known.split(", ") if revision and revision != "..."]
    return [f"{base}@{revision}" for revision in revisions] or [base]


def depth_of(name: str) -> int | None:
    """Layers of a model in the catalogue or in a folder, from its config; None if unknown."""
    known = described(name).get("n_layers")
    config = Path(name).expanduser() / "config.json"
    if known is None and config.is_file():
        known = _depth_in_folder(name, config.stat().st_mtime_ns)
    return None if known is None else int(known)


@cache
def _depth_in_folder(name: str, written: int) -> int | None:
    """Depth from a config.json; `written`, its time, keys the cache."""
    from repsim_nb.models.shape import shape_of

    try:
        return shape_of(name).n_layers
    except (InputError, OSError):  # the run will say what is wrong
        return None


def needs_download(name: str) -> bool:
    """Whether loading it would use the network."""
    return bool(described(name).get("needs_download", not Path(name).expanduser().exists()))


def _about(name: str) -> str:
    row = described(name)
    if not row:
        where = "downloaded when run; size unknown until then" if needs_download(name) else "a folder, no download"
        return facts({"source": where})
    checkpoint = "@" in name
    loss = row.get("loss")
    return facts(
        {
            "layers": str(row["n_layers"]),
            "width": str(row["d_model"]),
            "parameters": f"{row['n_parameters'] / 1e6:.2f} M" if "n_parameters" in row else "",
            "loss": f"{loss:.2f} nats per token" if loss is not None and not checkpoint else "",
            "accuracy": f"{row['accuracy']:.3f}" if "accuracy" in row and not checkpoint else "",
            "recall at 10": f"{row['recall']:.3f}" if "recall" in row and not checkpoint else "",
            "size": readable_size(int(row["bytes"])) if "bytes" in row else "known after the download",
            "download": "needed, at the first run" if row["needs_download"] else "none",
        }
    )


def _about_many(names: tuple[str, ...]) -> str:
    downloads = [name for name in names if needs_download(name)]
    return facts({"models": str(len(names)), "download": ", ".join(downloads) or "none"})
