"""A probe or a direction found in one model, carried through a fitted map, and tested in another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repsim_nb.errors import InputError, named_arguments
from repsim_nb.models import Model, load_model
from repsim_nb.stitching.fitting import Method, Seam, least_squares
from repsim_nb.stitching.ground import Ground, logits_from
from repsim_nb.stitching.linear_probe import LinearProbe
from repsim_nb.stitching.maps import Map
from repsim_nb.stitching.shared import paired_tokens
from repsim_nb.stitching.stitched import N_FIT, RESAMPLES, common_ground, document_draws, join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repsim_nb.corpora import Corpus

OWN, CARRIED, TRAINED, RANDOM = "its own, in the source", "carried", "found in the target", "random"
RANDOM_MAPS, RANDOM_DIRECTIONS = 20, 5
Labels = Mapping[str, Any] | Callable[[str], Any] | None


@dataclass(frozen=True)
class PairedRows:
    """Rows of both models at the same places of one part of the documents.

    Attributes
    ----------
    source, target
        Activations, (rows, width).
    document
        Index of the document of each row.
    classes
        The class of each row, as an index.
    """

    source: Tensor
    target: Tensor
    document: np.ndarray
    classes: np.ndarray


@named_arguments()
def transfer_probe(
    source: Model | str,
    target: Model | str,
    layer: int,
    labels: Labels = None,
    corpus: Corpus | str | Sequence[str] | None = None,
    map: str = "affine",
    into: int | None = None,
    seed: int = 0,
    *,
    rank: int = 8,
    n_fit: int = N_FIT,
    n_report: int | None = None,
) -> pd.DataFrame:
    """Train a linear probe on one model, and read another model with it, through a map fitted by least squares.

    The map turns the target's activations into the source's; the probe stays as it was trained. Probe and map are
    fitted on the same documents, and all accuracies are of other documents.

    Parameters
    ----------
    source, target
        Two causal models, or two classifiers with one tokenizer; or anything that `load_model` takes. The probe is
        trained on the source.
    layer
        Layer of the source.
    labels
        The class of every document: name -> class, as a mapping or a function. None takes the labels of the corpus.
    corpus, map, seed, rank, n_fit, n_report
        As in `stitch`.
    into
        Layer of the target; None takes `layer`.

    Returns
    -------
    pandas.DataFrame
        Balanced accuracy of single tokens (`value`, with `low` and `high` from a 95% bootstrap over documents), and how
        much it is above or below the probe's own in the source (`less_own`, with both ends, in the same resamples).
        Index: "its own, in the source", "carried", "found in the target" (a probe trained there) and "random" (through
        random maps with the right mean and scale; the mean over 20 maps, between the ends of 95% of them).
        attrs["chance"] is one over the number of classes.

    Raises
    ------
    InputError
        As for `stitch`, or if a document has no class or all have the same.

    Notes
    -----
    Tokens of one document share their class, so documents are what the intervals are over. A probe that is carried well
    shows that the map keeps what the probe reads, not that the target uses it.

    References
    ----------
    Chen et al. 2025, on probes and steering vectors carried between models by linear maps.

    Examples
    --------
    >>> kind = lambda document: document.split(":")[0]  # code or prose
    >>> found = transfer_probe("tiny-neox-w32-d2", "tiny-neox-w64-d2", 1, kind, n_fit=64, n_report=32)
    >>> found.index.tolist()
    ['its own, in the source', 'carried', 'found in the target', 'random']
    """
    method = Method(map, "least_squares", rank)
    one, other = load_model(source), load_model(target)
    (place,) = one.positions(layer)
    seam = join(other, one, place if into is None else into, place)
    ground = _ground(one, other, corpus, n_fit, n_report, seed, seam, method)
    classes = _classes(labels, ground)
    fit, report = (_rows(ground, seam, part, classes) for part in (ground.matched, "report"))
    names = sorted({*fit.classes.tolist()})
    own, theirs = (LinearProbe.fitted(rows, fit.classes) for rows in (fit.source, fit.target))
    carry = _fitted(seam, ground, method)
    right = {
        OWN: own(report.source) == report.classes,
        CARRIED: own(carry(report.target)) == report.classes,
        TRAINED: theirs(report.target) == report.classes,
    }
    counts = _Counted(report.document, report.classes)
    drawn = document_draws(len(counts.documents), np.random.default_rng([seed, 7]), RESAMPLES)
    lines = {name: counts.accuracies(values, drawn) for name, values in right.items()}
    table = _table(lines)
    chances = [counts.accuracies(own(x) == report.classes, drawn[:0])[0] for x in _random_maps(fit, report, seed)]
    table.loc[RANDOM, ["value", "low", "high"]] = np.array([np.mean(chances), *np.quantile(chances, [0.025, 0.975])])
    words = {"chance": 1 / len(names), "long_name": "balanced accuracy of single tokens"}
    return _described(table, words, seam, ground, method)


@named_arguments()
def transfer_direction(
    source: Model | str,
    target: Model | str,
    layer: int,
    labels: Labels = None,
    corpus: Corpus | str | Sequence[str] | None = None,
    map: str = "affine",
    into: int | None = None,
    seed: int = 0,
    *,
    direction: Any = None,
    strength: float = 1.0,
    rank: int = 8,
    n_fit: int = N_FIT,
    n_report: int | None = None,
) -> pd.DataFrame:
    """Steer one model with a direction found in another, carried through a map fitted by least squares.

    The effect of a direction is how far it moves predictions towards the tokens of one class of documents: half the
    difference, between adding it to the states at all positions and taking it away, of the expected log-odds that the
    next token has in one class against the other.

    Parameters
    ----------
    source, target
        Two causal models, or anything that `load_model` takes.
    layer
        Layer of the source.
    labels
        As in `transfer_probe`, with two classes; effects are towards the first of them in alphabetical order.
    corpus, map, seed, rank, n_fit, n_report
        As in `stitch`.
    into
        Layer of the target; None takes `layer`.
    direction
        A vector of the source, (d_model,). None takes the difference of the means of the two classes.
    strength
        What the direction is multiplied with, here and there.

    Returns
    -------
    pandas.DataFrame
        The effect in nats (`value`, with `low` and `high` from a 95% bootstrap over documents), and how much it is
        above or below the direction's own effect in the source (`less_own`, with both ends). `cosine` is that with the
        difference of means in the target. Index: "its own, in the source", "carried", "found in the target" (the
        difference of means there) and "random" (as long as what was carried; the mean over 5, from the lowest to the
        highest).

    Raises
    ------
    InputError
        As for `transfer_probe`, or if there are not two classes, the models are not causal, or the direction does not
        fit the source.

    Examples
    --------
    >>> kind = lambda document: document.split(":")[0]  # code or prose
    >>> found = transfer_direction("tiny-neox-w32-d2", "tiny-neox-w64-d2", 1, kind, n_fit=64, n_report=16)
    >>> bool(found.value["found in the target"] > 0)
    True
    """
    method = Method(map, "least_squares", rank)
    one, other = load_model(source), load_model(target)
    if {one.kind, other.kind} != {"causal"}:
        raise InputError(f"{one.name} and {other.name}: only causal models are steered. Use transfer_probe.")
    seam = join(one, other, layer, into)
    ground = _ground(one, other, corpus, n_fit, n_report, seed, seam, method)
    classes = _classes(labels, ground)
    fit = _rows(ground, seam, ground.matched, classes)
    if len({*fit.classes.tolist()}) != 2:
        raise InputError(f"Steering needs two classes of documents, got {len({*fit.classes.tolist()})}.")
    vector = _means_apart(fit.source, fit.classes) if direction is None else _vector(direction, one)
    carry, mean = _fitted(seam, ground, method), fit.source.mean(0)
    carried = (carry((mean + vector)[None]) - carry(mean[None]))[0]
    theirs = _means_apart(fit.target, fit.classes)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.nn.functional.normalize(torch.randn(RANDOM_DIRECTIONS, len(carried), generator=generator))
    steps = [carried, theirs, *(carried.norm() * step for step in noise)]
    effects = [_effect(ground, one, seam.layer, strength * vector, _odds(one, ground, classes))]
    odds = _odds(other, ground, classes)
    effects += [_effect(ground, other, seam.into, strength * step, odds) for step in steps]
    drawn = document_draws(len(effects[0][0]), np.random.default_rng([seed, 7]), RESAMPLES)
    lines = {name: _ratio(*effect, drawn) for name, effect in zip((OWN, CARRIED, TRAINED), effects, strict=False)}
    table = _table(lines)
    random = [_ratio(*effect, drawn[:0])[0] for effect in effects[3:]]
    table.loc[RANDOM, ["value", "low", "high"]] = np.array([np.mean(random), min(random), max(random)])
    random_cosine = float(np.mean([_cosine(step, theirs) for step in noise]))
    table["cosine"] = [np.nan, _cosine(carried, theirs), 1.0, random_cosine]
    words = {"chance": 0.0, "long_name": "effect on the next token's log-odds (nats)"}
    return _described(table, words, seam, ground, method)


def _ground(
    one: Model, other: Model, corpus: Any, n_fit: int, n_report: int | None, seed: int, seam: Seam, method: Method
) -> Ground:
    if not method.fits:
        raise InputError("map='identity' carries nothing. Use 'affine', 'orthogonal', 'affine_norm' or 'low_rank'.")
    return common_ground([one, other], corpus, n_fit, n_report, seed, True, [seam])


def _fitted(seam: Seam, ground: Ground, method: Method) -> Map:
    map_ = method.new_map(seam)
    least_squares([map_], [seam], ground)
    map_.requires_grad_(False)
    return map_.cpu()


def _classes(labels: Labels, ground: Ground) -> dict[str, np.ndarray]:
    """Part -> class of each of its documents as an index, the names of all classes in alphabetical order."""
    named: dict[str, list[str]] = {}
    for part in (ground.matched, "report"):
        corpus = ground.corpora[part]
        if labels is None and corpus.labels is None:
            raise InputError(f"{corpus!r} has no labels. Pass labels, a function or mapping: document -> class.")
        given = corpus.labels if labels is None else [_label(labels, name) for name in corpus.documents]
        named[part] = [str(label) for label in given or ()]
    used = sorted({named[part][window.text] for part in named for window in ground.windows[part]})
    if len(used) < 2:
        raise InputError(f"All documents have the class {used[0]!r}; a probe needs at least two classes.")
    return {part: np.array([used.index(x) if x in used else -1 for x in names]) for part, names in named.items()}


def _label(labels: Any, document: str) -> Any:
    try:
        return labels(document) if callable(labels) else labels[document]
    except KeyError:
        raise InputError(f"labels has no class for the document {document!r}; every document needs one.") from None


def _rows(ground: Ground, seam: Seam, part: str, classes: dict[str, np.ndarray]) -> PairedRows:
    """Text tokens of a part at which both models have a state; the seam's sender is the source if it comes first."""
    sent, received, documents = [], [], []
    batches = ground.batches_of(seam.receiver)[part]
    states = zip(seam.sent(ground, part), ground.hidden(seam.receiver, seam.into, part), batches, strict=True)
    for x, y, batch in states:
        kept = paired_tokens(batch).cpu() & batch.carries_text.cpu()
        sent.append(x.cpu()[kept].float())
        received.append(y.cpu()[kept].float())
        documents.append(batch.texts[:, None].expand(kept.shape)[kept].numpy())
    document = np.concatenate(documents)
    both = torch.cat(received), torch.cat(sent)
    first = ground.models[0] is seam.sender
    source, target = both[::-1] if first else both
    return PairedRows(source, target, document, classes[part][document])


