"""Two models or more, a measure and a text in; the map, and what lies behind its cells, out."""

from __future__ import annotations

import glob
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
from repsim_nb.figures import curves, heatmap
from repsim_nb.figures.scales import limits_of
from repsim_nb.runs.folder import output_dir
from repsim_nb.runs.outputs import save_figure, save_table
from repsim_nb.streaming import Estimate, estimate, readable_size
from repsim_nb.widgets.code import CodeButton
from repsim_nb.widgets.corpora import CorpusPicker
from repsim_nb.widgets.details import Closeup, StitchPanel, look, run_stitch
from repsim_nb.widgets.guard import Alert
from repsim_nb.widgets.job import Job
from repsim_nb.widgets.layers import LayerPicker
from repsim_nb.widgets.map import LayerMap, in_words
from repsim_nb.widgets.measures import MeasurePicker
from repsim_nb.widgets.models import ModelPicker, described, needs_download
from repsim_nb.widgets.picker import Frame
from repsim_nb.widgets.picture import empty, inline_svg
from repsim_nb.widgets.question import Kept, Question, answer, as_commands, as_python

if TYPE_CHECKING:
    import xarray as xr

PICKED = ("value", "params", "split", "rows", "n_rows", "seed")  # traits of pickers that a run depends on
IDLE, RUNNING, DONE, CANCELLED, FAILED = "idle", "running", "done", "cancelled", "failed"


