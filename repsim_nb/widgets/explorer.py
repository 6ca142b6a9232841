"""The explorer: from two or more models, a measure and a text to the map and the details of its cells."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from repsim_nb.activations import Sampling, Store
from repsim_nb.comparison.controls import Controls
from repsim_nb.errors import InputError, named_arguments, unknown
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Packing
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.answer import ByStep, Cache, answers
from repsim_nb.widgets.bar import Bar
from repsim_nb.widgets.behind import Behind
from repsim_nb.widgets.forecast import Forecast
from repsim_nb.widgets.guard import Alert
from repsim_nb.widgets.layer_views import LayerViews
from repsim_nb.widgets.picker import Frame
from repsim_nb.widgets.question import Question, changed
from repsim_nb.widgets.reproduce import as_commands, as_python
from repsim_nb.widgets.running import RUNNING, Running
from repsim_nb.widgets.saved_page import MAX_BYTES, LayersOnPage, map_name, write_page
from repsim_nb.widgets.setup import Setup
from repsim_nb.widgets.state import BOTH, from_json, to_json
from repsim_nb.widgets.takeaway import TakeAway, write
from repsim_nb.widgets.views import Pair, on_map, pair_of
from repsim_nb.widgets.work import Work

if TYPE_CHECKING:
    import xarray as xr


def _spelled(name: str, given: Mapping[str, Any]) -> str | None:
    """How to write an argument that has moved or been renamed."""
    if name == "uncertainty":
        return f'Give null="{BOTH.null}" and interval={BOTH.interval} instead.'
    return as_parameter(name, given)


class Explorer(Running):
    """Pickers, the map, and linked views of the details of the selected cell.

    Nothing is downloaded before `Run` is pressed or `run()` is called. Once displayed, an explorer estimates the time
    of a run from a trial of about a second in the background.

    Parameters
    ----------
    model_a
        Name of a model, compared with each of `models_b`.
    models_b
        A name or several; the same name compares the model with itself.
    over
        "a", "b" or "both": compare at every checkpoint of `model_a`, of `models_b`, or of both at the same step, and
        show a slider over training. A model without a revision has checkpoints if `list_models().revisions` says so;
        what is not in training stays as it is, so model_a and one of models_b may be the same.
    corpus, split
        As in `load_corpus`; None is the corpus that the models were made for.
    measure
        A name, or a configured measure.
    layers_a, layers_b, site, rows, n_rows, rows_per_document, seed, packing
        As in `compare`, but with fewer rows, so that the first map appears within seconds.
    null, interval, between_documents
        As in `compare`. The checkbox is checked if null or interval is given; checked by hand it asks for these, or for
        null="permutation" and interval=0.95.
    leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare`. A line of text names the options without a picker.
    store, memory_limit, batch_tokens
        What a run may use, as in `compare`. They belong to this explorer and are not saved with its state.

    Attributes
    ----------
    model_a, models_b, layers_a, layers_b, measure, corpus
        The pickers, each with a trait `value`.
    uncertainty
        The checkbox "null and interval".
    calibrated
        The checkbox "calibrated scores" over the maps, which is there if the results have some; see `calibrated_map`.
    status
        Read-only trait: "idle", "running", "done", "cancelled" or "failed".
    error
        Read-only trait: the error that the widget shows; "" if there is none.
    selected
        Trait: (layer of a, layer of b) or None.
    against
        Trait: the one of models_b whose map is in focus.
    over
        The menu "training", with the trait `value`; hidden if no chosen model has checkpoints.
    step
        Trait: the training step that is shown, at first the last one; None without a series. Every step has been
        compared by the run, all are drawn on one colour scale, and a chosen cell stays chosen.

    Raises
    ------
    InputError
        An unknown model, measure, corpus or argument; layers that do not exist; a value out of range.
    """

    _beside = ("look", "stitch")
    selected = traitlets.Any(None, allow_none=True)
    against = traitlets.Unicode("")
    step = traitlets.Int(None, allow_none=True)
    _page = "explorer"

    @named_arguments(_spelled)
    def __init__(
        self,
        model_a: str = "tiny-neox-w32-d2",
        models_b: str | Sequence[str] = "tiny-neox-w64-d4",
        corpus: Any = None,
        measure: str | Measure = "cka",
        *,
        over: str | None = None,
        split: str | None = None,
        layers_a: Any = "all",
        layers_b: Any = "all",
        site: str = "resid_post",
        rows: str = "tokens",
        n_rows: int = 1000,
        rows_per_document: int | None = None,
        seed: int = 0,
        packing: str | Packing = "documents",
        null: str | int | None = None,
        interval: float | bool | None = None,
        between_documents: bool = False,
        leave_out_first: int = 0,
        leave_out_norms: float | None = None,
        standardize: bool = False,
        remove_components: int = 0,
        store: Store | str | bool | None = None,
        memory_limit: int | None = None,
        batch_tokens: int | None = None,
    ):
        chosen = get_measure(measure)
        asked = Question(
            model_a,
            (models_b,) if isinstance(models_b, str) else tuple(models_b),
            chosen.name,
            changed(chosen),
            Sampling(corpus, site, rows, n_rows, rows_per_document, seed, packing),
            split,
            layers_a,
            layers_b,
            Uncertainty(null, interval, None, between_documents, seed),
            Controls(leave_out_first, leave_out_norms, standardize, remove_components),
            over,
        )
        self._asked: Question | None = None  # the question that the results answer
        self._cache = Cache(resources=Resources(store, memory_limit, batch_tokens))
        self._displayed = False
        self._wanted: tuple[str, Pair | None, int | None] | None = None  # to be selected after the next run
        self._taking = False  # while new results are taken

        self._setup = Setup(asked, self._cache.depth)
        self.model_a, self.models_b = self._setup.model_a, self._setup.models_b
        self.layers_a, self.layers_b = self._setup.layers_a, self._setup.layers_b
        self.measure, self.corpus, self.uncertainty = self._setup.measure, self._setup.corpus, self._setup.uncertainty
        self.over = self._setup.over

        self._bar, self.alert = Bar(self.start, self.cancel), Alert()
        self._work = Work(self._bar, self.alert, lambda text: self.set_trait("error", text))
        self._forecast = Forecast(self._work, self._cache)
        self._views = LayerViews(self._select_cell, self._go_to, self._redraw)
        self.calibrated = self._views.calibrated
        self._behind = Behind(self._work, self._cache, self._refresh)
        self._take_away = TakeAway()
        parts = [self._setup, self._bar, self.alert, self._views, self._behind, self._take_away]
        super().__init__([Frame("Explorer"), *parts])  # top to bottom, the order of the Tab key
        self.add_class("repsim")
        self.add_class("repsim-explorer")
        self._setup.on_change(self._changed)
        self._connect()
        self._changed()
        self._refresh()

    # What is asked, and the answer.

    @property
    def question(self) -> Question:
        """What the pickers ask."""
        return self._setup.question

    @property
    def results(self) -> dict[str, xr.DataArray]:
        """Model -> what `compare` returned, for all of `models_b` at the step shown; empty before the first run."""
        return dict(self._views.results)

    @property
    def by_step(self) -> ByStep:
        """Step -> `results` at that step; without a series the only step is None."""
        return dict(self._views.by_step)

    @property
    def result(self) -> xr.DataArray | None:
        """What `compare` returned for the map in focus; None before the first run."""
        return self.results.get(self.against)

    @property
    def code(self) -> str:
        """Python code for the results and close-up shown; before the first run, for what the pickers ask."""
        question = self._asked or self.question
        b = self.against or question.models_b[0]
        return as_python(question, b, self.selected, self._behind.stitched, self.step)

    @property
    def command(self) -> str:
        """The same as shell commands."""
        if self._asked is None:
            return as_commands(self._now()[0], self.state)
        shown = {"against": self.against, "selected": self.selected, "step": self.step}
        return as_commands(self._now()[0], to_json(self._asked, **shown))

    def _job(self) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        question = self.question
        self._work.give_up("trial", "look", "stitch")
        return partial(answers, question, self._cache), partial(self._take, question)

    # Saving and restoring.

    @property
    def state(self) -> str:
        """What is chosen and selected, as one line of JSON; set it to restore."""
        against, selected, step = self._wanted or (self.against, self.selected, self.step)
        return to_json(self.question, against=against, selected=selected, step=step)

    @state.setter
    def state(self, text: str) -> None:
        question, more = from_json(text)
        before = self.question
        try:
            self._setup.choose(question)
        except Exception:
            self._setup.choose(before)
            raise
        self._wanted = more.get("against", ""), more.get("selected"), more.get("step")
        self._refresh()

    def export(self, folder: str | os.PathLike[str] | None = None) -> list[Path]:
        """Write the maps that are shown as SVG and PNG with a caption, and their numbers as CSV and NetCDF.

        Parameters
        ----------
        folder
            Created if it is missing. None is the folder of the current run, as in notebooks, or in the app "results" in
            its folder.

        Returns
        -------
        list[Path]
            The files written.

        Raises
        ------
        InputError
            Nothing has been run, or a folder that cannot be written to.
        """
        return write(self.results, self._views.every, folder)

    def save_html(self, path: str | os.PathLike[str], *, closeups: bool = True, max_bytes: int = MAX_BYTES) -> Path:
        """Write what is shown as one HTML file, to point at and click without a kernel or a network.

        A series over training is in it with all of its steps, and can be played.

        Parameters
        ----------
        path
            A file that ends in .html. It is replaced if it exists.
        closeups
            Whether to include the close-ups and stitches that were made; no others can be shown.
        max_bytes
            The largest size of the file.

        Returns
        -------
        Path
            The file written.

        Raises
        ------
        InputError
            Nothing has been run, or as for `repsim_nb.widgets.save_html`, whose notes say what such a file discloses.
        """
        return write_page(self.on_page(closeups), path, code=self.code, max_bytes=max_bytes)

    def on_page(self, closeups: bool = True) -> LayersOnPage:
        """What a saved page shows: the maps, the close-ups that were made, and the chosen cell."""
        every = {map_name(b, step): one for step, results in self._views.drawn.items() for b, one in results.items()}
        selected = None if self.selected is None else (map_name(self.against, self.step), self.selected)
        panels = self._behind.panels if closeups else {}
        return LayersOnPage(every, panels, selected, self._views.slider.steps, self.step)

    # Inside: callbacks, all of them under the guard.

    def _changed(self, change: Any = None) -> None:
        """Update the estimate and the texts to copy after a choice."""
        with self._work.guard():
            self._setup.renumber()
            self._refresh()
            self._try()

    def _refresh(self) -> None:
        self._take_away.code.text, self._take_away.command.text = self.code, self.command
        self._take_away.state.value = self.state

    def _try(self) -> None:
        """Show what a run will take; once displayed, measure the time in the background."""
        self._forecast.tell(self.question)
        if self._displayed and self.status != RUNNING:
            self._forecast.try_out(self.question)

    def _take(self, question: Question, found: ByStep) -> None:
        """Show new results, all on one scale."""
        before, against, step = self.selected, self.against, self.step
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            against, before, step = wanted
        self._asked = question
        self._behind.seen.clear()
        self._views.take(found, step)
        self._taking = True
        try:
            self.step = self._views.step
            self.against = against if against in self.results else question.models_b[0]
            self.selected = None
        finally:
            self._taking = False
        self.selected = before if before is not None and on_map(self.results[self.against], before) else None
        if self.selected is None:
            self._show_pair()
        self._setup.renumber()
        self._refresh()
        self._views.appear()  # last: from now on the maps can be clicked

    def _redraw(self) -> None:
        """Draw everything again, calibrated or not."""
        with self._work.guard():
            if self.results:
                self._views.redraw()
                self._views.show(self.against, self.selected)
                self._views.appear()

    @traitlets.validate("step")
    def _valid_step(self, proposal: Any) -> int | None:
        given, steps = proposal["value"], self._views.by_step
        if given not in steps and (given is not None or steps):
            has = ", ".join(map(str, self._views.slider.steps))
            raise InputError(f"step={given!r}; {f'the steps are {has}' if has else 'no result is over training'}.")
        return given

    @traitlets.validate("selected")
    def _valid_selected(self, proposal: Any) -> Pair | None:
        given = proposal["value"]
        return None if given is None else pair_of(self.result, given)

    @traitlets.validate("against")
    def _valid_against(self, proposal: Any) -> str:
        given, choices = proposal["value"], self.results or self.models_b.names
        if given not in choices and (given or self.results):
            raise unknown("model on the side of b", given, choices)
        return proposal["value"]

    def _select_cell(self, b: str, pair: Pair) -> None:
        """Select a cell that was clicked or reached with the arrow keys."""
        with self._work.guard():
            self.against, self.selected = b, pair

    def _go_to(self, step: int) -> None:
        """Show the step to which the slider was moved."""
        self._work.clear()
        with self._work.guard():
            self.step = step

    @traitlets.observe("against")
    def _turn_away(self, change: Any) -> None:
        self.selected = None

    @traitlets.observe("step")
    def _turn(self, change: Any) -> None:
        if not self._taking and self.step is not None:
            self._views.turn(self.step)
            self._show_pair()

    @traitlets.observe("selected")
    def _show_pair(self, change: Any = None) -> None:
        if self._taking:
            return
        with self._work.guard():
            if self.status != RUNNING and self._bar.busy:  # a stitch was running
                self._bar.busy = False
                self._bar.say("")
            self._behind.clear()
            self._refresh()
            self._views.show(self.against, self.selected)
            if self.selected is None or self.result is None or self._asked is None:
                return
            cell = self.result.sel(layer_a=self.selected[0], layer_b=self.selected[1])
            self._behind.show(*self._now(), self.selected, cell, map_name(self.against, self.step))

    def _now(self) -> tuple[Question, str]:
        """What the step that is shown answers, and the name of the B in focus at that step."""
        asked = self._asked or self.question
        now = asked.by_step.get(self.step, [*asked.by_step.values()][-1])
        return now, now.models_b[asked.models_b.index(self.against) if self.against in asked.models_b else 0]

    @traitlets.observe("status")
    def _try_again(self, change: Any) -> None:
        with self._work.guard():
            self._try()

    def _also_on_page(self) -> str:
        return f", {len(self._behind.panels)} close-ups"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if not self._displayed:
            self._displayed = True
            with self._work.guard():
                self._try()
        return super()._repr_mimebundle_(**kwargs)
