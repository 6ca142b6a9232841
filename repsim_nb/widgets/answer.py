"""Answer a question, from models, texts and activations that are kept from one question to the next."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from repsim_nb.activations import Activations
from repsim_nb.activations.extraction import aligned
from repsim_nb.comparison.cost import expected_bytes
from repsim_nb.comparison.layers import compare
from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.corpora.opening import hub_id
from repsim_nb.models import Model, load_model
from repsim_nb.models.shape import Shape, shape_of
from repsim_nb.system.progress import steps
from repsim_nb.system.resources import Resources
from repsim_nb.widgets.bounds import contained
from repsim_nb.widgets.question import Question, changed

if TYPE_CHECKING:
    import xarray as xr

ByStep = dict[int | None, dict[str, "xr.DataArray"]]  # training step -> model B -> map; None where there are no steps
KEPT_BYTES = 10**9
KEPT_MODELS = KEPT_TEXTS = 6


class Cache:
    """A cache of recently used models, texts and activations, limited in number and bytes; the oldest go first.

    Parameters
    ----------
    limit
        Most bytes of activations to keep.
    resources
        The resources that finding an answer may use.
    """

    def __init__(self, limit: int = KEPT_BYTES, resources: Resources = Resources()):  # noqa: B008
        self.limit, self.resources = limit, resources
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._shapes: dict[str, Shape] = {}  # of every model that was loaded
        self._texts: OrderedDict[Any, tuple[Corpus, str]] = OrderedDict()  # with its hash
        self._pairs: OrderedDict[tuple[Any, ...], list[Activations]] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of all activations kept."""
        return sum(t.nbytes for pair in self._pairs.values() for acts in pair for t in acts.values())

    def model(self, name: str) -> Model:
        """The model of this name, loaded if it is not in the cache."""
        if name not in self._models:
            self._models[name] = load_model(contained(name))
            self._shapes[name] = shape_of(self._models[name])
            while len(self._models) > KEPT_MODELS:
                self._models.popitem(last=False)
        self._models.move_to_end(name)
        return self._models[name]

    def text(self, question: Question, anew: bool = False) -> Corpus | None:
        """The corpus, loaded if it is not in the cache; `anew` rereads files, which may have changed, not datasets."""
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
        """Number of layers of a model in the cache; None for others."""
        return self._models[name].n_layers if name in self._models else None

    def shapes(self, question: Question, b: str) -> list[Shape]:
        """The shapes of `models`, which are loaded only if they have not been before."""
        names = self.names(question, b)
        if not self.holds(question, b):
            self.models(question, b)
        return [self._shapes[name] for name in names]

    @staticmethod
    def names(question: Question, b: str) -> list[str]:
        """Both models, or one if the same layers of one model are on both sides."""
        return [b] if question.same_sides(b) else [question.model_a, b]

    def models(self, question: Question, b: str) -> list[Model]:
        """The models of `names`."""
        return [self.model(name) for name in self.names(question, b)]

    def activations(self, question: Question, b: str) -> list[Activations]:
        """Activations of each of `models`, at the same rows; extracted if they are not in the cache."""
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


def answers(question: Question, cache: Cache) -> ByStep:
    """`answer` for every training step and every model B, on one text that is read once."""
    cache.text(question, anew=True)
    found: ByStep = {}
    asked = question.by_step
    for step in steps([*asked], "training step") if question.over else asked:
        named = zip(question.models_b, asked[step].models_b, strict=True)
        found[step] = {b: answer(asked[step], name, cache) for b, name in named}
    return found


def answer(question: Question, b: str, cache: Cache) -> xr.DataArray:
    """What `compare` returns for `question.model_a` and `b`, from cached activations if they fit in memory."""
    q, measure, shapes = question, question.configured, cache.shapes(question, b)
    layers = [s.positions(q.layers(side), q.sampling.site) for s, side in zip(shapes, "ab", strict=False)]
    sampling = q.sampling.of(cache.text(q))
    cost = expected_bytes(shapes, layers, measure, sampling, q.uncertainty, q.controls, cache.resources)
    if cost.route == "stream":
        first, second = sides(cache.models(q, b))
        return compare(first, second, cache.text(q), measure, **q.options, **changed(cache.resources))
    pair = cache.activations(q, b)
    uncertainty = q.uncertainty if q.uncertainty.resampled else replace(q.uncertainty, seed=0)  # which is of rows then
    how = changed(uncertainty, q.controls)
    first, second = sides(pair)
    return compare(first, second, measure=measure, memory_limit=cost.limit, **how)


def sides(found: list[Any]) -> tuple[Any, Any]:
    """Both sides as `compare` takes them: None for a second side that is the same as the first."""
    return found[0], found[1] if len(found) == 2 else None
