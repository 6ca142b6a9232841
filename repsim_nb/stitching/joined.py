"""Models that can be stitched, joined at their layers, and documents that suit them."""

from __future__ import annotations

from collections.abc import Sequence

from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError
from repsim_nb.models import Model
from repsim_nb.stitching.fitting import Seam
from repsim_nb.stitching.ground import Ground
from repsim_nb.stitching.task import KINDS


def join(sender: Model, receiver: Model, layer: int, into: int | None, shuffle: bool = False) -> Seam:
    """Validate sender, receiver and layers, and join them."""
    for model in (sender, receiver):
        if model.kind not in KINDS:
            raise InputError(
                f"{model.name} is of kind {model.kind!r}; only {' and '.join(KINDS)} models can be stitched."
            )
    if sender.kind != receiver.kind:
        raise InputError(
            f"{sender.name} is of kind {sender.kind!r} and {receiver.name} of kind {receiver.kind!r}, and these "
            "predict different things. Stitch models of the same kind."
        )
    if sender.windows.text_key != receiver.windows.text_key and sender.kind != "causal":
        raise InputError(
            f"{sender.name} and {receiver.name} have different tokenizers; {sender.kind} models can only be stitched "
            "if they share one."
        )
    (layer,) = sender.positions(layer)
    if into is None and layer > receiver.n_layers:
        raise InputError(
            f"{receiver.name} has layers 0 to {receiver.n_layers}, so layer {layer} of {sender.name} has no "
            "counterpart there. Set into=..."
        )
    (into,) = receiver.positions(layer if into is None else into)
    return Seam(sender, receiver, layer, into, shuffle)


def common_ground(
    models: Sequence[Model],
    corpus: Corpus | str | Sequence[str] | None,
    n_fit: int,
    n_report: int | None,
    seed: int,
    fits: bool = True,
    seams: Sequence[Seam] = (),
) -> Ground:
    """Windows that suit all of these models, for `seams`."""
    for name, number in (("n_fit", n_fit), ("n_report", 1 if n_report is None else n_report)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name}={number!r}; expected a positive whole number.")
    ground = Ground(corpus, models, n_fit, n_report, seed, fits, seams)
    for model in models:
        ground.task.key(model)  # raises if the labels of model and corpus do not match
    return ground