class _Counted:
    """Right and wrong rows per document and class."""

    def __init__(self, document: np.ndarray, classes: np.ndarray) -> None:
        self.documents, self.place = np.unique(document, return_inverse=True)
        self.classes = np.unique(classes)
        self.of_class = [np.bincount(self.place, classes == c, len(self.documents)) for c in self.classes]
        self.row_class = classes

    def accuracies(self, right: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Mean over classes of the share of right rows: of all documents, then of every resample."""
        weights = np.vstack([np.ones(len(self.documents)), drawn])
        shares = []
        for c, total in zip(self.classes, self.of_class, strict=True):
            hits = np.bincount(self.place, right & (self.row_class == c), len(self.documents))
            below = weights @ total
            shares.append(np.divide(weights @ hits, below, out=np.full(len(weights), np.nan), where=below > 0))
        return np.asarray(np.nanmean(shares, axis=0))


def _random_maps(fit: PairedRows, report: PairedRows, seed: int) -> list[Tensor]:
    """The target's report rows through random maps that give the source's mean and scale."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(RANDOM_MAPS):
        turn = torch.randn(fit.target.shape[1], fit.source.shape[1], generator=generator)
        mapped = (fit.target - fit.target.mean(0)) @ turn
        scale = fit.source.var(0).sum().sqrt() / mapped.var(0).sum().sqrt()
        made.append((report.target - fit.target.mean(0)) @ turn * scale + fit.source.mean(0))
    return made


def _table(lines: dict[str, np.ndarray]) -> pd.DataFrame:
    """Value and interval of each line, and of its distance from the first one in the same resamples."""
    own = lines[OWN]
    rows = {}
    for name, line in lines.items():
        ends, apart = np.nanquantile(line[1:], [0.025, 0.975]), np.nanquantile((line - own)[1:], [0.025, 0.975])
        rows[name] = [line[0], *ends, line[0] - own[0], *apart]
    columns = ["value", "low", "high", "less_own", "less_own_low", "less_own_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _described(table: pd.DataFrame, words: dict[str, Any], seam: Seam, ground: Ground, method: Method) -> pd.DataFrame:
    about = {
        "sender": seam.sender.provenance,
        "receiver": seam.receiver.provenance,
        "layer": seam.layer,
        "into": seam.into,
        **asdict(method),
        **ground.provenance,
    }
    table.attrs |= words | {"provenance": json.dumps(about, sort_keys=True)}
    return table


def _means_apart(rows: Tensor, classes: np.ndarray) -> Tensor:
    """Mean of the first class less that of the second."""
    first = torch.from_numpy(classes == 0)
    return rows[first].mean(0) - rows[~first].mean(0)


def _vector(direction: Any, model: Model) -> Tensor:
    vector = torch.as_tensor(direction, dtype=torch.float32)
    if tuple(vector.shape) != (model.d_model,) or not vector.isfinite().all() or not vector.any():
        raise InputError(
            f"direction has shape {tuple(vector.shape)}; expected {model.d_model} finite numbers, the width of "
            f"{model.name}, not all of them 0."
        )
    return vector


def _odds(model: Model, ground: Ground, classes: dict[str, np.ndarray]) -> Tensor:
    """Log-odds of every token in documents of the first class against the second, from the documents for fitting."""
    size = model.vocabulary or len(model.tokenizer)
    counts = np.ones((2, size))
    for batch in ground.batches_of(model)[ground.matched]:
        kept = batch.mask.cpu() & batch.carries_text.cpu()
        ids, document = batch.ids.cpu()[kept].numpy(), batch.texts[:, None].expand(kept.shape)[kept].numpy()
        for number in (0, 1):
            counts[number] += np.bincount(ids[classes[ground.matched][document] == number], minlength=size)
    logs = np.log(counts / counts.sum(1, keepdims=True))
    return torch.from_numpy(logs[0] - logs[1]).float()


@torch.no_grad()
def _effect(ground: Ground, model: Model, layer: int, step: Tensor, odds: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Half the difference in expected log-odds between adding and taking away a step: sums and counts per document."""
    step, odds = step.to(model.device), odds.to(model.device)
    moved, documents = [], []
    batches = ground.batches_of(model)["report"]
    for hidden, batch in zip(ground.hidden(model, layer, "report"), batches, strict=True):
        expected = []
        for sign in (1, -1):
            scores = ground.task.scores(model, logits_from(model, hidden + sign * step, layer, batch), batch)
            expected.append(scores.float().softmax(-1) @ odds[: scores.shape[-1]])
        moved.append(((expected[0] - expected[1]) / 2).cpu())
        documents.append(ground.task.documents(batch))
    index = torch.cat(documents).numpy()
    place = np.unique(index, return_inverse=True)[1]
    return np.bincount(place, torch.cat(moved).double().numpy()), np.bincount(place)


def _ratio(above: np.ndarray, below: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Mean over tokens: of all documents, then of every resample."""
    weights = np.vstack([np.ones(len(above)), drawn])
    return np.asarray((weights @ above) / (weights @ below))


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))
