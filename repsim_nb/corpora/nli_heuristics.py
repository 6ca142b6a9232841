"""The corpus `nli-heuristics`: generated sentence pairs that separate word overlap from entailment.

In the spirit of HANS (McCoy, Pavlick and Linzen 2019), with different templates and words. In training, a hypothesis is
entailed if all of its words occur in the premise, and not entailed if at least half of its nouns and verbs are new:
word overlap is a shortcut that works on (almost) every pair. Out of distribution every hypothesis consists of words of
its premise, and only the grammar decides whether it is entailed.

All verbs are regular: past tense and participle are equal, so that active and passive share their words.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from repsim_nb.errors import InputError, unknown

NAME = "nli-heuristics"
RECIPE = 1  # increase when a change here changes the pairs
SEED = 5
LABELS = ("entailment", "non-entailment")
HEURISTICS = ("lexical_overlap", "subsequence", "constituent")

# Per split: number of pairs, and its share of premises in per cent. For "ood" the number is per sub-case.
SIZES = {"pretrain": 50_000, "train": 20_000, "validation": 1_000, "test": 2_000, "ood": 200}
SHARES = {"pretrain": 40, "train": 30, "validation": 5, "test": 10, "ood": 15}
SPLITS = tuple(SIZES)

# Slots in a template are a letter and a number: equal slots hold the same word, different slots different words.
WORDS = {
    "n": "baker clerk dancer farmer guard lawyer miner painter pilot poet sailor singer tailor teacher waiter weaver",
    "v": "admired amused followed greeted helped praised thanked visited warned watched",
    "i": "danced laughed shouted smiled stumbled waited whispered yawned",
    "p": "behind beside near",
    "s": "believed doubted feared",  # with a noun or a clause
    "k": "knew noticed remembered",  # factive: the clause is true
    "h": "claimed dreamed hoped",  # not factive
    "c": "because while",
    "d": "if unless",
    "a": "clearly indeed",
    "m": "maybe perhaps",
}
SLOTS = {kind: tuple(words.split()) for kind, words in WORDS.items()}
GRAMMAR = ("and", "by", "or", "that", "the", "was", "who")
VOCABULARY = tuple(sorted({*GRAMMAR, *(word for words in SLOTS.values() for word in words)}))
CONTENT = {word: kind for kind in "nvi" for word in SLOTS[kind]}  # replaceable words

T = TypeVar("T")


class Case(NamedTuple):
    """A sub-case of a heuristic: templates of premise and hypothesis, with the label that follows from the grammar."""

    heuristic: str
    label: str
    name: str
    premise: str
    hypothesis: str

    def __str__(self) -> str:
        return f"{self.heuristic}/{self.label}/{self.name}"


_YES, _NO = LABELS
CASES = (
    Case("lexical_overlap", _YES, "around_prepositional_phrase", "the n1 p1 the n2 v1 the n3", "the n1 v1 the n3"),
    Case("lexical_overlap", _YES, "around_relative_clause", "the n1 who v1 the n2 i1", "the n1 i1"),
    Case("lexical_overlap", _YES, "conjunction", "the n1 v1 the n2 and the n3", "the n1 v1 the n3"),
    Case("lexical_overlap", _YES, "passive", "the n1 was v1 by the n2", "the n2 v1 the n1"),
    Case("lexical_overlap", _YES, "relative_clause", "the n1 v1 the n2 who the n3 v2", "the n3 v2 the n2"),
    Case("lexical_overlap", _NO, "conjunction", "the n1 v1 the n2 and the n3", "the n2 v1 the n3"),
    Case("lexical_overlap", _NO, "passive", "the n1 was v1 by the n2", "the n1 v1 the n2"),
    Case("lexical_overlap", _NO, "preposition", "the n1 p1 the n2 v1 the n3", "the n3 v1 the n1"),
    Case("lexical_overlap", _NO, "relative_clause", "the n1 v1 the n2 who the n3 v2", "the n2 v2 the n3"),
    Case("lexical_overlap", _NO, "subject_object_swap", "the n1 v1 the n2", "the n2 v1 the n1"),
    Case("subsequence", _YES, "conjoined_predicate", "the n1 v1 the n2 and i1", "the n1 v1 the n2"),
    Case("subsequence", _YES, "conjoined_subject", "the n1 and the n2 i1", "the n2 i1"),
    Case("subsequence", _YES, "prepositional_phrase", "the n1 i1 p1 the n2", "the n1 i1"),
    Case("subsequence", _YES, "prepositional_phrase_on_object", "the n1 v1 the n2 p1 the n3", "the n1 v1 the n2"),
    Case("subsequence", _YES, "relative_clause_on_object", "the n1 v1 the n2 who i1", "the n1 v1 the n2"),
    Case("subsequence", _NO, "clause_as_object", "the n1 s1 the n2 i1", "the n1 s1 the n2"),
    Case("subsequence", _NO, "conjoined_clauses", "the n1 v1 the n2 and the n3 i1", "the n2 and the n3 i1"),
    Case("subsequence", _NO, "prepositional_phrase_on_subject", "the n1 p1 the n2 i1", "the n2 i1"),
    Case("subsequence", _NO, "reduced_relative_clause", "the n1 v1 by the n2 i1", "the n2 i1"),
    Case("subsequence", _NO, "relative_clause_on_subject", "the n1 who v1 the n2 i1", "the n2 i1"),
    Case("constituent", _YES, "adverb", "a1 the n1 v1 the n2", "the n1 v1 the n2"),
    Case("constituent", _YES, "after_because", "c1 the n1 i1 the n2 i2", "the n2 i2"),
    Case("constituent", _YES, "conjunction", "the n1 i1 and the n2 i2", "the n1 i1"),
    Case("constituent", _YES, "embedded_under_verb", "the n1 k1 that the n2 i1", "the n2 i1"),
    Case("constituent", _YES, "under_because", "c1 the n1 i1 the n2 i2", "the n1 i1"),
    Case("constituent", _NO, "adverb", "m1 the n1 v1 the n2", "the n1 v1 the n2"),
    Case("constituent", _NO, "after_if", "d1 the n1 i1 the n2 i2", "the n2 i2"),
    Case("constituent", _NO, "disjunction", "the n1 i1 or the n2 i2", "the n1 i1"),
    Case("constituent", _NO, "embedded_under_verb", "the n1 h1 that the n2 i1", "the n2 i1"),
    Case("constituent", _NO, "under_if", "d1 the n1 i1 the n2 i2", "the n1 i1"),
)
_PREMISES_WITH_A_CONCLUSION = {case.premise for case in CASES if case.label == _YES}

# If nothing shorter follows from a premise, the premise itself does, so that no construction reveals the label.
SHORTCUT = (
    *(case for case in CASES if case.label == _YES),
    *(
        Case("identity", _YES, "copy", premise, premise)
        for premise in dict.fromkeys(case.premise for case in CASES)
        if premise not in _PREMISES_WITH_A_CONCLUSION
    ),
)
NEW_WORDS = f"new_words/{_NO}"


class Pair(NamedTuple):
    """A premise, a hypothesis, the label and the sub-case."""

    premise: str
    hypothesis: str
    label: str
    case: str


@lru_cache(maxsize=8)
def build(split: str, disambiguating: float = 0.0) -> tuple[Pair, ...]:
    """Build all pairs of a split, reproducibly on every machine.

    No premise is in two splits. "validation", "test" and "ood" have no duplicate pairs.

    Parameters
    ----------
    split
        "pretrain" (hypotheses made of words of their premise, entailed or not; its labels are not used), "train",
        "validation", "test" (the shortcut works) or "ood" (every sub-case equally often).
    disambiguating
        Share of the pairs in "train" on which the shortcut fails, 0 to 1.

    Raises
    ------
    InputError
        If the split is unknown or the share is not between 0 and 1.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if not 0 <= disambiguating <= 1:
        raise InputError(f"disambiguating={disambiguating!r}; expected a share between 0 and 1.")
    rng = random.Random(f"{NAME} {RECIPE} {SEED} {split}")
    if split == "ood":
        return tuple(pair for case in CASES for pair in _distinct(_endless(_pair, case, split, rng), SIZES[split]))
    if split == "pretrain":
        return tuple(_pair(_choice(rng, CASES), split, rng) for _ in range(SIZES[split]))
    if split == "train":
        pairs = [_in_distribution(split, rng) for _ in range(SIZES[split])]
        return tuple(_with_disambiguating(pairs, disambiguating, rng))
    return tuple(_distinct(_endless(_in_distribution, split, rng), SIZES[split]))


