"""Two models or more, a measure and a text in; the map, and what lies behind its cells, out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import traitlets

from repsim_nb.errors import InputError, unknown
from repsim_nb.runs.results_folder import output_dir
from repsim_nb.widgets import cost
from repsim_nb.widgets.bounds import limited, reachable
from repsim_nb.widgets.details import Closeup, StitchPanel, look, run_stitch
from repsim_nb.widgets.guard import Alert
from repsim_nb.widgets.job import Job
from repsim_nb.widgets.parts import Parts
from repsim_nb.widgets.picker import Frame
from repsim_nb.widgets.question import Kept, Question, answers, as_commands, as_python
from repsim_nb.widgets.setup import Setup
from repsim_nb.widgets.takeaway import TakeAway, write
from repsim_nb.widgets.views import Maps, Pair, box, curves_as_html, heading

if TYPE_CHECKING:
    import xarray as xr

IDLE, RUNNING, DONE, CANCELLED, FAILED = "idle", "running", "done", "cancelled", "failed"


class Explorer(Parts):
    """Pickers, the map, and linked views of what lies behind the cell that is selected.

    Nothing is downloaded before `Run` is pressed, or `run()` called. A displayed explorer tries for about a second, in
    the background, how long a run will take.

    Args:
        model_a: name of a model, compared with each of `models_b` (a name or several; the same name compares it with
            itself).
        corpus, split, measure, rows, n_rows, seed, layers_a, layers_b, params: as in `compare` and `load_corpus`.
        uncertainty: with null and interval.

    Attributes:
        model_a, models_b, layers_a, layers_b, measure, corpus: the pickers, each with a trait `value`.
        status: trait, to be read: "idle", "running", "done", "cancelled" or "failed".
        error: trait, to be read: what the widget says went wrong; "" while all is well.
        selected: trait, (layer of a, layer of b) or None.
        against: trait, that of models_b whose map is in focus.

    Raises:
        InputError: an unknown model, measure, corpus or parameter; layers that do not exist.
    """

    status = traitlets.Unicode(IDLE, read_only=True)
    error = traitlets.Unicode("", read_only=True)
    selected = traitlets.Any(None, allow_none=True)
    against = traitlets.Unicode("")

    def __init__(
        self,
        model_a: str = "tiny-neox-w32-d2",
        models_b: str | Sequence[str] = "tiny-neox-w64-d4",
        corpus: Any = None,
        measure: str = "cka",
        *,
        split: str | None = None,
        rows: str = "tokens",
        n_rows: int = 1000,
        seed: int = 0,
        layers_a: Any = "all",
        layers_b: Any = "all",
        uncertainty: bool = False,
        **params: Any,
    ):
        self._results: dict[str, xr.DataArray] = {}
        self._asked: Question | None = None  # what `_results` answer
        self._kept = Kept()
        self._jobs: dict[str, Job] = {}
        self._displayed = False
        self._wanted: tuple[str, Pair | None] | None = None  # to be selected after the next run
        self._stitched: dict[str, Any] | None = None  # how the selected pair was stitched

        several = (models_b,) if isinstance(models_b, str) else tuple(models_b)
        asked = Question(
            model_a, several, measure, params, corpus, split, rows, n_rows, seed, layers_a, layers_b, uncertainty
        )
        self._setup = Setup(asked, self._kept.depth)
        self.model_a, self.models_b = self._setup.model_a, self._setup.models_b
        self.layers_a, self.layers_b = self._setup.layers_a, self._setup.layers_b
        self.measure, self.corpus, self.uncertainty = self._setup.measure, self._setup.corpus, self._setup.uncertainty

        self._estimate, self._said = widgets.HTML(), widgets.HTML()
        self._estimate.add_class("repsim-estimate")
        self._said.add_class("repsim-status")
        self._run = widgets.Button(description="Run", tooltip="Compare all chosen layers", button_style="primary")
        self._run.add_class("repsim-run")
        self._cancel = widgets.Button(description="Cancel", tooltip="Stop; the last result stays", disabled=True)
        self._cancel.add_class("repsim-cancel")
        self._progress = widgets.FloatProgress(0.0, min=0.0, max=1.0)
        self._progress.add_class("repsim-progress")
        self.alert = Alert()
        self._maps, self._curves = Maps(self._select_cell), widgets.HTML()
        self._curves.add_class("repsim-curves")
        self._pair = widgets.HTML()
        self._pair.add_class("repsim-pair")
        self._closeup = Closeup()
        self._stitch = StitchPanel(self._start_stitch)
        self._take_away = TakeAway()
        super().__init__(self._laid_out())
        self.add_class("repsim")
        self.add_class("repsim-explorer")
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
        """Model -> what `compare` returned, of all of `models_b`; empty before the first run."""
        return dict(self._results)

    @property
    def result(self) -> xr.DataArray | None:
        """What `compare` returned for the map in focus; None before the first run."""
        return self.results.get(self.against)

    @property
    def code(self) -> str:
        """Python that gives the results and the close-up shown; of what the pickers ask before the first run."""
        question = self._asked or self.question
        return as_python(question, self.against or question.models_b[0], self.selected, self._stitched)

    @property
    def command(self) -> str:
        """The same as commands for a shell."""
        if self._asked is None:
            return as_commands(self.question, self.state)
        return as_commands(self._asked, self._asked.to_json(against=self.against, selected=self.selected))

    def run(self) -> xr.DataArray:
        """Compare, wait, and return the result of the map in focus.

        Raises:
            InputError: or whatever else stood in the way; the widget shows it as well.
        """
        self.start()
        try:
            self.wait()
        except BaseException:  # such as Ctrl-C
            self.cancel()
            raise
        if self.alert.error is not None:
            raise self.alert.error
        result = self.result
        if result is None:
            raise InputError("The run was cancelled before there was a result. Run it again.")
        return result

    def start(self) -> None:
        """What the Run button does: compare in the background. A run that is under way is given up."""
        self._clear()
        with self._guard():
            question = self.question
            self._give_up("trial", "look", "stitch")
            began = time.perf_counter()

            def done(found: dict[str, xr.DataArray], said: list[str]) -> None:
                self._take(question, found)
                self._say(f"Done in {time.perf_counter() - began:.1f} s. {' '.join(said)}")
                self.set_trait("status", DONE)

            def failed(error: Exception) -> None:
                self.set_trait("status", FAILED)
                self._say("")
                self._fail(error)

            try:
                self.set_trait("status", RUNNING)
                self._say("Starting")
                self._job("run", lambda: answers(question, self._kept), done, failed)
            except Exception as error:
                failed(error)

    def cancel(self) -> None:
        """Stop a run, a stitch or a close-up that is under way; what was found before stays."""
        self._give_up("run", "look", "stitch")
        if self.status == RUNNING:
            self.set_trait("status", CANCELLED)
        self._busy(False)
        self._say("Cancelled. The last result stands." if self.results else "Cancelled.")

    def wait(self) -> None:
        """Until nothing runs in the background any more."""
        while any(job.is_alive() for job in [*self._jobs.values()]):
            for job in [*self._jobs.values()]:
                job.join()

    # Saving and restoring.

    @property
    def state(self) -> str:
        """What is chosen and selected, as one line of JSON; set it to restore."""
        against, selected = self._wanted or (self.against, self.selected)
        return self.question.to_json(against=against, selected=selected)

    @state.setter
    def state(self, text: str) -> None:
        question, more = Question.from_json(text)
        before = self.question
        try:
            self._setup.choose(question)
        except Exception:
            self._setup.choose(before)
            raise
        self._wanted = more.get("against", ""), more.get("selected")
        self._refresh()

    @classmethod
    def from_state(cls, text: str) -> Explorer:
        """An explorer as it was when its `state` was saved; what was selected is selected again after the run.

        Raises:
            InputError: text that is no saved state, or one that names what does not exist.
        """
        explorer = cls()
        explorer.state = text
        return explorer

    def export(self, folder: str | os.PathLike[str] | None = None) -> list[Path]:
        """Write the maps as SVG and PNG with a caption, and their numbers as CSV and NetCDF.

        Args:
            folder: made if it is missing; None is the folder of the present run, as notebooks use it, or in the app its
                folder's "results".

        Returns:
            The files written.

        Raises:
            InputError: nothing has been run, or a folder that cannot be written to.
        """
        if not self.results:
            raise InputError("There is nothing to export yet. Run a comparison first.")
        if folder is None:
            return write(self.results, reachable("results") if limited() else output_dir())
        return write(self.results, reachable(folder))

    # Inside: callbacks, all of them under the guard.

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with self.alert.guarding():
            yield
        if self.alert.error is not None:
            self.set_trait("error", self.alert.text)

    def _clear(self) -> None:
        """Something new is tried: what went wrong before is no news."""
        self.alert.clear()
        self.set_trait("error", "")

    def _fail(self, error: Exception) -> None:
        self.alert.show(error)
        self.set_trait("error", self.alert.text)

    def _job(
        self,
        name: str,
        work: Callable[[], Any],
        done: Callable[[Any, list[str]], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Start a job, in place of the one of that name."""
        self._give_up(name)

        def step(what: str, at: int, of: int) -> None:
            if name != "trial":
                self._progress.value = at / of if of else 0.0
                self._say(f"{what}: {at} of {of}")

        job = Job(work, done, failed or self._fail, step)
        job.start()
        self._jobs[name] = job

    def _give_up(self, *names: str) -> None:
        for name in names:
            if name in self._jobs:
                self._jobs[name].give_up()

    def _say(self, text: str) -> None:
        self._said.value = f'<div role="status">{escape(text)}</div>'

    def _connect(self) -> None:
        self._setup.on_change(self._changed)
        self._run.on_click(lambda _: self.start())
        self._cancel.on_click(lambda _: self.cancel())
        self._take_away.export.on_click(lambda _: self._export_here())
        self._take_away.restore.on_click(lambda _: self._restore_here())

    def _changed(self, change: Any = None) -> None:
        """Something was picked: say what a run would take, and keep the texts to take away up to date."""
        with self._guard():
            self._setup.renumber()
            self._refresh()
            self._try()

    def _refresh(self) -> None:
        self._take_away.code.text, self._take_away.command.text = self.code, self.command
        self._take_away.state.value = self.state

    def _tell_cost(self, time: str = "") -> None:
        words = cost.in_words(self.question, self._kept, time)
        self._estimate.value = f'<span class="repsim-note">{escape(words)}</span>'

    def _try(self) -> None:
        """Say what a run will take; once displayed, see in the background how long."""
        self._give_up("trial")
        self._tell_cost()
        question = self.question
        if not self._displayed or self.status == RUNNING or not cost.worth_trying(question, self._kept):
            return

        def done(seconds: float, said: list[str]) -> None:
            self._tell_cost(f"about {max(1, round(seconds))} s")

        # Should it fail, the run itself will say why.
        self._tell_cost("seconds: trying")
        self._job(
            "trial", lambda: cost.seconds(question, self._kept), done, lambda _: self._tell_cost("time not known")
        )

    def _take(self, question: Question, found: dict[str, xr.DataArray]) -> None:
        """Show new results, all on one scale."""
        before, against = self.selected, self.against
        self._results, self._asked = found, question
        self._maps.take(found)
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            against, before = wanted
        self.against = against if against in found else question.models_b[0]
        self.selected = None
        self.selected = before if before is not None and self._exists(before) else None
        if self.selected is None:
            self._draw_curves()
        self._setup.renumber()
        self._refresh()
        self._maps.appear()  # last: from now on it can be clicked on

    def _exists(self, pair: Pair) -> bool:
        result = self.result
        return result is not None and pair[0] in result.layer_a.values and pair[1] in result.layer_b.values

    def _draw_curves(self) -> None:
        self._curves.value = curves_as_html(self.results, self.against, self.selected)

    @traitlets.validate("selected")
    def _valid_selected(self, proposal: Any) -> Pair | None:
        given = proposal["value"]
        if given is None:
            return None
        if self.result is None:
            raise InputError("There is no map to select from yet. Run a comparison first.")
        try:
            pair = int(given[0]), int(given[1])
        except (TypeError, ValueError, IndexError):
            raise InputError(f"selected={given!r}; expected None or (layer of a, layer of b).") from None
        if not self._exists(pair):
            a, b = (self.result[f"layer_{side}"].values.tolist() for side in "ab")
            raise InputError(f"selected={given!r} is not on the map: layers of a are {a}, of b {b}.")
        return pair

    @traitlets.validate("against")
    def _valid_against(self, proposal: Any) -> str:
        given, choices = proposal["value"], self.results or self.models_b.names
        if given not in choices and (given or self.results):
            raise unknown("model on the side of b", given, choices)
        return proposal["value"]

    def _select_cell(self, b: str, pair: Pair) -> None:
        """A cell was clicked on or walked to."""
        with self._guard():
            self.against, self.selected = b, pair

    @traitlets.observe("against")
    def _turn_away(self, change: Any) -> None:
        self.selected = None

    @traitlets.observe("selected")
    def _show_pair(self, change: Any) -> None:
        with self._guard():
            self._give_up("look", "stitch")
            self._stitched = None
            if self.status != RUNNING and not self._cancel.disabled:  # a stitch was under way
                self._busy(False)
                self._say("")
            self._maps.mark(self.against, self.selected)
            self._closeup.clear()
            self._refresh()
            if self.results:
                self._draw_curves()
            self._details.layout.display = "none" if self.selected is None else ""
            if self.selected is None or self.result is None or self._asked is None:
                self._pair.value = ""
                return
            labels = self._labels()
            self._stitch.reset(*labels)
            self._pair.value = heading(labels, self.result.sel(layer_a=self.selected[0], layer_b=self.selected[1]))
            self._look(self._asked, self.against, self.selected)

    def _look(self, question: Question, b: str, selected: Pair) -> None:
        if not self._kept.holds(question, b):
            self._closeup.points.value = (
                '<p class="repsim-note">Activations of this size are not kept, so there is no close-up. '
                "Choose fewer rows or layers.</p>"
            )
            return
        labels = self._labels()

        def done(found: Any, said: list[str]) -> None:
            with self._guard():
                self._closeup.show(labels, question.rows, *found)

        self._job("look", lambda: look(question, b, selected, self._kept), done)

    def _labels(self) -> tuple[str, str]:
        assert self.selected is not None
        assert self._asked is not None
        return f"{self._asked.model_a}, layer {self.selected[0]}", f"{self.against}, layer {self.selected[1]}"

    def _start_stitch(self) -> None:
        """Stitch the selected pair in the background."""
        self._clear()
        with self._guard():
            question, b, selected = self._asked, self.against, self.selected
            if question is None or selected is None:
                raise InputError("Select a cell of the map first: its layers are stitched.")
            how, prompt = self._stitch.arguments(), self._stitch.prompt.value

            def done(stitched: Any, said: list[str]) -> None:
                self._stitch.show(stitched, prompt)
                self._stitched = how
                self._refresh()
                self._busy(False)
                self._say("Stitched.")

            def failed(error: Exception) -> None:
                self._busy(False)
                self._say("")
                self._fail(error)

            try:
                self._busy(True)
                self._say("Stitching")
                self._job("stitch", lambda: run_stitch(question, b, selected, self._kept, how), done, failed)
            except Exception as error:
                failed(error)

    @traitlets.observe("status")
    def _show_status(self, change: Any) -> None:
        self._run.disabled = self.status == RUNNING
        self._busy(self.status == RUNNING)
        with self._guard():
            self._try()

    def _busy(self, busy: bool) -> None:
        """Whether there is something to cancel."""
        self._cancel.disabled = not busy
        self._progress.value = 0.0
        self._progress.layout.display = "" if busy else "none"

    def _export_here(self) -> None:
        self._clear()
        with self._guard():
            files = self.export(self._take_away.folder.value.strip() or None)
            self._say(f"Wrote {len(files)} files to {files[0].parent}.")

    def _restore_here(self) -> None:
        self._clear()
        with self._guard():
            self.state = self._take_away.state.value
            self._say("Restored. Press Run.")

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if not self._displayed:
            self._displayed = True
            with self._guard():
                self._try()
        return super()._repr_mimebundle_(**kwargs)

    def _laid_out(self) -> list[widgets.Widget]:
        """Top to bottom, which is the order under the Tab key."""
        bar = box("repsim-bar", self._run, self._cancel, self._progress, self._said, self._estimate)
        self._details = box(
            "repsim-details",
            self._pair,
            box("repsim-panels", self._closeup.points, self._closeup.tokens, self._stitch),
        )
        self._details.layout.display = "none"
        self._progress.layout.display = "none"
        return [
            Frame("Explorer"),
            self._setup,
            bar,
            self.alert,
            box("repsim-results", self._maps, self._curves),
            self._details,
            self._take_away,
        ]
