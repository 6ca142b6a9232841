"""The pickers of a population, side by side: models, measures with layers, and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ipywidgets as widgets
import traitlets

from repsim_nb.comparison.population.chosen_layers import WORDS
from repsim_nb.errors import InputError, unknown
from repsim_nb.measures import Measure, get_measure
from repsim_nb.models.catalogue import list_models
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.choice import Choice
from repsim_nb.widgets.corpus_picker import CorpusPicker
from repsim_nb.widgets.measure_parameters import Parameters, can_be_entered
from repsim_nb.widgets.measure_picker import choices
from repsim_nb.widgets.model_picker import ModelPicker, checkpoints_of, described
from repsim_nb.widgets.picker import FULL, Picker
from repsim_nb.widgets.population.asked import Asked
from repsim_nb.widgets.question import changed
from repsim_nb.widgets.setup import card

LAYERS = {
    "last": "the last of each model",
    "relative": "at equal relative depth",
    "best": "each pair's most similar",
    "all": "all, of models of equal depth",
}
NULL = Uncertainty("permutation")


class Measures(Picker):
    """One or several measures, and which layers they compare.

    Attributes
    ----------
    value
        Trait: a tuple of names.
    params
        Trait: name -> the parameters of this measure that differ from their defaults.
    layers
        Trait: "last", "relative", "best" or "all".

    Raises
    ------
    InputError
        An unknown measure, parameter or choice of layers.
    """

    value = traitlets.Any(("cka",), help="names of measures")
    params = traitlets.Dict(help="parameters of each measure that differ from their defaults")
    layers = traitlets.Unicode("last")
    _offered: str | None = None

    def __init__(self, value: Mapping[str, Mapping[str, Any]], layers: str):
        self._list = Choice(
            description="measures", tooltip="Ctrl or Shift for several", rows=6, multiple=True, options=choices()
        )
        self._layers = widgets.Dropdown(
            options=[(f"{name}: {words}", name) for name, words in LAYERS.items()],
            description="layers",
            tooltip="Which layers of two models are compared",
            layout=FULL,
        )
        self._of = widgets.Dropdown(
            description="parameters of", tooltip="The measure whose parameters are shown below", layout=FULL
        )
        self._parameters = Parameters(self, self._enter)
        parts = [self._list, self._layers, self._of, self._parameters]
        super().__init__("Measures and layers", "measures", parts)
        self.value, self.params, self.layers = tuple(value), dict(value), layers
        self._show()
        self.when(self._list, lambda change: setattr(self, "value", tuple(change.new)))
        self.when(self._layers, lambda change: setattr(self, "layers", change.new))
        self.when(self._of, lambda change: self._offer())

    @traitlets.validate("value")
    def _valid(self, proposal: Any) -> tuple[str, ...]:
        given = (proposal["value"],) if isinstance(proposal["value"], str) else tuple(proposal["value"])
        names = [name for _, name in choices()]
        for name in given:
            if name not in names:
                raise unknown("measure", name, names, "See list_measures().")
        if not given:
            raise InputError("No measure is chosen. Choose at least one.")
        return tuple(dict.fromkeys(given))

    @traitlets.validate("layers")
    def _valid_layers(self, proposal: Any) -> str:
        if proposal["value"] not in WORDS:
            raise unknown("choice of layers", proposal["value"], WORDS)
        return proposal["value"]

    @traitlets.validate("params")
    def _valid_params(self, proposal: Any) -> dict[str, dict[str, Any]]:
        for name in set(proposal["value"]) - set(self.value):
            raise unknown("chosen measure", name, self.value)
        return {name: changed(get_measure(name, **params)) for name, params in proposal["value"].items()}

    @traitlets.observe("value")
    def _keep(self, change: Any = None) -> None:
        """Keep the parameters of measures that are still chosen."""
        self.params = {name: params for name, params in self.params.items() if name in self.value}

    @traitlets.observe("value", "params", "layers")
    def _show(self, change: Any = None) -> None:
        with self.updating():
            self._list.value, self._layers.value = list(self.value), self.layers
            chosen = [measure for measure in map(self._configured, self.value) if can_be_entered(measure)]
            kept, self._of.options = self._of.value, [(measure.title, measure.name) for measure in chosen]
            if kept in [measure.name for measure in chosen]:
                self._of.value = kept
            self._of.layout.display = "" if len(chosen) > 1 else "none"
        self._offer()

    def _offer(self) -> None:
        """Show the parameters of one of the chosen measures."""
        measure = None if self._of.value is None else self._configured(self._of.value)
        if self._offered != self._of.value:
            self._offered = self._of.value
            self._parameters.offer(measure)
        if measure is not None:
            self._parameters.show(measure)

    def _configured(self, name: str) -> Measure:
        return get_measure(name, **self.params.get(name, {}))

    def _enter(self, name: str, value: Any) -> None:
        of = self._of.value
        self.params = self.params | {of: self.params.get(of, {}) | {name: value}}


class Pickers(widgets.Box):
    """Pickers whose choices together make an `Asked`; options without a picker are carried over.

    Parameters
    ----------
    asked
        The initial choice.

    Attributes
    ----------
    models, measures, corpus
        The pickers.
    further
        A field with the names of further texts, separated by commas.
    null
        A checkbox: whether to compute a null, and with it calibrated scores.
    """

    def __init__(self, asked: Asked):
        self._chosen = asked
        self._null = asked.uncertainty if asked.uncertainty.resampled else NULL
        first = next(iter(asked.corpora), None)
        rows = asked.sampling
        self.models = ModelPicker(asked.models, multiple=True, title="Models")
        family, series = (
            widgets.Button(description=text, tooltip=hint)
            for text, hint in (
                ("Whole family", "Choose all models of the families of those that are chosen"),
                ("Checkpoints", "Choose all checkpoints of the chosen models, which a line joins on the map"),
            )
        )
        family.on_click(lambda _: self._choose(members_of_family))
        series.on_click(lambda _: self._choose(checkpoints_of))
        more = widgets.HBox([family, series])
        more.add_class("repsim-whole")
        self.measures = Measures(asked.measures, asked.layers)
        self.null = widgets.Checkbox(
            asked.uncertainty.resampled,
            description="null and calibrated scores",
            tooltip="Compare with exchanged documents as well; takes longer",
            indent=False,
        )
        self.corpus = CorpusPicker(first, n_rows=rows.n_rows, seed=rows.seed, rows=rows.rows)
        self.further = widgets.Text(
            ", ".join(asked.corpora[1:]),
            description="and",
            placeholder="further texts, such as docstrings",
            tooltip="Names or paths of further texts, separated by commas",
            continuous_update=False,
            layout=FULL,
        )
        cards = [card(self.models, more), card(self.measures, self.null), card(self.corpus, self.further)]
        super().__init__(cards)
        self.add_class("repsim-setup")

    @property
    def asked(self) -> Asked:
        """What the pickers ask, with the options that have no picker."""
        text, before = self.corpus, self._chosen
        if isinstance(text.value, tuple):
            raise InputError("A population takes named texts, files or hub ids. Save your own text to a file.")
        if text.split is not None:
            raise InputError("A population takes the default split of a text. Leave the split as it is.")
        further = [name.strip() for name in self.further.value.split(",") if name.strip()]
        if further and text.value is None:
            raise InputError("Name the first text too if there are several.")
        per_document = before.sampling.rows_per_document if text.rows == "tokens" else None
        return replace(
            before,
            models=self.models.value,
            measures={name: self.measures.params.get(name, {}) for name in self.measures.value},
            corpora=(*([text.value] if text.value is not None else []), *further),
            layers=self.measures.layers,
            sampling=replace(
                before.sampling,
                rows=text.rows,
                n_rows=text.n_rows,
                rows_per_document=per_document,
                seed=text.seed,
            ),
            uncertainty=replace(before.uncertainty, null=self._null.null if self.null.value else None),
        )

    def choose(self, asked: Asked) -> None:
        """Set all pickers."""
        self._chosen = asked
        self._null = asked.uncertainty if asked.uncertainty.resampled else self._null
        self.models.value = asked.models
        self.measures.value, self.measures.params = tuple(asked.measures), asked.measures
        self.measures.layers = asked.layers
        self.corpus.value, rows = next(iter(asked.corpora), None), asked.sampling
        self.corpus.rows, self.corpus.n_rows, self.corpus.seed = rows.rows, rows.n_rows, rows.seed
        self.further.value = ", ".join(asked.corpora[1:])
        self.null.value = asked.uncertainty.resampled

    def on_change(self, handler: Callable[[Any], None]) -> None:
        """Call `handler` whenever a choice changes."""
        self.models.observe(handler, "value")
        self.measures.observe(handler, ["value", "params", "layers"])
        self.corpus.observe(handler, ["value", "split", "rows", "n_rows", "seed"])
        for control in (self.further, self.null):
            control.observe(handler, "value")

    def _choose(self, more: Callable[[str], list[str]]) -> None:
        """Replace every chosen model by several."""
        with self.models.alert.guarding():
            self.models.value = tuple(dict.fromkeys(name for given in self.models.value for name in more(given)))


def members_of_family(model: str) -> list[str]:
    """All models of the family of one, without checkpoints; the model itself if it is in no family."""
    family = described(model).get("family")
    return [model] if family is None else [str(name) for name in list_models(family=family).index]
