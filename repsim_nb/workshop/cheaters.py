"""Part 4: find the model that cheats. Classifiers that all pass the test, and differ in what they have learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repsim_nb.runs.exercises import Feedback
from repsim_nb.workshop.answers import choice, layer, number, right, then, wrong
from repsim_nb.workshop.exercise import Exercise

if TYPE_CHECKING:
    import pandas as pd

    from repsim_nb.models.classifier import ClassifierModel

LEVEL = 0.05
CLOSE_P = 1e-3
WRONG_LABEL, RIGHT_LABEL = "entailment", "non-entailment"


def _trap(answer: Any, cheater: ClassifierModel, careful: ClassifierModel) -> Feedback:
    """A pair that the cheater gets wrong: all words of the hypothesis are in the premise, and it does not follow."""
    pair = list(answer) if isinstance(answer, (tuple, list)) else []
    if len(pair) != 2 or not all(isinstance(text, str) and text.strip() for text in pair):
        return wrong(f"The answer is two sentences, (premise, hypothesis); received {answer!r:.60}.")
    premise, hypothesis = (text.lower().split() for text in pair)
    unknown_words = [word for word in [*premise, *hypothesis] if word not in cheater.tokenizer.get_vocab()]
    if unknown_words:
        return wrong(f"The models do not know {unknown_words[0]!r}. `words` lists what they know.")
    new = [word for word in hypothesis if word not in premise]
    if new:
        return wrong(f"{new[0]!r} is not in the premise, so even the shortcut says that it does not follow.")
    said, right_one = _says(cheater, pair), _says(careful, pair)
    if right_one != RIGHT_LABEL:
        return wrong(
            f"The careful model says {right_one}, too. Does your hypothesis really not follow from the premise?"
        )
    if said != WRONG_LABEL:
        return wrong(
            f"The cheater says {said}, and is right this time. Another construction: swap who does what to whom."
        )
    return right(f"The cheater says {said}, the careful model {right_one}. All words are there, in another relation.")


def _says(model: ClassifierModel, pair: list[str]) -> str:
    return str(model.labels[int(model.logits(model.batch([(pair[0], pair[1])])).argmax())])


def _dividing_case(answer: Any, table: pd.DataFrame) -> Feedback:
    """The construction on which the accuracies of models are most spread out."""
    return then(choice(answer, table.columns, "one of these columns"), lambda case: _judge_case(case, table))


def _judge_case(case: str, table: pd.DataFrame) -> Feedback:
    spread = table.std()
    if spread[case] < spread.max():
        return wrong(f"On {case!r} the standard deviation over models is {spread[case]:.2f}. Another column has more.")
    return right(
        f"From {table[case].min():.2f} to {table[case].max():.2f}, with a standard deviation of {spread[case]:.2f}. "
        "All that differs between these models is a random seed."
    )


def _layer_of_difference(answer: Any, table: pd.DataFrame) -> Feedback:
    """The layer at which the groups differ most, in units of chance."""
    return then(layer(answer, table.index), lambda chosen: _judge_test(chosen, table))


def _judge_test(chosen: int, table: pd.DataFrame) -> Feedback:
    p_value = table.p_value[chosen]
    if p_value > table.p_value.min():
        return wrong(f"At layer {chosen} p is {p_value:.3f}. At another layer chance explains less.")
    return right(
        f"Layer {chosen}: p = {p_value:.3f} by itself, {table.p_adjusted[chosen]:.3f} for the best of "
        f"{len(table)} layers. Effects in other layers are larger in the units of the measure, and so is their noise."
    )


def _deciding_p(answer: Any, joint: pd.DataFrame) -> Feedback:
    """The p-value that decides if both statistics have to be below 0.05."""
    return then(number(answer), lambda value: _judge_p(value, joint))


def _judge_p(value: float, joint: pd.DataFrame) -> Feedback:
    deciding = float(joint.p_value.max())
    if abs(value - deciding) <= CLOSE_P:
        verdict = "holds" if deciding <= LEVEL else "does not hold"
        return right(
            f"Both have to be at most {LEVEL}, so the larger one decides: p = {deciding:.3f}, the claim {verdict}."
        )
    if abs(value - float(joint.p_value.min())) <= CLOSE_P:
        return wrong("That is the smaller one. To choose it after the fact is what the rule is there to prevent.")
    return wrong(
        f"The table has {len(joint)} p-values, one for each statistic. Which of them decides if both must hold?"
    )


EXERCISES = (
    Exercise(
        "4.1",
        "Set a trap for the cheater",
        _trap,
        (
            "The shortcut: if all words of the hypothesis are in the premise, it follows. When is that wrong?",
            "Take the same words and change who does what to whom.",
            '("the guard admired the baker", "the baker admired the guard")',
        ),
    ),
    Exercise(
        "4.2",
        "Which construction divides the models?",
        _dividing_case,
        (
            "You look for a construction that some models get right and others wrong.",
            "The standard deviation over models measures that, `by_case.std()`.",
            "`by_case.std().idxmax()`",
        ),
    ),
    Exercise(
        "4.3",
        "At which layer do the groups differ?",
        _layer_of_difference,
        (
            "Not the largest effect counts, but the one that chance explains least.",
            "Look for the smallest number in the column `p_value`.",
            "`by_layer.p_value.idxmin()`",
        ),
    ),
    Exercise(
        "4.4",
        "Does the claim hold?",
        _deciding_p,
        (
            "Two statistics have to pass. Which one is more likely to fail?",
            "The larger of the two p-values decides.",
            "`joint.p_value.max()`",
        ),
    ),
)
