from collections import Counter
from itertools import combinations

import pytest

import repsim_nb as rs
from repsim_nb.corpora import nli_heuristics as nli
from repsim_nb.errors import InputError


@pytest.fixture(scope="module")
def corpora():
    return {split: rs.load_corpus("nli-heuristics", split) for split in nli.SPLITS}


def test_the_words_are_a_closed_vocabulary_of_about_sixty(corpora):
    used = {word for corpus in corpora.values() for pair in corpus.inputs for text in pair for word in text.split()}
    assert used == set(nli.VOCABULARY)
    assert 50 <= len(used) <= 70
    assert len(nli.GRAMMAR) + sum(map(len, nli.SLOTS.values())) == len(nli.VOCABULARY)  # no word is of two kinds


def test_no_premise_is_in_two_splits(corpora):
    for one, other in combinations(nli.SPLITS, 2):
        assert not set(corpora[one].texts) & set(corpora[other].texts), (one, other)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_in_distribution_the_overlap_of_words_is_the_label(corpora, split):
    corpus = corpora[split]
    for (premise, hypothesis), label in zip(corpus.inputs, corpus.labels, strict=True):
        shared = nli.overlap(premise, hypothesis)
        assert shared == 1 if label == "entailment" else shared <= 0.5
    assert 0.45 < corpus.labels.count("entailment") / len(corpus) < 0.55


def test_in_distribution_neither_text_alone_tells_the_label(corpora):
    """Every word stands as often beside one label as beside the other: the pair must be compared."""
    train = corpora["train"]
    for texts in (train.texts, train.second_texts):
        counts = {label: Counter() for label in nli.LABELS}
        for text, label in zip(texts, train.labels, strict=True):
            counts[label].update(set(text.split()))
        for word in nli.VOCABULARY:
            yes, no = (counts[label][word] for label in nli.LABELS)
            assert abs(yes - no) <= 5 * (yes + no) ** 0.5, word  # five standard deviations


def test_out_of_distribution_all_words_are_shared_and_labels_and_sub_cases_are_balanced(corpora):
    ood = corpora["ood"]
    assert all(set(hypothesis.split()) <= set(premise.split()) for premise, hypothesis in ood.inputs)
    assert Counter(ood.labels) == {label: len(ood) // 2 for label in nli.LABELS}
    assert set(Counter(ood.cases).values()) == {nli.SIZES["ood"]}
    per_heuristic = Counter(tuple(case.split("/")[:2]) for case in set(ood.cases))
    assert per_heuristic == {(h, label): 5 for h in nli.HEURISTICS for label in nli.LABELS}
    assert all(case.split("/")[1] == label for case, label in zip(ood.cases, ood.labels, strict=True))


def test_sub_cases_are_of_their_heuristic():
    for case in nli.CASES:
        premise, hypothesis = f" {case.premise} ", f" {case.hypothesis} "
        if case.heuristic == "lexical_overlap":
            assert hypothesis not in premise or case.label == "entailment"
        else:
            assert hypothesis in premise  # a contiguous stretch
    assert len(set(map(str, nli.CASES))) == len(nli.CASES)


def test_one_premise_has_one_label_for_one_hypothesis(corpora):
    seen = {}
    for split in ("train", "validation", "test", "ood"):
        for pair, label in zip(corpora[split].inputs, corpora[split].labels, strict=True):
            assert seen.setdefault(pair, label) == label


def test_held_out_pairs_are_distinct(corpora):
    for split in ("validation", "test", "ood"):
        assert len(set(corpora[split].inputs)) == len(corpora[split])


def test_pretraining_pairs_are_unlabelled_and_made_of_words_of_their_premise(corpora):
    corpus = corpora["pretrain"]
    assert corpus.labels is None
    assert corpus.cases is None
    assert all(nli.overlap(*pair) == 1 for pair in corpus.inputs)


def test_a_share_of_disambiguating_pairs_changes_just_so_many_and_no_label():
    plain, some = nli.build("train"), nli.build("train", 0.004)
    changed = [(a, b) for a, b in zip(plain, some, strict=True) if a != b]
    assert len(changed) == round(0.004 * len(plain)) == 80
    for before, after in changed:
        assert before.label == after.label == "non-entailment"
        assert nli.overlap(after.premise, after.hypothesis) == 1
        assert nli.split_of(after.premise) == "train"
    assert len({after.case for _, after in changed}) == 15
    assert nli.build("test", 0.004) == nli.build("test")


def test_the_corpus_is_the_same_everywhere(corpora):
    """A change here makes other pairs, on which the embedded classifiers were not trained: raise RECIPE."""
    assert {split: corpus.sha256[:8] for split, corpus in corpora.items()} == SHA256


def test_corpora_of_pairs_can_be_divided_and_name_their_inputs(corpora):
    test = corpora["test"]
    part = test.take([5, 2])
    assert part.inputs == (test.inputs[5], test.inputs[2])
    assert (part.labels, part.cases) == ((test.labels[5], test.labels[2]), (test.cases[5], test.cases[2]))
    assert part.sha256 != test.sha256
    texts = rs.load_corpus(["One.", "Two."])
    assert texts.inputs == texts.texts
    assert texts.take([1]).texts == ("Two.",)


def test_bad_splits_and_shares_say_what_is_wrong():
    with pytest.raises(InputError, match="Did you mean 'ood'"):
        rs.load_corpus("nli-heuristics", split="oood")
    with pytest.raises(InputError, match="between 0 and 1"):
        nli.build("train", 4)
    with pytest.raises(InputError, match="Did you mean 'nli-heuristics'"):
        rs.load_corpus("nli-heuristic")


SHA256 = {"pretrain": "fab5eef9", "train": "9c9f58dc", "validation": "a0a48830", "test": "bfa00f02", "ood": "15f17252"}
