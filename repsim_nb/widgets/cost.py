"""What a run would take, before it is started; nothing is downloaded to find out."""

from __future__ import annotations

from typing import Any

from repsim_nb.comparison.cost import estimate
from repsim_nb.corpora.corpus import hub_id
from repsim_nb.system.memory import readable_size
from repsim_nb.widgets.model_picker import described, needs_download
from repsim_nb.widgets.question import Kept, Question


def in_words(question: Question, kept: Kept, time: str = "") -> str:
    """Rows, bytes and the time, as far as that is known of it."""
    q, known = question, activation_bytes(question)
    parts = [f"{q.n_rows:,} rows", f"{readable_size(known)} of activations" if known else "bytes known after loading"]
    downloads, unread = downloaded(q), unread_dataset(q, kept)
    if downloads:
        parts.append(f"downloads {', '.join(downloads)}")
    if unread:
        parts.append(f"reads {unread}")
    if not downloads and not unread:  # how long those take is not known before
        parts.append("extracted already" if all(kept.holds(q, b) for b in q.models_b) else time)
    if q.uncertainty:
        parts.append("and the time for null and interval")
    return " · ".join(filter(None, parts))


def downloaded(question: Question) -> list[str]:
    """The models that a run would download."""
    return [name for name in dict.fromkeys((question.model_a, *question.models_b)) if needs_download(name)]


def unread_dataset(question: Question, kept: Kept) -> str | None:
    """The dataset on the hub that a run would read."""
    return None if kept.has_text(question) else hub_id(question.corpus)


def activation_bytes(question: Question) -> int | None:
    """Of all rows and layers in float32, from what the catalogue says; None for models that are not in it."""
    q, total = question, 0
    for b in q.models_b:
        same = b == q.model_a and q.layers_a == q.layers_b
        for side, name in [("b", b)] if same else [("a", q.model_a), ("b", b)]:
            about, layers = described(name), q.layers(side)
            if "d_model" not in about:
                return None
            n = int(about["n_layers"]) + 1 if isinstance(layers, str) else len(layers)
            total += 4 * q.n_rows * int(about["d_model"]) * n
    return total


def worth_trying(question: Question, kept: Kept) -> bool:
    """Whether a trial would say more, and download nothing."""
    if downloaded(question) or unread_dataset(question, kept):
        return False
    return not all(kept.holds(question, b) for b in question.models_b)


def seconds(question: Question, kept: Kept) -> float:
    """Run a little of it to see how long all will take, null and interval apart."""
    q, total = question, 0.0
    for b in q.models_b:
        models = kept.models(q, b)
        how: dict[str, Any] = {"rows": q.rows, "n_rows": q.n_rows, "seed": q.seed, **q.params}
        how |= {"layers_a": q.layers("a"), "layers_b": q.layers("b")}
        total += (
            estimate(
                models[0], models[1] if len(models) == 2 else None, kept.text(q), q.measure, trial=True, **how
            ).seconds
            or 0.0
        )
    return total
