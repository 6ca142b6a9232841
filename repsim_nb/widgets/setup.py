"""The pickers of an explorer, side by side: models and their layers, a measure and a text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import ipywidgets as widgets

from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.also import also_asked
from repsim_nb.widgets.choice import Choice
from repsim_nb.widgets.corpus_picker import CorpusPicker
from repsim_nb.widgets.layer_picker import ALL, LayerPicker
from repsim_nb.widgets.measure_picker import MeasurePicker
from repsim_nb.widgets.model_picker import ModelPicker, depth_of
from repsim_nb.widgets.picker import FULL
from repsim_nb.widgets.question import Question
from repsim_nb.widgets.state import BOTH
from repsim_nb.widgets.step_series import offered

PICKED = ("value", "params", "split", "rows", "n_rows", "seed")  # traits of pickers that a run depends on


class Setup(widgets.Box):
    """Pickers whose choices together make a `Question`.

    Options without a picker are carried over from the question that was chosen, and named in a line of text.

    Parameters
    ----------
    question
        The initial choice.
    depth
        Returns the number of layers of a model that is not in the catalogue, or None.

    Attributes
    ----------
    model_a, models_b, layers_a, layers_b, measure, corpus
        The pickers, each with a trait `value`.
    uncertainty
        A checkbox: whether to compute null and interval.
    over
        Whose checkpoints are gone through, step by step; hidden if the chosen models have none.
    also
        The line of text that names other options.

    Raises
    ------
    InputError
        An unknown model, measure, corpus or parameter; layers that do not exist.
    """

    def __init__(self, question: Question, depth: Callable[[str], int | None]):
        q, self._depth = question, depth
        self._chosen = q
        self._checked = q.uncertainty if q.uncertainty.resampled else BOTH
        self.model_a = ModelPicker(q.model_a, title="Model A")
        self.models_b = ModelPicker(q.models_b, multiple=True, title="Model B, one or several")
        self.layers_a, self.layers_b = LayerPicker(None, title="Layers of A"), LayerPicker(None, title="Layers of B")
        self.measure = MeasurePicker(q.measure, **q.params)
        rows = q.sampling
        self.corpus = CorpusPicker(rows.corpus, split=q.split, n_rows=rows.n_rows, seed=rows.seed, rows=rows.rows)
        self.uncertainty = widgets.Checkbox(
            q.uncertainty.resampled,
            description="null and interval",
            tooltip="Compare with unrelated documents, and leave documents out one at a time; takes longer",
            indent=False,
        )
        self.over = Choice(
            description="training",
            tooltip="Compare at every checkpoint of A, of B, or of both at the same step, and show a slider over them",
            layout=FULL,
        )
        self.also = widgets.HTML()
        self.also.add_class("repsim-also")
        self.over.value = q.over
        self._offer_steps()
        self.renumber()
        self.layers_a.value, self.layers_b.value = q.layers_a, q.layers_b
        super().__init__(
            [
                card(self.model_a, self.layers_a),
                card(self.models_b, self.layers_b, self.over),
                card(self.measure, self.uncertainty),
                card(self.corpus, self.also),
            ]
        )
        self.add_class("repsim-setup")
        self._tell()
        for picker in (self.model_a, self.models_b, self.over):  # before others hear of it
            picker.observe(lambda _: self._offer_steps(), "value")
        self.on_change(lambda _: self._tell())

    @property
    def question(self) -> Question:
        """What the pickers ask, with the options that have no picker."""
        text, before = self.corpus, self._chosen
        per_document = before.sampling.rows_per_document if text.rows == "tokens" else None
        how = self._checked if self.uncertainty.value else Uncertainty()
        return replace(
            before,
            model_a=self.model_a.value,
            models_b=self.models_b.value,
            measure=self.measure.value,
            params=dict(self.measure.params),
            sampling=replace(
                before.sampling,
                corpus=text.value,
                rows=text.rows,
                n_rows=text.n_rows,
                rows_per_document=per_document,
                seed=text.seed,
            ),
            split=text.split,
            layers_a=self.layers_a.value,
            layers_b=self.layers_b.value,
            over=self.over.value,
            uncertainty=replace(before.uncertainty, null=how.null, interval=how.interval),
        )

    def choose(self, question: Question) -> None:
        """Set all pickers."""
        q = question
        self._chosen = q
        self._checked = q.uncertainty if q.uncertainty.resampled else self._checked
        self.over.value = None
        self.layers_a.value = self.layers_b.value = ALL  # so that layers of another model are not rescaled
        self.model_a.value, self.models_b.value = q.model_a, q.models_b
        self.renumber()
        self.layers_a.value, self.layers_b.value, self.over.value = q.layers_a, q.layers_b, q.over
        self.measure.value = q.measure
        self.measure.params = q.params
        rows = q.sampling
        self.corpus.value, self.corpus.split, self.corpus.rows = rows.corpus, q.split, rows.rows
        self.corpus.n_rows, self.corpus.seed = rows.n_rows, rows.seed
        self.uncertainty.value = q.uncertainty.resampled
        self._tell()

    def renumber(self) -> None:
        """Offer the layers of A and those of the shallowest B, as far as they are known."""
        for picker, names in ((self.layers_a, self.model_a.names), (self.layers_b, self.models_b.names)):
            depths = [self._depth(name) or depth_of(name) for name in names]
            picker.n_layers = min((depth for depth in depths if depth), default=None)

    def _offer_steps(self) -> None:
        """Offer the sides whose models have checkpoints; a choice that is not among them is undone."""
        sides = offered(self.model_a.value, self.models_b.value)
        self.over.options = [*sides.items()]
        self.over.layout.display = "" if len(sides) > 1 else "none"
        if self.over.value not in sides.values():
            self.over.value = None

    def on_change(self, handler: Callable[[Any], None]) -> None:
        """Call `handler` whenever a choice changes."""
        for picker in (self.model_a, self.models_b, self.layers_a, self.layers_b, self.measure, self.corpus):
            picker.observe(handler, [name for name in picker.trait_names() if name in PICKED])
        for control in (self.uncertainty, self.over):
            control.observe(handler, "value")

    def _tell(self) -> None:
        words = ", ".join(also_asked(self.question))
        self.also.value = f'<p class="repsim-note">Other options: {escape(words)}</p>' if words else ""


def card(*pickers: widgets.Widget) -> widgets.VBox:
    """Pickers in one frame."""
    framed = widgets.VBox(pickers)
    framed.add_class("repsim-card")
    return framed
