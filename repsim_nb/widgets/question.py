"""What an explorer asks, as plain values: to be answered, saved, and written as Python or as a command."""

from __future__ import annotations

import json
import shlex
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from types import NoneType
from typing import TYPE_CHECKING, Any

from repsim_nb.activations import Activations, extract_aligned
from repsim_nb.comparison.cost import expected_bytes
from repsim_nb.comparison.layers import compare
from repsim_nb.corpora import Corpus, list_corpora, load_corpus
from repsim_nb.corpora.corpus import hub_id
from repsim_nb.errors import InputError, unknown
from repsim_nb.measures import get_measure
from repsim_nb.models import Model, load_model
from repsim_nb.models.shape import shape_of
from repsim_nb.widgets.bounds import contained

if TYPE_CHECKING:
    import xarray as xr

KEPT_BYTES = 10**9
KEPT_MODELS = KEPT_TEXTS = 6
NOTEBOOK = "00_start_here"


@dataclass(frozen=True)
class Question:
    """The arguments of `compare`, with several models on the side of b.

    `uncertainty` asks for null and interval. Corpus, split, rows and layers are as the pickers have them.
    """

    model_a: str
    models_b: tuple[str, ...]
    measure: str = "cka"
    params: dict[str, Any] = field(default_factory=dict)
    corpus: str | tuple[str, ...] | None = None
    split: str | None = None
    rows: str = "tokens"
    n_rows: int = 1000
    seed: int = 0
    layers_a: str | tuple[int, ...] = "all"
    layers_b: str | tuple[int, ...] = "all"
    uncertainty: bool = False

    def layers(self, side: str) -> str | list[int]:
        """Layers of "a" or "b" as `compare` takes them."""
        chosen = self.layers_a if side == "a" else self.layers_b
        return chosen if isinstance(chosen, str) else list(chosen)

    @property
    def named(self) -> bool:
        """Whether the corpus is one of the package's own."""
        return isinstance(self.corpus, str) and self.corpus in list_corpora().index

    def how(self) -> dict[str, Any]:
        """Arguments of `compare` for models that differ from its defaults, models, corpus and parameters apart."""
        of_default = {"measure": "cka", "rows": "tokens", "n_rows": 4096, "seed": 0}
        given = {name: getattr(self, name) for name in of_default if getattr(self, name) != of_default[name]}
        given |= {f"layers_{side}": self.layers(side) for side in "ab" if self.layers(side) != "all"}
        if self.uncertainty:
            given |= {"null": "permutation", "interval": 0.95}
        return given

    def to_json(self, **more: Any) -> str:
        """One line of JSON."""
        return json.dumps({**asdict(self), **more}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> tuple[Question, dict[str, Any]]:
        """The question and whatever else was saved with it.

        Raises:
            InputError: text that `to_json` has not written.
        """
        try:
            saved = json.loads(text)
        except (TypeError, ValueError) as error:
            raise InputError(f"This is no saved state: {error}. Give the whole text that was saved.") from None
        names = [f.name for f in fields(cls)]
        if not isinstance(saved, dict) or not {"model_a", "models_b"} <= saved.keys():
            raise InputError("This is no saved state of an explorer: it names no models. Give the whole text.")
        if set(saved) - EXPECTED.keys():
            raise unknown("entry of a saved state", min(set(saved) - EXPECTED.keys()), EXPECTED)
        saved = {name: _as_tuple(value) for name, value in saved.items()}
        for name, value in saved.items():
            if not EXPECTED[name][0](value):
                raise InputError(f"Saved state: {name} is {value!r}; expected {EXPECTED[name][1]}.")
        own = {name: saved.pop(name) for name in names if name in saved}
        return cls(**own), saved


def _is(*types: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in types


def _all(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is tuple and len(value) > 0 and all(type(item) is kind for item in value)


def _either(*checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: any(check(value) for check in checks)


_NAME, _NUMBER = (_is(str), "a text"), (_is(int), "a whole number")
_LAYERS = _either(_is(str), _all(int)), '"all" or a list of positions'
# What each entry of a saved state may be, lists as tuples.
EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model_a": _NAME,
    "models_b": (_either(_is(str), _all(str)), "a list of names"),
    "measure": _NAME,
    "params": (_is(dict), "names with their values"),
    "corpus": (_either(_is(str, NoneType), _all(str)), "a name, a list of texts or null"),
    "split": (_is(str, NoneType), "a name or null"),
    "rows": _NAME,
    "n_rows": _NUMBER,
    "seed": _NUMBER,
    "layers_a": _LAYERS,
    "layers_b": _LAYERS,
    "uncertainty": (_is(bool), "true or false"),
    "against": _NAME,
    "selected": (lambda value: value is None or (_all(int)(value) and len(value) == 2), "two layers or null"),
}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Kept:
    """Models, texts and activations used lately, up to a number of each and of bytes; the oldest go first."""

    def __init__(self, limit: int = KEPT_BYTES):
        self.limit = limit
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
        same = b == question.model_a and question.layers_a == question.layers_b
        return [self.model(name) for name in ([b] if same else [question.model_a, b])]

    def activations(self, question: Question, b: str) -> list[Activations]:
        """One for each of `models`, at the same rows; extracted unless they are kept."""
        text, key = self.text(question), self._key(question, b)
        if key not in self._pairs:
            models = self.models(question, b)
            layers = [question.layers("a"), question.layers("b")][: len(models)]
            self._pairs[key] = extract_aligned(
                models, text, layers, rows=question.rows, n_rows=question.n_rows, seed=question.seed
            )
            while self.nbytes > self.limit and len(self._pairs) > 1:
                self._pairs.popitem(last=False)
        self._pairs.move_to_end(key)
        return self._pairs[key]

    def holds(self, question: Question, b: str) -> bool:
        """Whether `activations` would extract nothing."""
        return self.has_text(question) and self._key(question, b) in self._pairs

    def _key(self, q: Question, b: str) -> tuple[Any, ...]:
        sha256 = None if q.corpus is None else self._texts[q.corpus, q.split][1]
        return (q.model_a, b, sha256, q.rows, q.n_rows, q.seed, q.layers_a, q.layers_b)


def answers(question: Question, kept: Kept) -> dict[str, xr.DataArray]:
    """`answer` for every model on the side of b, of one text that is read once."""
    kept.text(question, anew=True)
    return {b: answer(question, b, kept) for b in question.models_b}


def answer(question: Question, b: str, kept: Kept) -> xr.DataArray:
    """What `compare` says of `question.model_a` and `b`, from activations that are kept where they fit in memory."""
    how = question.how()
    measure = get_measure(question.measure, **question.params)
    models = kept.models(question, b)
    layers = [m.positions(question.layers(side)) for m, side in zip(models, "ab", strict=False)]
    if expected_bytes([shape_of(m) for m in models], layers, measure, question.n_rows).route == "stream":
        how.pop("measure", None)
        return compare(models[0], models[1] if len(models) == 2 else None, kept.text(question), measure, **how)
    pair = kept.activations(question, b)
    uncertainty = {name: how[name] for name in ("null", "interval") if name in how}
    return compare(pair[0], pair[1] if len(pair) == 2 else None, measure=measure, seed=question.seed, **uncertainty)


def as_python(
    question: Question,
    against: str,
    selected: tuple[int, int] | None = None,
    stitched: dict[str, Any] | None = None,
) -> str:
    """Python that gives the maps of the explorer and, for a selected pair of layers, its close-up.

    `stitched` are the arguments of a stitch that was made of that pair.
    """
    q, lines = question, ["import repsim_nb as rs", ""]
    if isinstance(q.corpus, tuple) or q.split is not None:
        split = f", split={q.split!r}" if q.split is not None else ""
        texts = list(q.corpus) if isinstance(q.corpus, tuple) else q.corpus
        lines += [f"corpus = rs.load_corpus({texts!r}{split})", ""]
        corpus = "corpus"
    else:
        corpus = repr(q.corpus)
    for b in q.models_b:
        arguments = [repr(q.model_a)] + ([] if b == q.model_a else [repr(b)])
        given = {} if q.corpus is None else {"corpus": corpus}
        given |= {name: repr(value) for name, value in {**q.how(), **q.params}.items()}
        arguments += [f"{name}={value}" for name, value in given.items()]
        name = "result" if len(q.models_b) == 1 else f"results[{b!r}]"
        lines.append(f"{name} = rs.compare({', '.join(arguments)})")
    if len(q.models_b) > 1:
        lines.insert(lines.index("") + 1, "results = {}")
        lines.append(f"result = results[{against!r}]")
    lines.append("ax = rs.figures.heatmap(result)")
    if selected is not None:
        lines += ["", *_closeup_lines(q, against, selected, corpus)]
        if stitched is not None:
            of = [repr(q.model_a), repr(against), str(selected[0]), repr(q.corpus) if q.named else corpus]
            of += [f"{name}={value!r}" for name, value in {"into": selected[1], "seed": q.seed, **stitched}.items()]
            lines.append(f"stitched = rs.stitch({', '.join(of)})")
    return "\n".join(lines) + "\n"


def _closeup_lines(q: Question, b: str, selected: tuple[int, int], corpus: str) -> list[str]:
    names = [b] if b == q.model_a and q.layers_a == q.layers_b else [q.model_a, b]
    layers = [q.layers("a"), q.layers("b")][: len(names)]
    how = {name: value for name, value in q.how().items() if name in ("rows", "seed")} | {"n_rows": q.n_rows}
    arguments = ", ".join(f"{name}={value!r}" for name, value in how.items())
    x, y = selected
    return [
        "from repsim_nb.activations import extract_aligned",
        "from repsim_nb.comparison.closeup import most_different, shared_axes",
        "",
        f"models = [rs.load_model(name) for name in {names!r}]",
        f"activations = extract_aligned(models, {corpus}, {layers!r}, {arguments})",
        f"closeup = shared_axes(activations[0][{x}], activations[-1][{y}], seed={q.seed})",
        "points = rs.figures.projection(closeup)",
        f"tokens = most_different(closeup, models[0], activations[0], {corpus})",
    ]


def as_commands(question: Question, state: str) -> str:
    """Lines for a shell: the notebook with this state, and where one suffices a comparison by itself."""
    q = question
    lines = [f"repsim-nb run {NOTEBOOK} -p state {shlex.quote(state)}"]
    plain = not q.params and q.split is None and q.rows == "tokens" and not q.uncertainty
    if plain and not isinstance(q.corpus, tuple):
        for b in q.models_b:
            given = {"--measure": q.measure, "--n-rows": q.n_rows, "--seed": q.seed}
            given |= {"--corpus": q.corpus} if q.corpus else {}
            for side in "ab":
                if q.layers(side) != "all":
                    given[f"--layers-{side}"] = ",".join(map(str, q.layers(side)))
            given["--out"] = f"{q.model_a}--{b}.nc".replace("/", "_")
            words = [str(word) for pair in given.items() for word in pair]
            lines.append(shlex.join(["repsim-nb", "compare", q.model_a, b, *words]))
    return "\n".join(lines) + "\n"
