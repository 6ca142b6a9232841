"""What rows per document cost and what they tell: width of the interval against tokens run.

    python -m tests.benchmarks.bench_rows_per_document [--real] [--out docs/rows_per_document.csv]

The same number of rows is drawn from ever fewer documents: 1, 2, 4, 8, 16 and 32 rows from each. Every position of the
text is run once; the rows of each draw are then taken from it, as `compare` would choose them. For each: the tokens
that a language model would run per row, the mean width of the 95% jackknife interval of debiased CKA over layer pairs
and draws, and the standard deviation of CKA over the draws. --real adds the pretrained models of the package index
on WikiText-2, where that lies beside the checkout (tests/support/realdata.py); that takes some ten minutes. --out
writes the table and, beside it, the figure of docs/cost.md.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import repsim_nb as rs
from repsim_nb.activations import Activations, Sampling
from repsim_nb.activations.extraction import Plan, plan_aligned
from repsim_nb.activations.selection import FewerRowsWarning
from repsim_nb.corpora import Corpus
from repsim_nb.models import Model
from tests.support.realdata import realdata

ROWS_PER_DOCUMENT = (1, 2, 4, 8, 16, 32)
DRAWS = 12
PLACE = ["sequence", "position"]


def curve(
    names: list[str], layers: list[list[int]], text: str, corpus: Corpus, n_rows: int, draws: int = DRAWS
) -> pd.DataFrame:
    """One line for each number of rows per document."""
    models = [rs.load_model(name) for name in names]
    everything = _all_rows(models, layers, corpus)
    lines = []
    for most in ROWS_PER_DOCUMENT:
        values, widths, tokens, documents, rows = [], [], [], [], []
        for seed in range(draws):
            sampling = Sampling(corpus, n_rows=n_rows, rows_per_document=most, seed=seed)
            plans = plan_aligned(models, layers, sampling)
            grid = rs.compare(
                *(_taken(acts, plan) for acts, plan in zip(everything, plans, strict=True)), interval=True
            )
            values.append(grid.values)
            widths.append(float((grid.high - grid.low).mean()))
            tokens.append(plans[0].tokens() / len(plans[0]))
            documents.append(plans[0].rows.document.nunique())
            rows.append(len(plans[0]))
        lines.append(
            {
                "models": " and ".join(names),
                "text": text,
                "rows": np.mean(rows),
                "rows_per_document": most,
                "documents": np.mean(documents),
                "tokens_per_row": np.mean(tokens),
                "interval_width": np.mean(widths),
                "sd_over_draws": np.std(values, axis=0, ddof=1).mean(),
            }
        )
    return pd.DataFrame(lines)


def _all_rows(models: list[Model], layers: list[list[int]], corpus: Corpus) -> list[Activations]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewerRowsWarning)
        return rs.extract_aligned(models, corpus, layers, n_rows=10**8)


def _taken(everything: Activations, plan: Plan) -> Activations:
    """The rows of a plan, from those of all positions."""
    places = pd.MultiIndex.from_frame(everything.rows[PLACE])
    index = places.get_indexer(pd.MultiIndex.from_frame(plan.rows[PLACE]))
    assert (index >= 0).all()
    return Activations({layer: x[index] for layer, x in everything.items()}, plan.rows, plan.provenance)


def wikitext(documents: int) -> Corpus:
    """So many paragraphs of WikiText-2, drawn at random."""
    lines = realdata("wikitext2_valid.txt").read_text(encoding="utf-8").splitlines()
    paragraphs = [line for line in lines if line.strip() and not line.startswith(" =")]
    chosen = np.sort(np.random.default_rng(0).choice(len(paragraphs), documents, replace=False))
    return rs.load_corpus([paragraphs[i] for i in chosen])


def draw(table: pd.DataFrame, file: Path) -> None:
    """Width of the interval against tokens run, both relative to one row per document."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    figure, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    colours = sns.color_palette("colorblind")
    for (names, of), colour, marker in zip(table.groupby(["models", "text"], sort=False), colours, "osD", strict=False):
        cost, width = (of[column] / of[column].iloc[0] for column in ("tokens_per_row", "interval_width"))
        ax.plot(cost, width, marker=marker, color=colour, label=f"{names[0]}\n{names[1]}, {of.rows.iloc[0]:,.0f} rows")
    for each, x, y in zip(of.rows_per_document, cost, width, strict=True):
        ax.annotate(str(each), (x, y), (3, 6), textcoords="offset points", fontsize="small", color=colour)
    ax.set_xscale("log")
    ax.set_xticks([0.05, 0.1, 0.2, 0.5, 1], ["1/20", "1/10", "1/5", "1/2", "1"])
    ax.minorticks_off()
    ax.set(xlabel="tokens run, relative to one row per document", ylabel="width of the 95% interval, relative")
    ax.legend(frameon=False, fontsize="x-small")
    sns.despine(figure)
    plt.rcParams["svg.hashsalt"] = "repsim-nb"
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    python = rs.load_corpus("python-docs")
    jobs = [
        (["tiny-neox-w64-d4", "tiny-neox-w32-d4"], [[1, 2, 3, 4]] * 2, "python-docs", python, 400),
        (["tiny-gelu-3l-s0", "tiny-solu-3l-s0"], [[1, 2, 3]] * 2, "python-docs", python, 400),
    ]
    if given.real:
        jobs.append(
            (["smollm2-135m", "minilm-l6"], [[5, 10, 20, 29], [1, 3, 6]], "WikiText-2 paragraphs", wikitext(512), 512)
        )
    table = pd.concat([curve(*job) for job in jobs], ignore_index=True)
    print(table.round(4).to_string())
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        table.round(5).to_csv(given.out, index=False)
        draw(table, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
