"""The table of a model's matrices: ranks, norms and inequality of singular values, by layer, part and head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from repsim_nb.comparison.result import as_json
from repsim_nb.errors import InputError, check_effect, named_arguments, unknown
from repsim_nb.models import Model, load_model
from repsim_nb.models.model import not_finite
from repsim_nb.models.positions import positions
from repsim_nb.system.progress import steps
from repsim_nb.system.versions import versions
from repsim_nb.weights.gradients import Batches, gradients
from repsim_nb.weights.labelled import ATTENTION, Labelled, labelled, labelled_gradients
from repsim_nb.weights.matrices import MLP_PARTS, BlockPlan, exact, parameters_of, plans
from repsim_nb.weights.singular_values import PRECISE, numbers, rounding, singular_values

if TYPE_CHECKING:
    import pandas as pd

    from repsim_nb.corpora import Corpus

OF = ("weights", "gradients")
PARTS = (*ATTENTION, "ov", *MLP_PARTS)
WHOLE = "whole"


@named_arguments()
def spectra(
    model: Model | str,
    of: str = "weights",
    *,
    layers: str | int | Sequence[int] = "all",
    parts: str | Sequence[str] = "all",
    heads: bool = True,
    corpus: Corpus | str | Sequence[str] | None = None,
    n_batches: int = 1,
    batch_size: int = 32,
    length: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate the effective rank and other numbers of a model's weight matrices, or of their gradients.

    Parameters
    ----------
    model
        A Model, or anything that `load_model` takes.
    of
        "weights", or "gradients" of the model's mean loss on batches of text: next-token loss for language models,
        cross-entropy of the label for classifiers. Encoders have none here.
    layers
        "all", a block or a list of blocks, 1 to n_layers.
    parts
        "all", or some of

        - "query", "key", "value", "output": the four matrices of attention;
        - "ov": W_O W_V, the output matrix times the value matrix, summed over heads, each with the values it reads;
        - "mlp_in", "mlp_gate" (gated MLPs only) and "mlp_out".
    heads
        Whether to add rows for the single heads of the attention parts, next to those of the whole matrices.
    corpus
        Text for gradients. None is the test split of the corpus that the model was made for; classifiers need labels.
    n_batches, batch_size, length
        For gradients: number of batches, sequences in each, and most tokens of a sequence (None: the context of the
        model, at most 512). No sequence is used twice. They are spread over documents.
    seed
        Seed of the choice of sequences.

    Returns
    -------
    pandas.DataFrame
        One row per matrix, and per batch for gradients. Columns:

        - batch (1 to n_batches, gradients only), layer (the block, from 1), part, and head: "whole", or the number of
          the head from 0. Heads that share keys and values have fewer rows of "key" and "value" than of the others.
        - rows, columns: the shape of the matrix, outputs times inputs.
        - dimension: how many singular values other than 0 there can be, the divisor of the proportional effective rank.
          It is min(rows, columns); for the ov of a head, whose product goes through it, the width of the head if less;
          for the ov of all heads, the joint width of all value heads if less; for gradients of ov twice these widths if
          less, as the product rule adds two such products.
        - effective_rank, proportional_effective_rank, stable_rank, condition_number, frobenius_norm, spectral_norm,
          gini: see `spectrum_of`. All singular values are used, and nothing is centred.

        attrs["provenance"] is one JSON string: model, text, loss, seed, versions.

    Raises
    ------
    InputError
        If the architecture's matrices cannot be told apart, or its weights are quantised or offloaded; a matrix is all
        0, so that it has no rank; layers, parts or numbers are unknown or out of range; there is too little text, no
        label or no loss; or an argument has no effect.

    Notes
    -----
    The gradient of ov is dW_O W_V + W_O dW_V by the product rule, as in Diehl Martinez et al.: to first order, the
    change of the product when both matrices take a step along their gradients. It is not the gradient of the loss with
    respect to the product. Gradients are those of the loss, before clipping, momentum or Adam's scaling; dropout is
    off.

    How the number misleads: ranks depend on shape, so compare with the same model at initialisation rather than between
    parts. The gradient of a matrix cannot have a higher rank than there are tokens in the batch, and with few of them
    its rank grows with the batch. Weights of queries and keys, or of values and outputs, can exchange scale and
    rotation within a head without changing the model: the numbers of "value" and "output" then change, those of "ov"
    do not. Normalisation layers before a matrix, whose gains act as a factor of it, are not folded in.

    References
    ----------
    Diehl Martinez, Lesci and Buttery (2024). Tending towards stability: convergence challenges in small language
    models. Findings of EMNLP, arXiv 2410.11451. They divide by the width of a head for ov and by that of the model for
    the MLP; `dimension` differs from that for gradients of ov. Their code takes the last third of GPT-NeoX's rows of
    queries, keys and values for the values, although these are packed head by head, and only the first singular values
    of the MLP, as many as a head is wide; here each head's own rows and all singular values are used.

    Examples
    --------
    >>> table = spectra("tiny-neox-w32-d2", layers=2)
    >>> whole = table[table["head"] == "whole"].set_index("part")
    >>> whole.loc[["ov", "mlp_out"], ["rows", "columns", "dimension"]].values.tolist()
    [[32, 32, 32], [32, 128, 32]]
    >>> by_head = table[(table["part"] == "ov") & (table["head"] != "whole")]
    >>> by_head["dimension"].tolist()
    [16, 16]
    >>> steps = spectra("tiny-neox-w32-d2", of="gradients", parts="mlp_out", n_batches=2, batch_size=4)
    >>> steps[["batch", "layer"]].values.tolist()
    [[1, 1], [1, 2], [2, 1], [2, 2]]
    """
    import pandas as pd

    if of not in OF:
        raise unknown("kind of matrices", of, OF, 'of is "weights" or "gradients".')
    text = {"corpus": corpus, "n_batches": n_batches, "batch_size": batch_size, "length": length, "seed": seed}
    if of == "weights":
        check_effect(spectra, text, 'weights depend on no text. Leave it out, or set of="gradients".')
    model = load_model(model)
    blocks = plans(model, positions(model.name, model.n_layers, layers, "matrices"))
    chosen = _chosen(parts)
    about: dict[str, Any] = {"of": of, "model": model.provenance, "versions": versions()}
    if of == "weights":
        found = list(_of_weights(model, blocks, chosen, heads))
    else:
        batches = Batches.of(model, corpus, n_batches, batch_size, length, seed)
        about |= batches.provenance | {"seed": seed, "ov": "dW_O W_V + W_O dW_V"}
        found = list(_of_gradients(model, blocks, chosen, heads, batches))
    if not found:
        raise InputError(f"{model.name} has no {' or '.join(chosen)}. Leave parts out.")
    table = pd.DataFrame(found)
    table.attrs = {"model": model.name, "of": of, "provenance": as_json(about)}
    return table


