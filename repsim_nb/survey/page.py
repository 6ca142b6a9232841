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
that transformers {version} offers for these tasks, and what happens to it here: **{right} are right**,
{refused} are refused with a reason, and {unbuilt} cannot be built in this survey. None of them loads and gives other
numbers than transformers.

In Python the table is `repsim_nb.models.survey_table()`.

## How it is made

Each architecture is built small (6 layers, width 32, random weights, float32) from its config, and loaded with
`load_model`. What is right comes from transformers alone: the model is called with one text at a time, and its
`hidden_states` are kept, or what hooks on its blocks see where it lists none. The last position is the one before the
final norm. Texts have 6 to 60 tokens, so that they are longer than the window of local attention. Then all of these
must agree with it:

- every layer and the logits of each text alone;
- every layer that `extract` gives for several texts together, short and long ones and ones of equal length, for all
  tokens and for a few;
- `run(k, m)` for all positions k < m, of one text and of a batch of several.

An architecture is **right** when the largest deviation is below {tolerance:g} of the layer's standard deviation; the
table gives that deviation. Where texts of different lengths would change each other in a batch, the package runs them
apart and says so in the table. **Refused** means that `load_model` raises an error, with the reason given.
**Cannot be built here** means that the architecture does not come out of a small config or needs something besides
text, so that nothing is known about it.

A verdict holds for an architecture at its default settings and for the version of transformers above. Whatever the
table says, a model is checked when it is loaded. One that passes but is not listed as right gives an
`UnsurveyedWarning`.

`make survey` makes the table and this page again, in about ten minutes on one idle core. It resumes after an
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