def versions() -> dict[str, str]:
    """Everything that the pairs depend on."""
    return {"recipe": str(RECIPE), "seed": str(SEED)}


def overlap(premise: str, hypothesis: str) -> float:
    """Share of the hypothesis' nouns and verbs that occur in the premise: the shortcut feature."""
    words = [word for word in hypothesis.split() if word in CONTENT]
    return sum(word in premise.split() for word in words) / len(words)


def split_of(premise: str) -> str:
    """The split of a premise, determined by its hash."""
    percent = int.from_bytes(hashlib.sha256(premise.encode()).digest()[:4], "big") % 100
    for split, share in SHARES.items():
        if percent < share:
            return split
        percent -= share
    raise AssertionError("the shares of the splits do not add up to 100")


def _in_distribution(split: str, rng: random.Random) -> Pair:
    pair = _pair(_choice(rng, SHORTCUT), split, rng)
    return pair if rng.random() < 0.5 else _with_new_words(pair, rng)


def _with_disambiguating(pairs: list[Pair], share: float, rng: random.Random) -> list[Pair]:
    """Replace some non-entailed pairs by non-entailed pairs with full word overlap, cycling through sub-cases."""
    cases = [case for case in CASES if case.label == _NO]
    places = [i for i, pair in enumerate(pairs) if pair.label == _NO]
    for turn, place in enumerate(_sample(rng, places, min(round(share * len(pairs)), len(places)))):
        pairs[place] = _pair(cases[turn % len(cases)], "train", rng)
    return pairs