class Explorer(widgets.VBox):
    """Pickers, the map, and linked views of what lies behind the cell that is selected.

    Nothing runs and nothing is downloaded before `Run` is pressed, or `run()` called.

    Args:
        model_a: name of a model, compared with each of `models_b` (a name or several; the same name compares it with
            itself).
        corpus, split, measure, rows, n_rows, seed, layers_a, layers_b, params: as in `compare` and `load_corpus`.
        uncertainty: with null and interval.

    Attributes:
        model_a, models_b, layers_a, layers_b, measure, corpus: the pickers, each with a trait `value`.
        status: trait, "idle", "running", "done", "cancelled" or "failed".
        error: trait, what the widget says went wrong; "" while all is well.
        selected: trait, (layer of a, layer of b) or None.
        against: trait, that of models_b whose map is in focus.
        results: model -> what `compare` returned.

    Raises:
        InputError: an unknown model, measure, corpus or parameter; layers that do not exist.
    """

    status = traitlets.Unicode(IDLE)
    error = traitlets.Unicode("")
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
        self.results: dict[str, xr.DataArray] = {}
        self._asked: Question | None = None  # what `results` answers
        self._kept = Kept()
        self._jobs: dict[str, Job] = {}
        self._displayed = self._marking = False
        self._wanted: tuple[str, tuple[int, int] | None] | None = None  # to be selected after the next run
        self._maps: dict[str, LayerMap] = {}

        self.model_a = ModelPicker(model_a, title="Model A")
        self.models_b = ModelPicker(models_b, multiple=True, title="Model B, one or several")
        self.layers_a, self.layers_b = LayerPicker(title="Layers of A"), LayerPicker(title="Layers of B")
        self.measure = MeasurePicker(measure, **params)
        self.corpus = CorpusPicker(corpus, split=split, n_rows=n_rows, seed=seed, rows=rows)
        self.uncertainty = widgets.Checkbox(
            uncertainty,
            description="null and interval",
            tooltip="Compare with unrelated documents, and leave documents out in turn; takes longer",
            indent=False,
        )
        self._renumber()
        self.layers_a.value, self.layers_b.value = layers_a, layers_b

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
        self._map_box, self._curves = widgets.HBox(), widgets.HTML()
        self._map_box.add_class("repsim-maps")
        self._curves.add_class("repsim-curves")
        self._pair = widgets.HTML()
        self._pair.add_class("repsim-pair")
        self._closeup = Closeup()
        self._stitch = StitchPanel(self._start_stitch)
        self._code = CodeButton(
            label="Copy as code", css_class="repsim-code-button", hint="Python that gives what is shown"
        )
        self._command = CodeButton(
            label="Run as notebook", css_class="repsim-command-button", hint="Commands that give what is shown"
        )
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
        return Question(
            self.model_a.value,
            self.models_b.value,
            self.measure.value,
            dict(self.measure.params),
            self.corpus.value,
            self.corpus.split,
            self.corpus.rows,
            self.corpus.n_rows,
            self.corpus.seed,
            self.layers_a.value,
            self.layers_b.value,
            self.uncertainty.value,
        )

    @property
    def result(self) -> xr.DataArray | None:
        """What `compare` returned for the map in focus; None before the first run."""
        return self.results.get(self.against)

    @property
    def code(self) -> str:
        """Python that gives the results and the close-up shown; of what the pickers ask before the first run."""
        question = self._asked or self.question
        return as_python(question, self.against or question.models_b[0], self.selected)

    @property
    def command(self) -> str:
        """The same as commands for a shell."""
        return as_commands(self._asked or self.question, self.state)

    def run(self) -> xr.DataArray:
        """Compare, wait, and return the result of the map in focus.

        Raises:
            InputError: or whatever else stood in the way; the widget shows it as well.
        """
        self.start()
        self.wait()
        if self.alert.error is not None:
            raise self.alert.error
        result = self.result
        if result is None:
            raise InputError("The run was cancelled before there was a result. Run it again.")
        return result

    def start(self) -> None:
        """What the Run button does: compare in the background. A run that is under way is given up."""
        self.alert.clear()
        self.error = ""
        with self._guard():
            question = self.question
            self._give_up("trial", "look", "stitch")
            began = time.perf_counter()

            def done(found: dict[str, xr.DataArray], said: list[str]) -> None:
                with self._guard():
                    self._take(question, found)
                    notes = " ".join(said)
                    self._say(f"Done in {time.perf_counter() - began:.1f} s. {notes}")
                    self.status = DONE

            def failed(error: Exception) -> None:
                self.status = FAILED
                self._say("")
                self._fail(error)

            self.status = RUNNING
            self._say("Starting")
            self._job("run", lambda: {b: answer(question, b, self._kept) for b in question.models_b}, done, failed)

    def cancel(self) -> None:
        """Stop a run, a stitch or a close-up that is under way; what was found before stays."""
        running = self.status == RUNNING
        self._give_up("run", "look", "stitch")
        if running:
            self.status = CANCELLED
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
        return self.question.to_json(against=self.against, selected=list(self.selected) if self.selected else None)

    @state.setter
    def state(self, text: str) -> None:
        question, more = Question.from_json(text)
        before = self.question
        try:
            self._choose(question)
        except Exception:
            self._choose(before)
            raise
        selected = more.get("selected")
        self._wanted = more.get("against") or "", tuple(selected) if selected else None

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
            folder: made if it is missing; None is the folder of the present run, as notebooks use it.

        Returns:
            The files written.

        Raises:
            InputError: nothing has been run, or a folder that cannot be written to.
        """
        if not self.results:
            raise InputError("There is nothing to export yet. Run a comparison first.")
        place = output_dir() if folder is None else Path(folder).expanduser()
        stems = []
        for b, result in self.results.items():
            a, title = result.attrs["model_a"], result.attrs["long_name"]
            stem = f"{result.name}--{a}--{b}".replace("/", "_")
            figure = heatmap(result, empty(4.6, 3.8))
            caption = f"{title} of every layer of {a} (rows) and {b} (columns), {result.attrs['n_rows']:,} rows."
            save_figure(figure, stem, caption, place)
            save_table(result, stem, place)
            stems.append(stem)
        return sorted(file for stem in stems for file in place.glob(f"{glob.escape(stem)}.*"))

    def _choose(self, q: Question) -> None:
        """Set all pickers."""
        self.model_a.value, self.models_b.value = q.model_a, q.models_b
        self.layers_a.value, self.layers_b.value = q.layers_a, q.layers_b
        self.measure.value = q.measure
        self.measure.params = q.params
        self.corpus.value, self.corpus.split, self.corpus.rows = q.corpus, q.split, q.rows
        self.corpus.n_rows, self.corpus.seed = q.n_rows, q.seed
        self.uncertainty.value = q.uncertainty

    # Inside: callbacks, all of them under the guard.

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with self.alert.guarding():
            yield
        if self.alert.error is not None:
            self.error = self.alert.text

    def _fail(self, error: Exception) -> None:
        self.alert.show(error)
        self.error = self.alert.text

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

        self._jobs[name] = Job(work, done, failed or self._fail, step)
        self._jobs[name].start()

    def _give_up(self, *names: str) -> None:
        for name in names:
            if name in self._jobs:
                self._jobs[name].give_up()

    def _say(self, text: str) -> None:
        self._said.value = f'<div role="status">{escape(text)}</div>'

    def _connect(self) -> None:
        pickers = (self.model_a, self.models_b, self.layers_a, self.layers_b, self.measure, self.corpus)
        for picker in pickers:
            picker.observe(self._changed, [n for n in picker.trait_names() if n in PICKED])
        self.uncertainty.observe(self._changed, "value")
        self._run.on_click(lambda _: self.start())
        self._cancel.on_click(lambda _: self.cancel())
        self._export.on_click(lambda _: self._export_here())
        self._restore.on_click(lambda _: self._restore_here())

    def _changed(self, change: Any = None) -> None:
        """Something was picked: say what a run would take, and keep the texts to take away up to date."""
        with self._guard():
            if change is not None and change.owner in (self.model_a, self.models_b):
                self._renumber()
            self._tell_cost(None)
            self._refresh()
            if self._displayed:
                self._try()

    def _renumber(self) -> None:
        """Layers to choose from are those of A, and those of the shallowest B, as far as they are known."""
        for picker, names in ((self.layers_a, self.model_a.names), (self.layers_b, self.models_b.names)):
            depths = [described(name).get("n_layers") or self._kept.depth(name) for name in names]
            if any(depths):
                picker.n_layers = min(int(depth) for depth in depths if depth)

    def _refresh(self) -> None:
        self._code.text, self._command.text = self.code, self.command
        self._state.value = self.state

    def _tell_cost(self, seconds: float | None) -> None:
        """Rows and bytes from what the catalogue says, seconds from a trial."""
        q, known = self.question, self._bytes()
        parts = [f"{q.n_rows:,} rows", f"{readable_size(known)} in memory" if known else "bytes known after loading"]
        downloads = [name for name in dict.fromkeys((q.model_a, *q.models_b)) if needs_download(name)]
        if downloads:
            parts.append(f"downloads {', '.join(downloads)}")
        elif all(self._kept.holds(q, b) for b in q.models_b):
            parts.append("extracted already")
        else:
            parts.append("seconds: trying" if seconds is None else f"about {max(1, round(seconds))} s")
        if q.uncertainty:
            parts.append("and the time for null and interval")
        self._estimate.value = f'<span class="repsim-note">{escape(" · ".join(parts))}</span>'

    def _bytes(self) -> int | None:
        q, total = self.question, 0
        for b in q.models_b:
            about = [described(q.model_a), described(b)]
            if not all("d_model" in row for row in about):
                return None
            layers = [len(self.layers_a.positions), len(self.layers_b.positions)]
            total += sum(4 * q.n_rows * int(row["d_model"]) * n for row, n in zip(about, layers, strict=True))
        return total

    def _try(self) -> None:
        """Run a little of it in the background to see how long all will take; nothing is downloaded for that."""
        q = self.question
        elsewhere = any(needs_download(name) for name in (q.model_a, *q.models_b))
        if elsewhere or self.status == RUNNING or all(self._kept.holds(q, b) for b in q.models_b):
            return

        def work() -> list[Estimate]:
            tried = []
            for b in q.models_b:
                models = self._kept.models(q, b)
                layers = {"layers_a": q.layers("a"), "layers_b": q.layers("b")}
                how = {"rows": q.rows, "n_rows": q.n_rows, "seed": q.seed, **layers, **q.params}
                other = models[1] if len(models) == 2 else None
                tried.append(estimate(models[0], other, q.text(), q.measure, **how))
            return tried

        def done(tried: list[Estimate], said: list[str]) -> None:
            with self._guard():
                self._tell_cost(sum(one.seconds or 0.0 for one in tried))

        self._job("trial", work, done, lambda error: None)  # the run itself will say what is wrong

    def _take(self, question: Question, found: dict[str, xr.DataArray]) -> None:
        """Show new results, all on one scale."""
        before, against = self.selected, self.against
        self.results, self._asked = found, question
        every = [limits_of(result) for result in found.values()]
        limits = min(low for low, _ in every), max(high for _, high in every)
        self._maps = {b: LayerMap(result, limits) for b, result in found.items()}
        for b, layer_map in self._maps.items():
            layer_map.observe(lambda change, b=b: self._select_cell(b, change.new), "selected")
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            against, before = wanted
        self.against = against if against in found else question.models_b[0]
        self.selected = None
        self.selected = before if before is not None and self._exists(before) else None
        if self.selected is None:
            self._draw_curves()
        self._renumber()
        self._refresh()
        self._tell_cost(None)
        self._map_box.children = tuple(self._maps.values())  # last: from now on it can be clicked on

    def _exists(self, pair: tuple[int, int]) -> bool:
        result = self.result
        return result is not None and pair[0] in result.layer_a.values and pair[1] in result.layer_b.values

    def _draw_curves(self) -> None:
        """The layers that models share, or the selected layer of A against all of B."""
        ax, result = empty(3.9, 3.2), self.result
        if self.selected is not None and result is not None:
            curves(result, ax, layer_a=self.selected[0])
            ax.set_title("")  # the card says it
            ax.axvline(self.selected[1], color="0.5", linewidth=0.8, zorder=0)
            about = f"Layer {self.selected[0]} of A against every layer of B; the line marks the selected one."
        else:
            shared = [r for r in self.results.values() if set(r.layer_a.values) & set(r.layer_b.values)]
            for one in shared:
                curves(one, ax, label=None if len(shared) == 1 else str(one.attrs["model_b"]))
            about = "Each layer of A against the layer of B with the same number." if shared else ""
        ax.set_ylabel(ax.get_ylabel().split("\n")[0])
        picture = f'{inline_svg(ax, about)}<p class="repsim-note">{about}</p>' if about else ""
        self._curves.value = f'<h3 class="repsim-h3">Layer by layer</h3>{picture}' if about else ""

    @traitlets.validate("selected")
    def _valid_selected(self, proposal: Any) -> tuple[int, int] | None:
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
        if self.results and proposal["value"] not in self.results:
            raise unknown("model on the side of b", proposal["value"], self.results)
        return proposal["value"]

    def _select_cell(self, b: str, cell: list[int]) -> None:
        """A cell was clicked on or walked to."""
        with self._guard():
            if cell and not self._marking:
                result = self.results[b]
                pair = int(result.layer_a[cell[0]]), int(result.layer_b[cell[1]])
                self.against, self.selected = b, pair

    @traitlets.observe("against")
    def _turn_away(self, change: Any) -> None:
        self.selected = None

    @traitlets.observe("selected")
    def _show_pair(self, change: Any) -> None:
        with self._guard():
            self._give_up("look", "stitch")
            self._mark()
            self._closeup.clear()
            self._refresh()
            if self._maps:
                self._draw_curves()
            self._details.layout.display = "none" if self.selected is None else ""
            if self.selected is None or self.result is None or self._asked is None:
                self._pair.value = ""
                return
            a, b = self._labels()
            self._stitch.reset(a, b)
            cell = self.result.sel(layer_a=self.selected[0], layer_b=self.selected[1])
            self._pair.value = (
                f'<h2 class="repsim-h2">{escape(a)} <span class="repsim-and">against</span> {escape(b)}</h2>'
                f'<p class="repsim-lead">{escape(str(self.result.attrs["long_name"]))}: {escape(in_words(cell))}</p>'
            )
            self._look(self._asked, self.against, self.selected)

    def _look(self, question: Question, b: str, selected: tuple[int, int]) -> None:
        if not self._kept.holds(question, b):
            self._closeup.points.value = (
                '<p class="repsim-note">Activations of this size are not kept, so there is no close-up. '
                "Choose fewer rows or layers.</p>"
            )
            return
        labels = self._labels()

        def done(found: Any, said: list[str]) -> None:
            with self._guard():
                self._closeup.show(labels, *found)

        self._job("look", lambda: look(question, b, selected, self._kept), done)

    def _labels(self) -> tuple[str, str]:
        assert self.selected is not None
        assert self._asked is not None
        return f"{self._asked.model_a}, layer {self.selected[0]}", f"{self.against}, layer {self.selected[1]}"

    def _mark(self) -> None:
        """Show in the maps which cell is selected."""
        self._marking = True
        try:
            for b, layer_map in self._maps.items():
                cell: list[int] = []
                if self.selected is not None and b == self.against:
                    result = self.results[b]
                    layers = [result[f"layer_{side}"].values.tolist() for side in "ab"]
                    cell = [at.index(layer) for at, layer in zip(layers, self.selected, strict=True)]
                layer_map.selected = cell
        finally:
            self._marking = False

    def _start_stitch(self, how: dict[str, Any]) -> None:
        """Stitch the selected pair in the background."""
        self.alert.clear()
        self.error = ""
        with self._guard():
            question, b, selected = self._asked, self.against, self.selected
            if question is None or selected is None:
                raise InputError("Select a cell of the map first: its layers are stitched.")

            def done(stitched: Any, said: list[str]) -> None:
                with self._guard():
                    self._stitch.show(stitched)
                    self._say("Stitched.")

            self._say("Stitching")
            self._job("stitch", lambda: run_stitch(question, b, selected, self._kept, how), done)

    @traitlets.observe("status")
    def _show_status(self, change: Any) -> None:
        running = self.status == RUNNING
        self._run.disabled, self._cancel.disabled = running, not running
        self._progress.value = 0.0 if running else self._progress.value
        self._progress.layout.display = "" if running else "none"

    def _export_here(self) -> None:
        self.alert.clear()
        with self._guard():
            files = self.export(self._folder.value.strip() or None)
            self._say(f"Wrote {len(files)} files to {files[0].parent}.")

    def _restore_here(self) -> None:
        self.alert.clear()
        with self._guard():
            self.state = self._state.value
            self._say("Restored. Press Run.")

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if not self._displayed:
            self._displayed = True
            with self._guard():
                self._try()
        return super()._repr_mimebundle_(**kwargs)

    def _laid_out(self) -> list[widgets.Widget]:
        """Top to bottom, which is the order under the Tab key."""
        setup = _box(
            "repsim-setup",
            *_columns(
                [self.model_a, self.layers_a],
                [self.models_b, self.layers_b],
                [self.measure, self.uncertainty],
                [self.corpus],
            ),
        )
        bar = _box("repsim-bar", self._run, self._cancel, self._progress, self._said, self._estimate)
        self._details = _box(
            "repsim-details",
            self._pair,
            _box("repsim-panels", self._closeup.points, self._closeup.tokens, self._stitch),
        )
        self._details.layout.display = "none"
        self._folder = widgets.Text(
            description="folder", placeholder="results of this notebook", tooltip="Where files are written"
        )
        self._folder.add_class("repsim-folder")
        self._export = widgets.Button(description="Export", tooltip="Figure as SVG and PNG, numbers as CSV and NetCDF")
        self._export.add_class("repsim-export-button")
        self._state = widgets.Text(
            description="state", tooltip="All that is chosen, as one line: copy it to save, paste one to restore"
        )
        self._state.add_class("repsim-state-text")
        self._restore = widgets.Button(description="Restore", tooltip="Choose what the saved state says")
        self._restore.add_class("repsim-restore-button")
        take_away = _box(
            "repsim-actions", self._code, self._command, self._folder, self._export, self._state, self._restore
        )
        self._progress.layout.display = "none"
        return [
            Frame("Explorer"),
            setup,
            bar,
            self.alert,
            _box("repsim-results", self._map_box, self._curves),
            self._details,
            take_away,
        ]


def _box(name: str, *children: widgets.Widget) -> widgets.Box:
    box = widgets.Box(children)
    box.add_class(name)
    return box


def _columns(*columns: list[widgets.Widget]) -> list[widgets.VBox]:
    made = [widgets.VBox(column) for column in columns]
    for column in made:
        column.add_class("repsim-card")
    return made
