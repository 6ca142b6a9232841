"""The class `Population`: from many models to a pair, its layers and their tokens."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import traitlets

from repsim_nb.activations import Sampling, Store
from repsim_nb.comparison import compare_models
from repsim_nb.comparison.controls import Controls
from repsim_nb.errors import InputError, named_arguments, unknown
from repsim_nb.measures import Measure, get_measure
from repsim_nb.measures.registry import as_parameter
from repsim_nb.models import Packing
from repsim_nb.system.resources import Resources
from repsim_nb.uncertainty import Uncertainty
from repsim_nb.widgets.bar import Bar
from repsim_nb.widgets.guard import Alert
from repsim_nb.widgets.picker import Frame
from repsim_nb.widgets.population import squares_shown
from repsim_nb.widgets.population.asked import Asked
from repsim_nb.widgets.population.findings import findings
from repsim_nb.widgets.population.map_and_matrix import MapAndMatrix, TwoModels
from repsim_nb.widgets.population.pickers import Pickers
from repsim_nb.widgets.population.population_files import write
from repsim_nb.widgets.population.population_page import write_page
from repsim_nb.widgets.population.shown_choices import ShownChoices
from repsim_nb.widgets.population.walk import Walk
from repsim_nb.widgets.question import changed
from repsim_nb.widgets.running import Running
from repsim_nb.widgets.saved_page import MAX_BYTES
from repsim_nb.widgets.takeaway import TakeAway
from repsim_nb.widgets.views import box
from repsim_nb.widgets.work import Work

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

DEFAULT = ("tiny-neox-w32-d2", "tiny-neox-w32-d4", "tiny-neox-w64-d2", "tiny-neox-w64-d4")


class Population(Running):
    """Many models at once: their map and the matrix of all pairs, and the way down to layers and tokens.

    Choose a pair on the map or in the matrix, and the explorer of its layers appears below; choose a cell there, and
    the tokens that differ most are shown. Nothing is downloaded before `Run` is pressed or `run()` is called.

    Parameters
    ----------
    models
        Names of at least two models, of any depth, width, kind and tokenizer.
    measures
        One or more names, or configured measures.
    corpora
        A name from `list_corpora()`, a path, a hub id, or several; None is the corpus the first model was made for.
    layers
        "last", "relative", "best" or "all", as in `compare_models`.
    site, rows, n_rows, rows_per_document, seed, packing, null
        As in `compare_models`, but with fewer rows, so that the first map appears soon.
    between_documents, leave_out_first, leave_out_norms, standardize, remove_components
        As in `compare_models`.
    table
        More about the models, indexed by name: accuracy, loss, a group. Its columns can colour the map, and its column
        "step" says which models are checkpoints; without it, revisions such as `name@step1000` do.
    store, memory_limit, batch_tokens
        What a run may use. They belong to this widget and are not saved with its state. With a store, a second run
        finds the activations.

    Attributes
    ----------
    models, measures, corpus, null
        The pickers, each with a trait `value`, and the checkbox.
    measure, place, text, colour
        Choices of what is shown, each with a trait `value`: a measure, a layer or relative depth, a text, and the
        column that colours the models.
    step, span
        A slider over training and a menu, there if the models are checkpoints of two steps or more, of one run or
        several. The map is that of all models at all steps, so that places can be compared between steps, and shows
        those "until" the step, the earlier ones pale and joined by a line, or those "at" the step alone. The matrix
        keeps its order and colours. Models that are no checkpoints are always shown; tests are of all models.
    pair
        Trait: two models, or None.
    status, error
        Read-only traits, as in `Explorer`.

    Raises
    ------
    InputError
        An unknown model, measure, corpus or argument; a value out of range.
    """

    _beside = ("findings",)
    _page = "population"
    pair = traitlets.Any(None, allow_none=True)

    @named_arguments(as_parameter)
    def __init__(
        self,
        models: Sequence[str] = DEFAULT,
        measures: str | Measure | Sequence[str | Measure] = ("cka", "procrustes"),
        corpora: str | Sequence[str] | None = None,
        *,
        layers: str = "last",
        site: str = "resid_post",
        rows: str = "tokens",
        n_rows: int = 1000,
        rows_per_document: int | None = None,
        seed: int = 0,
        packing: str | Packing = "documents",
        null: str | int | None = None,
        between_documents: bool = False,
        leave_out_first: int = 0,
        leave_out_norms: float | None = None,
        standardize: bool = False,
        remove_components: int = 0,
        table: pd.DataFrame | None = None,
        store: Store | str | bool | None = None,
        memory_limit: int | None = None,
        batch_tokens: int | None = None,
    ):
        given = [measures] if isinstance(measures, str | Measure) else measures
        asked = Asked(
            tuple([models] if isinstance(models, str) else models),
            {measure.name: changed(measure) for measure in map(get_measure, given)},
            () if corpora is None else (corpora,) if isinstance(corpora, str) else tuple(corpora),
            layers,
            Sampling(None, site, rows, n_rows, rows_per_document, seed, packing),
            Uncertainty(null, None, None, between_documents, seed),
            Controls(leave_out_first, leave_out_norms, standardize, remove_components),
        )
        self._resources = Resources(store, memory_limit, batch_tokens)
        self._table = table
        self._result: xr.Dataset | None = None
        self._asked: Asked | None = None  # what `_result` answers
        self._wanted: dict[str, Any] = {}  # to be shown after the next run

        self._setup = Pickers(asked)
        self.models, self.measures = self._setup.models, self._setup.measures
        self.corpus, self.null = self._setup.corpus, self._setup.null
        self._bar, self.alert = Bar(self.start, self.cancel), Alert()
        self._work = Work(self._bar, self.alert, lambda text: self.set_trait("error", text))
        self._shown = ShownChoices(self._reshow, self._turn)
        self.measure, self.place, self.text = self._shown.measure, self._shown.place, self._shown.text
        self.colour, self.calibrated = self._shown.colour, self._shown.calibrated
        self.step, self.span = self._shown.step, self._shown.span
        self._views, self._findings, self._walk = MapAndMatrix(self._pick), widgets.HTML(), Walk()
        self._findings.add_class("repsim-findings")
        self._take_away = TakeAway()
        self._results = box("repsim-crowd-results", self._shown, self._views, self._findings)
        self._results.layout.display = "none"
        parts = [self._setup, self._bar, self.alert, self._results, self._walk, self._take_away]
        super().__init__([Frame("Population"), *parts])  # top to bottom, the order of the Tab key
        for name in ("repsim", "repsim-explorer", "repsim-population"):
            self.add_class(name)
        self._setup.on_change(self._changed)
        self._connect()
        self._changed()

    # What is asked, and the answer.

    @property
    def asked(self) -> Asked:
        """What the pickers ask."""
        return self._setup.asked

    @property
    def result(self) -> xr.Dataset | None:
        """What `compare_models` returned; None before the first run."""
        return self._result

    @property
    def explorer(self) -> Any:
        """The explorer of the layers of the chosen pair, or None."""
        return self._walk.explorer

    @property
    def code(self) -> str:
        """Python code for what is shown; before the first run, for what the pickers ask."""
        asked = self._asked or self.asked
        if self._result is None:
            return asked.as_python(None, next(iter(asked.measures)), {})
        shown = self._shown.moment.among(asked.models)
        return asked.as_python(self.pair, self.measure.value, self._shown.select, shown)

    @property
    def command(self) -> str:
        """The same comparison as a shell command."""
        return (self._asked or self.asked).as_command()

    def _job(self) -> tuple[Callable[[], Any], Callable[[Any], None]]:
        asked = self.asked
        how = asked.options | changed(self._resources)
        compute = partial(compare_models, list(asked.models), asked.configured, asked.texts, **how)
        return compute, partial(self._take, asked)

    def wait(self) -> None:
        """Wait until nothing runs in the background."""
        super().wait()
        if self._walk.explorer is not None:
            self._walk.explorer.wait()

    # Saving and restoring.

    @property
    def state(self) -> str:
        """What is chosen and shown, as one line of JSON; set it to restore."""
        if self._wanted or self._result is None:
            return self.asked.to_json(**self._wanted)
        return self.asked.to_json(**self._shown.values, pair=self.pair)

    @state.setter
    def state(self, text: str) -> None:
        asked, shown = Asked.from_json(text)
        before = self.asked
        try:
            self._setup.choose(asked)
        except Exception:
            self._setup.choose(before)
            raise
        self._wanted = shown
        self._changed()

    def export(self, folder: str | os.PathLike[str] | None = None) -> list[Path]:
        """Write the map and the matrix as SVG and PNG with captions, and all numbers as CSV and NetCDF.

        Parameters
        ----------
        folder
            As in `Explorer.export`.

        Returns
        -------
        list[Path]
            The files written.

        Raises
        ------
        InputError
            Nothing has been run, or a folder that cannot be written to.
        """
        if self._result is None:
            raise InputError("There is nothing to export yet. Run a comparison first.")
        return write(self._result, self._shown.table, self._shown.title, self._shown.colours.groups, folder)

    def save_html(self, path: str | os.PathLike[str], *, closeups: bool = True, max_bytes: int = MAX_BYTES) -> Path:
        """Write what is shown as one HTML file, to point at and click without a kernel or a network.

        Parameters
        ----------
        path, closeups, max_bytes
            As in `Explorer.save_html`; close-ups are those of the chosen pair.

        Returns
        -------
        Path
            The file written: the map and the matrix of models, what was found about them, and of the chosen pair the
            map of layers.

        Raises
        ------
        InputError
            Nothing has been run, or as for `repsim_nb.widgets.save_html`, whose notes say what such a file discloses.
        """
        if self._result is None:
            raise InputError("There is nothing to save yet. Run a comparison first.")
        how: dict[str, Any] = {"code": self.code, "closeups": closeups, "max_bytes": max_bytes}
        return write_page(
            self._result, self._views, self._shown.moment, self._findings.value, self.pair, self.explorer, path, **how
        )

    # Inside: callbacks, all of them under the guard.

    def _changed(self, change: Any = None) -> None:
        """Update the estimate and the texts to copy after a choice."""
        with self._work.guard():
            self._refresh()
            self._bar.tell_cost(self.asked.cost(self._resources.memory_limit))

    def _refresh(self) -> None:
        self._take_away.code.text, self._take_away.command.text = self.code, self.command
        self._take_away.state.value = self.state

    def _take(self, asked: Asked, found: xr.Dataset) -> None:
        """Show a new result."""
        self._result, self._asked = found, asked
        wanted, self._wanted = self._wanted, {}
        self._shown.offer(found, asked, self._table, wanted)
        pair = wanted.get("pair", self.pair)
        self.pair = None
        self._draw()
        self._results.layout.display = ""
        if pair is not None and set(pair) <= set(asked.models):
            self.pair = tuple(pair)
        self._refresh()

    def _draw(self) -> None:
        """Draw the map and the matrix, and ask what they show."""
        assert self._result is not None
        assert self._asked is not None
        table, colours, calibrated = self._shown.table, self._shown.colours, bool(self.calibrated.value)
        calibrated = calibrated and "calibrated" in table.coords
        self._views.show(table, self._shown.title, colours, squares_shown.series(self._asked.models), calibrated)
        self._views.turn(self._shown.moment, self.pair)
        apart, others = squares_shown.both_ways(table), squares_shown.every(self._result, self.place.value)
        self._findings.value = ""

        def work() -> str:
            return findings(apart, others, colours.groups, colours.column)

        def done(html: str, said: list[str]) -> None:
            self._findings.value = html

        self._work.start("findings", work, done, quiet=True)

    def _reshow(self, change: Any) -> None:
        """Draw again after a choice of what is shown."""
        if self._result is None:
            return
        self._work.clear()
        with self._work.guard():
            self._draw()
            self._refresh()
            if change.owner in (self.measure, self.text) and self.pair is not None:
                self._go_down()

    def _turn(self, change: Any) -> None:
        """Show another training step of what is drawn already."""
        self._work.clear()
        with self._work.guard():
            if self._result is not None:
                self._shown.check_step(change)
                self._views.turn(self._shown.moment, self.pair)
                self._refresh()

    @traitlets.validate("pair")
    def _valid_pair(self, proposal: Any) -> TwoModels | None:
        given = proposal["value"]
        if given is None:
            return None
        if self._asked is None:
            raise InputError("There is no result to choose a pair from yet. Run a comparison first.")
        if isinstance(given, str) or len(tuple(given)) != 2:
            raise InputError(f"pair={given!r}; expected None or two models.")
        for name in given:
            if name not in self._asked.models:
                raise unknown("model", name, self._asked.models)
        return given[0], given[1]

    def _pick(self, pair: TwoModels | None) -> None:
        with self._work.guard():
            self.pair = pair

    @traitlets.observe("pair")
    def _show_pair(self, change: Any) -> None:
        with self._work.guard():
            if self._result is None:
                return
            if self.pair is not None:  # one chosen model stays marked on the map while the other is looked for
                self._views.mark(self.pair)
                self._go_down()
            else:
                self._walk.clear()
            self._refresh()

    def _go_down(self) -> None:
        """Show the layers of the chosen pair."""
        assert self._asked is not None
        assert self.pair is not None
        corpus = self.text.value or next(iter(self._asked.corpora), None)
        self._walk.show(self._asked, self.pair, self.measure.value, corpus, self._resources)
