"""What a run would take, before it is started; nothing is downloaded to find out."""

from __future__ import annotations

from dataclasses import replace

from repsim_nb.comparison.cost import estimate
from repsim_nb.corpora.corpus import hub_id
from repsim_nb.models.positions import RESIDUAL
from repsim_nb.system.memory import readable_size
from repsim_nb.widgets.answer import Kept, sides
from repsim_nb.widgets.model_picker import described, needs_download
from repsim_nb.widgets.question import Question, changed
from repsim_nb.widgets.work import Work


class Forecast:
    """Says in the bar what a run would take and, tried in the background, how long."""

    def __init__(self, work: Work, kept: Kept):
        self._work, self._kept = work, kept

    def tell(self, question: Question, time: str = "") -> None:
        """What is known without trying; a trial that is under way is given up."""
        self._work.give_up("trial")
        self._say(question, time)

    def try_out(self, question: Question) -> None:
        """Run a little of it, where that would tell more."""
        if not worth_trying(question, self._kept):
            return

        def done(seconds: float, said: list[str]) -> None:
            self._say(question, f"about {max(1, round(seconds))} s")

        def failed(error: Exception) -> None:  # the run itself will say why
            self._say(question, "time not known")

        self._say(question, "seconds: trying")
        self._work.start("trial", lambda: seconds(question, self._kept), done, failed, quiet=True)

    def _say(self, question: Question, time: str) -> None:
        self._work.bar.tell_cost(in_words(question, self._kept, time))


def in_words(question: Question, kept: Kept, time: str = "") -> str:
    """Rows, bytes and the time, as far as that is known of it."""
    q, known = question, activation_bytes(question)
    parts = [
        f"{q.sampling.n_rows:,} rows",
        f"{readable_size(known)} of activations" if known else "bytes known after loading",
    ]
    downloads, unread = downloaded(q), unread_dataset(q, kept)
    if downloads:
        parts.append(f"downloads {', '.join(downloads)}")
    if unread:
        parts.append(f"reads {unread}")
    if not downloads and not unread:  # how long those take is not known before
        parts.append("extracted already" if all(kept.holds(q, b) for b in q.models_b) else time)
    if q.uncertainty.resampled:
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
        for side, name in [("b", b)] if q.same_sides(b) else [("a", q.model_a), ("b", b)]:
            about, layers = described(name), q.layers(side)
            if "d_model" not in about:
                return None
            whole = int(about["n_layers"]) + (q.sampling.site == RESIDUAL)  # which alone has a layer 0
            n = whole if isinstance(layers, str) else len(layers)
            total += 4 * q.sampling.n_rows * int(about["d_model"]) * n
    return total


def worth_trying(question: Question, kept: Kept) -> bool:
    """Whether a trial would say more, and download nothing."""
    if downloaded(question) or unread_dataset(question, kept):
        return False
    return not all(kept.holds(question, b) for b in question.models_b)


def seconds(question: Question, kept: Kept) -> float:
    """Run a little of it to see how long all will take, null and interval apart."""
    q, text = question, kept.text(question)
    resources = changed(replace(kept.resources, store=None))  # an estimate is of a run that finds nothing there
    total = 0.0
    for first, second in (sides(kept.models(q, b)) for b in q.models_b):
        total += estimate(first, second, text, q.configured, trial=True, **q.options, **resources).seconds or 0.0
    return total
