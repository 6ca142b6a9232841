"""Details of one cell of the map: both representations, the tokens they differ on, and a stitch on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from repsim_nb.comparison.closeup import SharedAxes, most_different, shared_axes
from repsim_nb.errors import InputError
from repsim_nb.figures import projection
from repsim_nb.models.positions import RESIDUAL
from repsim_nb.stitching import stitch
from repsim_nb.stitching.maps import MAPS
from repsim_nb.widgets.answer import Cache
from repsim_nb.widgets.picker import FULL
from repsim_nb.widgets.picture import empty, inline_svg
from repsim_nb.widgets.question import Question
from repsim_nb.widgets.views import Pair

if TYPE_CHECKING:
    import pandas as pd

    from repsim_nb.stitching.stitched import Stitched

PROMPT = "import numpy as"
WINDOWS = {"n_fit": 128, "n_report": 48}  # of text; enough for a first look within seconds


class Closeup:
    """Two panels, projection and tokens, for one pair of layers."""

    def __init__(self) -> None:
        self.points, self.tokens = widgets.HTML(), widgets.HTML()
        self.points.add_class("repsim-projection")
        self.tokens.add_class("repsim-tokens")

    def clear(self) -> None:
        """Show nothing."""
        self.points.value = self.tokens.value = ""

    def show(self, panels: Sequence[str]) -> None:
        """Show what `closeup_as_html` returned."""
        self.points.value, self.tokens.value = panels


def closeup_as_html(labels: tuple[str, str], rows: str, closeup: SharedAxes, tokens: pd.DataFrame) -> list[str]:
    """Both panels of what `look` found; `rows` are as in `extract`."""
    noun = "token" if rows == "tokens" else "document"
    name = f"{labels[0]} and {labels[1]} on shared axes, {closeup}"
    points = inline_svg(projection(closeup, empty(3.8, 3.5), labels=labels), name)
    return [
        f'<h3 class="repsim-h3">Both on shared axes</h3>{points}'
        '<p class="repsim-note">Procrustes: both centred and scaled, B rotated onto A; the axes are the '
        f"principal axes of both together. A line joins the same {noun}; shown are {closeup}.</p>",
        f'<h3 class="repsim-h3">{noun.capitalize()}s they differ on most</h3>'
        + _token_table(tokens, "token in its text" if noun == "token" else "end of the row in its document")
        + '<p class="repsim-note">Distance after the same alignment, in units of the typical length of a row; '
        f"of all {len(closeup.difference):,} rows.</p>",
    ]


def look(question: Question, b: str, selected: Pair, cache: Cache) -> tuple[SharedAxes, pd.DataFrame]:
    """The close-up of a pair of layers whose activations are kept, and the tokens that differ most."""
    pair: Sequence[Any] = cache.activations(question, b)
    if question.controls:
        pair, _ = question.controls.applied(*pair)
    closeup = shared_axes(pair[0][selected[0]], pair[-1][selected[1]], seed=question.sampling.seed)
    return closeup, most_different(closeup, cache.models(question, b)[0], pair[0], cache.text(question))


def _token_table(tokens: pd.DataFrame, title: str) -> str:
    lines = []
    for _, row in tokens.iterrows():
        before, token, after = (_visible(text) for text in (row.before[-18:], row.token, row.after[:14]))
        lines.append(
            f'<tr><td class="repsim-number">{row.difference:.2f}</td>'
            f'<td class="repsim-context" title="{escape(str(row.document))}">'
            f"<span>{before}</span><mark>{token}</mark><span>{after}</span></td></tr>"
        )
    head = f"<thead><tr><th>distance</th><th>{title}</th></tr></thead>"
    return f'<table class="repsim-table">{head}<tbody>{"".join(lines)}</tbody></table>'


def _visible(text: str) -> str:
    """Escape text for a page, showing line breaks and tabs as symbols."""
    return escape(text.replace("\n", "⏎").replace("\t", "→"))


class StitchPanel(widgets.VBox):
    """Stitch the selected layer of A into the selected layer of B; its button calls `run`."""

    def __init__(self, run: Callable[[], None]):
        self.map = widgets.Dropdown(
            options=list(MAPS), value="affine", description="map", tooltip="What joins the two models", layout=FULL
        )
        self.fit = widgets.Dropdown(
            options=[("least squares (seconds)", "least_squares"), ("gradient (slower, better)", "gradient")],
            description="fit",
            tooltip="How the map is fitted",
            layout=FULL,
        )
        self.prompt = widgets.Text(
            PROMPT,
            description="prompt",
            tooltip="Text that the three models continue",
            continuous_update=False,
            layout=FULL,
        )
        self.button = widgets.Button(description="Stitch", tooltip="Fit the map and show what it costs")
        self.button.add_class("repsim-stitch-run")
        self.found = widgets.HTML()
        self.found.add_class("repsim-stitch")
        self.heading = widgets.HTML()
        controls = widgets.VBox([self.map, self.fit, self.prompt, self.button])
        controls.add_class("repsim-controls")
        super().__init__([self.heading, controls, self.found])
        self.button.on_click(lambda _: run())
        self.reset("", "")

    def reset(self, sender: str, receiver: str) -> None:
        """Start with another pair, and clear the result of the last one."""
        self.found.value = ""
        pair = f": {escape(sender)} into {escape(receiver)}" if sender else ""
        self.heading.value = f'<h3 class="repsim-h3">Stitching{pair}</h3>'

    def arguments(self) -> dict[str, Any]:
        """Return the chosen arguments of `stitch`.

        Raises
        ------
        InputError
            There is no prompt, which would otherwise be noticed only after the fit.
        """
        if not self.prompt.value.strip(" /"):
            raise InputError("The prompt is empty. Write some text for the models to continue.")
        return {**WINDOWS, "map": self.map.value, "fit": self.fit.value}

    def show(self, stitched: Stitched, given: str) -> None:
        """Show what stitching costs, on which text, and what the three models predict after the prompt `given`."""
        corpora = stitched.ground.corpora
        report = corpora["report"]
        unseen = ", none of which the map was fitted on" if "fit" in corpora else ""
        low, high = stitched.interval()
        units = stitched.ground.task.units
        prompt = given if stitched.receiver.kind == "causal" else _as_pair(given)
        self.found.value = (
            f'<p class="repsim-lead">{_cost(stitched.penalty, low, high, units)}</p>'
            f'<p class="repsim-note">{_recovered(stitched.recovered)} On {len(stitched.documents):,} documents of '
            f"{escape(report.name)} (split {escape(report.split)}){unseen}.</p>"
            f"{_predictions(stitched.predictions(prompt), given)}"
        )


def _cost(penalty: float, low: float, high: float, units: str) -> str:
    """The penalty and its interval as a sentence; a negative penalty is a gain."""
    penalty, low, high = (round(value, 2) + 0.0 for value in (penalty, low, high))  # no "-0.00"
    which = "worse"
    if penalty < 0:
        penalty, low, high, which = -penalty, -high, -low, "better"
    return (
        f"The stitched model is <b>{penalty:.2f} {units}</b> {which} than the receiver alone "
        f"(95% interval {low:.2f} to {high:.2f})."
    )


def _recovered(share: float) -> str:
    """The share of the loss that is recovered as a sentence."""
    if share < 0:
        return "This is worse than feeding the receiver its mean activation."
    return (
        f"The sender recovers {share:.0%} of the loss. 0% is no better than feeding the receiver its mean activation; "
        "100% is no penalty."
    )


def _as_pair(prompt: str) -> tuple[str, str]:
    """Premise and hypothesis, separated by a slash; without one, the prompt is both."""
    first, _, second = prompt.partition("/")
    return first.strip(), second.strip() or first.strip()


def _predictions(table: pd.DataFrame, prompt: str) -> str:
    """Predictions of sender, receiver and stitched model, side by side."""
    if table.columns.nlevels == 1:  # of classifiers: labels x models
        head = "".join(f"<th>{escape(str(c))}</th>" for c in table.columns)
        body = "".join(
            f"<tr><th>{escape(str(label))}</th>{''.join(f'<td>{v:.1%}</td>' for v in row)}</tr>"
            for label, row in zip(table.index, table.to_numpy(), strict=True)
        )
        head = f"<th></th>{head}"
    else:
        models = list(dict.fromkeys(table.columns.get_level_values(0)))
        head = "".join(f"<th>{escape(str(m))}</th>" for m in models)
        body = "".join(
            "<tr>"
            + "".join(
                f"<td><code>{_visible(str(row[m, 'token']))}</code> <small>{row[m, 'probability']:.1%}</small></td>"
                for m in models
            )
            + "</tr>"
            for _, row in table.iterrows()
        )
    return (
        f'<table class="repsim-table"><caption>After “{escape(prompt)}”</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def run_stitch(question: Question, b: str, selected: Pair, cache: Cache, how: dict[str, Any]) -> Stitched:
    """Stitch layer selected[0] of a into layer selected[1] of b.

    If the corpus has splits, `stitch` uses its own for fitting and for reporting.

    Raises
    ------
    InputError
        The map is of another site than the residual stream, or `stitch` refuses.
    """
    site = question.sampling.site
    if site != RESIDUAL:
        raise InputError(f"Models are stitched at the residual stream; this map is of {site}. Ask for resid_post.")
    return stitch(
        cache.model(question.model_a),
        cache.model(b),
        selected[0],
        question.corpus if question.named else cache.text(question),
        into=selected[1],
        seed=question.sampling.seed,
        **how,
    )