def _chosen(parts: str | Sequence[str]) -> list[str]:
    if isinstance(parts, str):
        parts = PARTS if parts == "all" else [parts]
    if not isinstance(parts, Sequence):
        raise InputError(f'parts={parts!r}; expected "all" or some of {", ".join(PARTS)}.')
    for part in parts:
        if part not in PARTS:
            raise unknown("part", part, PARTS)
    if not parts:
        raise InputError(f'parts is empty; expected "all" or some of {", ".join(PARTS)}.')
    return list(parts)


def _of_weights(
    model: Model, blocks: Mapping[int, BlockPlan], parts: list[str], heads: bool
) -> Iterator[dict[str, Any]]:
    for layer in steps(blocks, f"weights of {model.name}", "layer"):
        weights = blocks[layer].read(exact)
        yield from _rows(model, "weights", {"layer": layer}, labelled(weights, heads), parts, PRECISE)


def _of_gradients(
    model: Model, blocks: Mapping[int, BlockPlan], parts: list[str], heads: bool, batches: Batches
) -> Iterator[dict[str, Any]]:
    precision = torch.finfo(model.dtype).eps
    for batch, found in enumerate(gradients(model, parameters_of(blocks), batches), 1):
        for layer in steps(blocks, f"ranks of gradients, batch {batch}", "layer"):
            weights = blocks[layer].read(exact)
            changes = blocks[layer].read(lambda parameter, found=found: exact(found[parameter]))  # type: ignore[misc]
            labels = {"batch": batch, "layer": layer}
            yield from _rows(model, "gradients", labels, labelled_gradients(weights, changes, heads), parts, precision)


def _rows(
    model: Model, of: str, labels: dict[str, int], matrices: Iterable[Labelled], parts: list[str], precision: float
) -> Iterator[dict[str, Any]]:
    for each in matrices:
        if each.part not in parts:
            continue
        head = WHOLE if each.head is None else each.head
        if not all(factor.isfinite().all() for factor in each.factors):
            raise not_finite(model, f"in {each.part} of layer {labels['layer']}")
        s = singular_values(*each.factors)
        if not s[0] > 0:
            place = ", ".join(f"{name} {number}" for name, number in labels.items())
            raise InputError(
                f"The {of} of {model.name} at {place}, part {each.part}, head {head} are all 0, so their ranks are "
                "undefined. Choose other layers or parts."
            )
        rows, columns = each.shape
        of_matrix = {"part": each.part, "head": head, "rows": rows, "columns": columns, "dimension": len(s)}
        yield labels | of_matrix | numbers(s, rounding(each.shape, precision))
