"""Part 3: stitching. The lower layers of one model feed the upper layers of another, and the loss says how well."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from repsim_nb.runs.exercises import Feedback
from repsim_nb.workshop.answers import choice, layer, number, right, then, wrong
from repsim_nb.workshop.exercise import Exercise

if TYPE_CHECKING:
    import pandas as pd

    from repsim_nb.stitching.stitched import Stitched

CLOSE = 0.02  # of the right number; answers are read off tables with two digits
NOTHING = 1e-3  # nats per token; activations are float32


def _into_itself(answer: Any, stitched: Stitched) -> Feedback:
    """The penalty of a model stitched into itself by the identity."""
    return then(number(answer), lambda value: _judge_itself(value, stitched))


def _judge_itself(value: float, stitched: Stitched) -> Feedback:
    if abs(value - stitched.penalty) <= NOTHING:
        return right(
            f"{abs(stitched.penalty):.3f} nats per token: nothing was changed, so nothing is lost. Always run this "
            "first. If it is not 0, the splicing is broken and no other number counts."
        )
    if abs(value - stitched.loss) <= CLOSE:
        return wrong(
            "That is the loss of the stitched model. The penalty is how much worse than the receiver alone it is."
        )
    return wrong(
        f"You say {value:.2f}. What does the receiver get at that layer, and what would it have had by itself?"
    )


def _best_map(answer: Any, penalties: pd.Series) -> Feedback:
    """The kind of map with the lowest penalty."""
    return then(choice(answer, penalties.index, "one of these maps"), lambda kind: _judge_map(kind, penalties))


def _judge_map(kind: str, penalties: pd.Series) -> Feedback:
    if penalties[kind] > penalties.min():
        return wrong(f"With {kind!r} the penalty is {penalties[kind]:.2f} nats per token. Another map has less.")
    return right(
        f"{penalties[kind]:.2f} nats per token. What model B holds at this layer is there in model A too, but in other "
        "coordinates: copied as it is, it is useless, and after a linear map much of it can be used."
    )


def _times_as_surprised(answer: Any, penalty: float) -> Feedback:
    """What a penalty means for the probability of the next token."""
    return then(number(answer), lambda value: _judge_factor(value, penalty))


def _judge_factor(value: float, penalty: float) -> Feedback:
    factor = math.exp(penalty)
    if abs(value - factor) <= CLOSE * factor:
        return right(
            f"A penalty of {penalty:.2f} nats: on (geometric) average the right token got 1/{factor:.1f} as much."
        )
    if abs(value - 2**penalty) <= CLOSE * factor:
        return wrong("That would be right for bits. A nat is the unit of the natural logarithm.")
    if abs(value - penalty) <= CLOSE:
        return wrong("That is the penalty, a difference of logarithms. Which factor has this logarithm?")
    return wrong(f"The penalty is {penalty:.2f}, a difference of two mean log probabilities. Turn it into a factor.")


def _share_kept(answer: Any, stitched: Stitched) -> Feedback:
    """The share of what the receiver can lose at this layer that the stitch keeps."""
    return then(number(answer), lambda value: _judge_share(value, stitched))


def _judge_share(value: float, stitched: Stitched) -> Feedback:
    most = stitched.mean_losses.mean - stitched.receiver_loss
    share = 1 - stitched.penalty / most
    if abs(value - share) <= CLOSE:
        return right(
            f"The stitch keeps {share:.0%} of what the receiver has at this layer. A receiver that gets one constant "
            f"in place of its layer loses {most:.2f} nats per token; the stitch loses {stitched.penalty:.2f}."
        )
    if abs(value - (1 - share)) <= CLOSE:
        return wrong("That is the share that is lost. The question is which share is kept.")
    if abs(value - 100 * share) <= 100 * CLOSE:
        return wrong("Give it as a number from 0 to 1, not in per cent.")
    return wrong(
        f"Nothing is kept (0) at a penalty of {most:.2f}, that of a constant, and everything (1) at a penalty of 0. "
        f"This stitch has {stitched.penalty:.2f}."
    )


def _best_layer(answer: Any, penalties: pd.Series) -> Feedback:
    """The layer at which stitching costs least."""
    return then(layer(answer, penalties.index), lambda chosen: _judge_layer(chosen, penalties))


def _judge_layer(chosen: int, penalties: pd.Series) -> Feedback:
    found = f"At layer {chosen} the penalty is {penalties[chosen]:.2f}"
    if penalties[chosen] > penalties.min():
        return wrong(f"{found}. Another layer has less.")
    return right(f"{found} nats per token, the least of {len(penalties)} layers.")


EXERCISES = (
    Exercise(
        "3.1",
        "A model stitched into itself",
        _into_itself,
        (
            "Draw it: which blocks of which model does the text go through?",
            "It is the same model below and above the seam, and the identity changes nothing.",
            "The penalty is the loss of the stitched model minus that of the receiver alone: a number minus itself.",
        ),
    ),
    Exercise(
        "3.2",
        "Which map joins two seeds?",
        _best_map,
        (
            "Which feature of one model is which of the other? Who says that there is such a pairing?",
            "A longer bar is a higher penalty. Which bar is the shortest?",
            "`penalties.idxmin()` names the map.",
        ),
    ),
    Exercise(
        "3.3",
        "From nats to a factor",
        _times_as_surprised,
        (
            "A loss is minus the logarithm of a probability. What is a difference of losses?",
            "A difference of logarithms is the logarithm of a ratio. A nat belongs to the natural logarithm.",
            "`np.exp(joined.penalty)`",
        ),
    ),
    Exercise(
        "3.4",
        "How much is kept?",
        _share_kept,
        (
            "A penalty needs a scale: what is the best it can be, and what is a bad value?",
            "`joined.mean_losses.mean` is the loss of a receiver that gets one constant at this layer. How much of the "
            "way from there to the receiver's own loss does the stitch go?",
            "1 - joined.penalty / (joined.mean_losses.mean - joined.receiver_loss)",
        ),
    ),
    Exercise(
        "3.5",
        "At which layer is it cheapest?",
        _best_layer,
        (
            "The curve of the trained sender has a lowest point.",
            "The penalty falls towards the top. (Ask yourself why: who computed the final layer?)",
            "`by_layer.trained.idxmin()`",
        ),
    ),
)