def _pair(case: Case, split: str, rng: random.Random) -> Pair:
    while True:
        words = _fill(case.premise, rng)
        premise, hypothesis = (
            " ".join(words.get(slot, slot) for slot in t.split()) for t in (case.premise, case.hypothesis)
        )
        if split_of(premise) == split:
            return Pair(premise, hypothesis, case.label, str(case))


def _fill(template: str, rng: random.Random) -> dict[str, str]:
    """Slot -> word, with different words for different slots of a kind."""
    slots = [slot for slot in template.split() if slot[-1].isdigit()]
    filled: dict[str, str] = {}
    for kind in dict.fromkeys(slot[0] for slot in slots):
        of_kind = [slot for slot in slots if slot[0] == kind]
        filled.update(zip(of_kind, _sample(rng, SLOTS[kind], len(of_kind)), strict=True))
    return filled


def _with_new_words(pair: Pair, rng: random.Random) -> Pair:
    """Replace at least half of the hypothesis' nouns and verbs by words that the premise lacks."""
    words, used = pair.hypothesis.split(), set(pair.premise.split())
    places = [i for i, word in enumerate(words) if word in CONTENT]
    fewest = math.ceil(len(places) / 2)
    for place in _sample(rng, places, _choice(rng, range(fewest, len(places) + 1))):
        words[place] = _choice(rng, [word for word in SLOTS[CONTENT[words[place]]] if word not in used])
        used.add(words[place])
    return Pair(pair.premise, " ".join(words), _NO, NEW_WORDS)


def _endless(draw: Callable[..., Pair], *given: Any) -> Iterator[Pair]:
    while True:
        yield draw(*given)


def _distinct(pairs: Iterator[Pair], count: int) -> list[Pair]:
    found: dict[Pair, None] = {}
    while len(found) < count:
        found[next(pairs)] = None
    return list(found)


# Only random() of the module `random` is guaranteed to give the same numbers in every version of Python.


def _choice(rng: random.Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def _sample(rng: random.Random, items: Sequence[T], count: int) -> list[T]:
    pool = list(items)
    return [pool.pop(int(rng.random() * len(pool))) for _ in range(count)]
