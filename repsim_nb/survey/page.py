"""The Markdown page with the survey table."""

from __future__ import annotations

from collections.abc import Sequence

TITLES = {
    "AutoModelForCausalLM": "Causal language models",
    "AutoModelForMaskedLM": "Masked language models",
    "AutoModelForSequenceClassification": "Sequence classifiers",
    "AutoModel": "Text encoders without a head",
    "AutoModelForTextEncoding": "Text encoders that are part of another model",
}
TEXT = """\
# What loads

<!-- Written by `make survey`; change repsim_nb/survey/page.py instead. -->

`repsim_nb.load_model` takes any model that transformers can load as a causal language model, a masked language model, a
text encoder or a sequence classifier, if its layers can be read and run one by one. This page lists every architecture
that transformers {version} offers for these tasks and what happens to it here: **{right} are right**,
{refused} are refused with a reason, and {unbuilt} cannot be built in this survey. None of them loads and then gives
different numbers from transformers.

In Python the table is `repsim_nb.models.architectures()`.

## How it is made

Each architecture is built small (6 layers, width 32, random weights, float32) from its config, and loaded with
`load_model`. The reference values come from transformers alone: it runs the model on one text at a time and returns
`hidden_states` or, for models without them, what hooks on the blocks see. The last position is the one before the final
norm. Texts have 6 to 60 tokens, so the longer ones exceed the window of local attention. All of these must then agree
with the reference:

- every layer and the logits of each text alone;
- every layer that `extract` returns for several texts at once, of different and of equal lengths, for all tokens and
  for a few;
- `run(k, m)` for all positions k < m, for one text and for a batch of several.

An architecture is **right** when the largest deviation is below {tolerance:g} of the layer's standard deviation; the
table gives that deviation. If texts of different lengths would affect each other in a batch, the package runs them
separately, and the table says so. **Refused** means that `load_model` raises an error, for the reason given.
**Cannot be built here** means that the architecture cannot be built from a small config or needs something besides
text, so nothing is known about it.

A verdict holds for the default settings of an architecture and for the version of transformers above. Whatever the
table says, every model is checked when it is loaded. A model that passes but is not listed as right gives an
`UnsurveyedWarning`.

`make survey` rebuilds the table and this page, in about ten minutes on one idle core. It resumes after an
interruption.
"""


def page(rows: Sequence[dict[str, str]]) -> str:
    """Format the table as a Markdown page."""
    from repsim_nb.survey.judge import TOLERANCE

    count = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in {row["verdict"] for row in rows}}
    text = TEXT.format(
        version=", ".join(sorted({row["transformers"] for row in rows})),
        right=count.get("right", 0),
        refused=count.get("refused", 0),
        unbuilt=count.get("cannot be built here", 0),
        tolerance=TOLERANCE,
    )
    return "\n".join(
        [text, *(_section(title, [r for r in rows if r["auto_class"] == kind]) for kind, title in TITLES.items())]
    )


def _section(title: str, rows: Sequence[dict[str, str]]) -> str:
    """The section of one auto class."""
    lines = [f"## {title}", "", f"`{rows[0]['auto_class']}`" if rows else "", ""]
    lines += ["| architecture | model type | verdict | largest deviation | why |", "| --- | --- | --- | --- | --- |"]
    for row in sorted(rows, key=lambda row: row["architecture"].lower()):
        cells = (row["architecture"], row["model_type"], row["verdict"], row["deviation"], row["reason"])
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;').replace('<', '&lt;') for cell in cells)} |")
    return "\n".join([*lines, ""])
