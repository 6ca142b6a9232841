"""Estimate what a run would take before it starts, without downloading anything."""

from __future__ import annotations

from dataclasses import replace

from repsim_nb.comparison.cost import estimate
from repsim_nb.corpora.opening import hub_id
from repsim_nb.models.positions import MLP_ACTIVATIONS, RESIDUAL
from repsim_nb.system.memory import readable_size
from repsim_nb.widgets.answer import Cache, sides
from repsim_nb.widgets.model_picker import described, needs_download
from repsim_nb.widgets.question import Question, changed
from repsim_nb.widgets.work import Work


class Forecast:
    """Shows in the bar what a run would take and, from a trial in the background, how long."""

    def __init__(self, work: Work, cache: Cache):
        self._work, self._cache = work, cache

    def tell(self, question: Question, time: str = "") -> None:
        """Show what is known without a trial; a running trial is stopped."""
        self._work.give_up("trial")
        self._say(question, time)

    def try_out(self, question: Question) -> None:
        """Run a small part, if that would tell more."""
        if not worth_trying(question, self._cache):
            return

        def done(seconds: float, said: list[str]) -> None:
            self._say(question, f"about {max(1, round(seconds))} s")

        def failed(error: Exception) -> None:  # the run itself will say why
            self._say(question, "time not known")

        self._say(question, "seconds: trying")
        self._work.start("trial", lambda: seconds(question, self._cache), done, failed, quiet=True)

    def _say(self, question: Question, time: str) -> None:
        self._work.bar.tell_cost(in_words(question, self._cache, time))


def in_words(question: Question, cache: Cache, time: str = "") -> str:
    """Rows, bytes and time, as far as they are known."""
    q, known = question, activation_bytes(question)
    parts = [
        f"{len(q.by_step)} training steps" if q.over else "",
        f"{q.sampling.n_rows:,} rows",
        f"{readable_size(known)} of activations" if known else "bytes known after loading",
    ]
    downloads, unread = downloaded(q), unread_dataset(q, cache)
    if downloads:
        parts.append(f"downloads {', '.join(downloads)}")
    if unread:
        parts.append(f"reads {unread}")
    if not downloads and not unread:  # their time is not known in advance
        parts.append("extracted already" if _all_held(q, cache) else time)
    if q.uncertainty.resampled:
        parts.append("and the time for null and interval")
    return " · ".join(filter(None, parts))


def downloaded(question: Question) -> list[str]:
    """The models that a run would download."""
    names = dict.fromkeys(name for q in question.by_step.values() for name in (q.model_a, *q.models_b))
    return [name for name in names if needs_download(name)]


def unread_dataset(question: Question, cache: Cache) -> str | None:
    """The dataset on the hub that a run would read."""
    return None if cache.has_text(question) else hub_id(question.corpus)


def activation_bytes(question: Question) -> int | None:
    """Bytes of all rows and layers in float32, from the catalogue; None for models that are not in it."""
    total = 0
    for q, b in [(asked, b) for asked in question.by_step.values() for b in asked.models_b]:
        for side, name in [("b", b)] if q.same_sides(b) else [("a", q.model_a), ("b", b)]:
            about, layers = described(name), q.layers(side)
            if "d_model" not in about or q.sampling.site == MLP_ACTIVATIONS:  # whose width it does not have
                return None
            whole = int(about["n_layers"]) + (q.sampling.site == RESIDUAL)  # the only site with a layer 0
            n = whole if isinstance(layers, str) else len(layers)
            total += 4 * q.sampling.n_rows * int(about["d_model"]) * n
    return total


def worth_trying(question: Question, cache: Cache) -> bool:
    """Whether a trial would say more, and download nothing."""
    if downloaded(question) or unread_dataset(question, cache):
        return False
    return not _all_held(question, cache)


def _all_held(question: Question, cache: Cache) -> bool:
    return all(cache.holds(q, b) for q in question.by_step.values() for b in q.models_b)


def seconds(question: Question, cache: Cache) -> float:
    """Run a small part to estimate the time of all, without null and interval."""
    q, text = question, cache.text(question)
    resources = changed(replace(cache.resources, store=None))  # the estimate is for a run that finds nothing stored
    steps, total = [*q.by_step.values()], 0.0
    for first, second in (sides(cache.models(steps[0], b)) for b in steps[0].models_b):
        total += estimate(first, second, text, q.configured, trial=True, **q.options, **resources).seconds or 0.0
    return total * len(steps)
