"""The answer to a question, from models, texts and activations that are kept from one question to the next."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from repsim_nb.activations import Activations
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.cost import expected_bytes
from repsim_nb.comparison.layers import compare
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.corpora.corpus import hub_id
from repsim_nb.models import Model, load_model
from repsim_nb.models.shape import shape_of
from repsim_nb.system.resources import Resources
from repsim_nb.widgets.bounds import contained
from repsim_nb.widgets.question import Question, changed

if TYPE_CHECKING:
    import xarray as xr

KEPT_BYTES = 10**9
KEPT_MODELS = KEPT_TEXTS = 6


class Kept:
    """Models, texts and activations used lately, up to a number of each and of bytes; the oldest go first.

    Parameters
    ----------
    limit
        Bytes of activations that are kept.
    resources
        What finding an answer may use.
    """

    def __init__(self, limit: int = KEPT_BYTES, resources: Resources = Resources()):  # noqa: B008
        self.limit, self.resources = limit, resources
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._texts: OrderedDict[Any, tuple[Corpus, str]] = OrderedDict()  # with its hash
        self._pairs: OrderedDict[tuple[Any, ...], list[Activations]] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Of all activations that are kept."""
        return sum(t.nbytes for pair in self._pairs.values() for acts in pair for t in acts.values())

    def model(self, name: str) -> Model:
        """The model of this name, loaded unless it is kept."""
        if name not in self._models:
            self._models[name] = load_model(contained(name))
            while len(self._models) > KEPT_MODELS:
                self._models.popitem(last=False)
        self._models.move_to_end(name)
        return self._models[name]

    def text(self, question: Question, anew: bool = False) -> Corpus | None:
        """The corpus, loaded unless it is kept; `anew` reads files again, which may have changed, but no dataset."""
        q = question
        if q.corpus is None:
            return None
        if not self.has_text(q) or (anew and not hub_id(q.corpus)):
            corpus = load_corpus(contained(q.corpus) if isinstance(q.corpus, str) else q.corpus, q.split)
            self._texts[q.corpus, q.split] = corpus, corpus.sha256
            while len(self._texts) > KEPT_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end((q.corpus, q.split))
        return self._texts[q.corpus, q.split][0]

    def has_text(self, question: Question) -> bool:
        """Whether `text` would read nothing."""
        return question.corpus is None or (question.corpus, question.split) in self._texts

    def depth(self, name: str) -> int | None:
        """Layers of a model that is kept; None of others."""
        return self._models[name].n_layers if name in self._models else None

    def models(self, question: Question, b: str) -> list[Model]:
        """Both models; one where the same layers of one model are on both sides."""
        return [self.model(name) for name in ([b] if question.same_sides(b) else [question.model_a, b])]

    def activations(self, question: Question, b: str) -> list[Activations]:
        """One for each of `models`, at the same rows; extracted unless they are kept."""
        sampling, key = question.sampling.of(self.text(question)), self._key(question, b)
        if key not in self._pairs:
            models = self.models(question, b)
            layers = [question.layers("a"), question.layers("b")][: len(models)]
            self._pairs[key] = aligned(models, layers, sampling, self.resources)
            while self.nbytes > self.limit and len(self._pairs) > 1:
                self._pairs.popitem(last=False)
        self._pairs.move_to_end(key)
        return self._pairs[key]

    def holds(self, question: Question, b: str) -> bool:
        """Whether `activations` would extract nothing."""
        return self.has_text(question) and self._key(question, b) in self._pairs

    def _key(self, q: Question, b: str) -> tuple[Any, ...]:
        sha256 = None if q.corpus is None else self._texts[q.corpus, q.split][1]
        return (q.model_a, b, sha256, q.sampling.of(None), q.layers_a, q.layers_b)


def answers(question: Question, kept: Kept) -> dict[str, xr.DataArray]:
    """`answer` for every model on the side of b, of one text that is read once."""
    kept.text(question, anew=True)
    return {b: answer(question, b, kept) for b in question.models_b}


def answer(question: Question, b: str, kept: Kept) -> xr.DataArray:
    """What `compare` says of `question.model_a` and `b`, from activations that are kept where they fit in memory."""
    q, measure, models = question, question.configured, kept.models(question, b)
    layers = [m.positions(q.layers(side), q.sampling.site) for m, side in zip(models, "ab", strict=False)]
    shapes, sampling = [shape_of(model) for model in models], q.sampling.of(kept.text(q))
    cost = expected_bytes(shapes, layers, measure, sampling, q.uncertainty, q.controls, kept.resources)
    if cost.route == "stream":
        first, second = sides(models)
        return compare(first, second, kept.text(q), measure, **q.options, **changed(kept.resources))
    pair = kept.activations(q, b)
    uncertainty = q.uncertainty if q.uncertainty.resampled else replace(q.uncertainty, seed=0)  # which is of rows then
    how = changed(uncertainty, q.controls)
    first, second = sides(pair)
    return compare(first, second, measure=measure, memory_limit=cost.limit, **how)


def sides(found: list[Any]) -> tuple[Any, Any]:
    """As `compare` takes them: None for a second side that is the first."""
    return found[0], found[1] if len(found) == 2 else None
