"""Write a question as Python code and as shell commands that give the same answer."""

from __future__ import annotations

import shlex
from typing import Any

from repsim_nb.models import Packing
from repsim_nb.runs.command_options import COMPARISON, written
from repsim_nb.widgets.question import Question, changed

NOTEBOOK = "00_start_here"


def as_python(
    question: Question,
    against: str,
    selected: tuple[int, int] | None = None,
    stitched: dict[str, Any] | None = None,
    step: int | None = None,
) -> str:
    """Python code for the maps of the explorer and, for a selected pair of layers, its close-up.

    `stitched` holds the arguments of a stitch of that pair. Over training all steps are compared, and `step` is shown;
    None is the last one.
    """
    q, lines = question, ["import repsim_nb as rs", ""]
    corpus = repr(q.corpus)
    if isinstance(q.corpus, tuple) or q.split is not None:
        split = {} if q.split is None else {"split": q.split}
        texts = list(q.corpus) if isinstance(q.corpus, tuple) else q.corpus
        lines += [f"corpus = {called('rs.load_corpus', texts, **split)}", ""]
        corpus = "corpus"
    how = ({} if q.corpus is None else {"corpus": Code(corpus)}) | _measure(q) | q.options
    if q.over is None:
        lines += _maps(q, against, how)
    else:
        at = [*q.by_step][-1] if step is None else step
        lines += _maps_over_training(q, against, how, at)
        place, q = q.models_b.index(against), q.by_step[at]
        against = q.models_b[place]
    lines.append("ax = rs.figures.heatmap(result)")
    if selected is not None:
        lines += ["", *_closeup(q, against, selected, corpus)]
        if stitched is not None:
            text = repr(q.corpus) if q.named else corpus
            how = {"into": selected[1], "seed": q.sampling.seed, **stitched}
            lines.append(f"stitched = {called('rs.stitch', q.model_a, against, selected[0], Code(text), **how)}")
    return "\n".join(lines) + "\n"


def _maps(q: Question, against: str, how: dict[str, Any]) -> list[str]:
    """One comparison for each model B."""
    lines = ["results = {}"] if len(q.models_b) > 1 else []
    for b in q.models_b:
        models = [q.model_a] if b == q.model_a else [q.model_a, b]
        name = "result" if len(q.models_b) == 1 else f"results[{b!r}]"
        lines.append(f"{name} = {called('rs.compare', *models, **how)}")
    return lines + ([f"result = results[{against!r}]"] if len(q.models_b) > 1 else [])


def _maps_over_training(q: Question, against: str, how: dict[str, Any], step: int | None) -> list[str]:
    """One comparison for each step and model B."""
    pairs = {
        at: [(b, asked.model_a, name) for b, name in zip(q.models_b, asked.models_b, strict=True)]
        for at, asked in q.by_step.items()
    }
    lines = ["pairs = {  # training step: (model B, A at this step, B at this step)"]
    lines += [f"    {at}: {each!r}," for at, each in pairs.items()]
    call = called("rs.compare", Code("x"), Code("y"), **how)
    lines += ["}", f"results = {{(step, b): {call} for step, each in pairs.items() for b, x, y in each}}"]
    return [*lines, f"result = results[{step}, {against!r}]"]


def as_commands(question: Question, state: str) -> str:
    """Shell commands: the notebook with this state and, unless the corpus is a tuple of texts, the comparisons."""
    q = question
    lines = [f"repsim-nb run {NOTEBOOK} -p state {shlex.quote(state)}"]
    if not isinstance(q.corpus, tuple):
        for b in q.models_b:
            out = f"{q.model_a}--{b}.nc".replace("/", "_")
            lines.append(shlex.join(["repsim-nb", "compare", q.model_a, b, *_words(q), "--out", out]))
    return "\n".join(lines) + "\n"


class Code(str):
    """A piece of Python code whose repr is itself."""

    def __repr__(self) -> str:
        return str(self)


def called(function: str, *values: Any, **named: Any) -> Code:
    """The code of a function call, every value as Python code."""
    arguments = [*map(_python, values), *(f"{name}={_python(value)}" for name, value in named.items())]
    return Code(f"{function}({', '.join(arguments)})")


def _python(value: Any) -> str:
    if isinstance(value, Packing):
        return repr(value.kind) if value == Packing(value.kind) else called("rs.Packing", **changed(value))
    return repr(value)


def _measure(q: Question) -> dict[str, Any]:
    """The argument `measure`, if it is not the default."""
    if q.params:
        return {"measure": called("rs.get_measure", q.measure, **q.params)}
    return {} if q.measure == COMPARED.measure else {"measure": q.measure}


def _closeup(q: Question, b: str, selected: tuple[int, int], corpus: str) -> list[str]:
    models = [b] if q.same_sides(b) else [q.model_a, b]
    layers = [q.layers("a"), q.layers("b")][: len(models)]
    extracted = called("rs.extract_aligned", Code("models"), Code(corpus), layers, **changed(q.sampling))
    lines = [f"models = [rs.load_model(name) for name in {models!r}]", f"activations = {extracted}"]
    if q.controls:
        controls = called("rs.controls.Controls", **changed(q.controls))
        lines.append(f"activations, _ = {controls}.applied(*activations)")
    x, y = (Code(f"activations[{side}][{layer}]") for side, layer in zip((0, -1), selected, strict=True))
    tokens = [Code(name) for name in ("closeup", "models[0]", "activations[0]", corpus)]
    return [
        *lines,
        f"closeup = {called('rs.closeup.shared_axes', x, y, seed=q.sampling.seed)}",
        "points = rs.figures.projection(closeup)",
        f"tokens = {called('rs.closeup.most_different', *tokens)}",
    ]


def _words(q: Question) -> list[str]:
    """Options of `repsim-nb compare`."""
    words = [] if q.measure == COMPARED.measure else ["--measure", q.measure]
    for name, value in q.params.items():
        words += ["-p", name, written(value)]
    for name, text in {"corpus": q.corpus, "split": q.split}.items():
        words += [] if text is None else [f"--{name}", text]
    for name, value in q.options.items():
        words += (
            COMPARISON[name].words(value) if name in COMPARISON else [f"--{name.replace('_', '-')}", written(value)]
        )
    return words


COMPARED = Question("", ())  # the defaults of a question
