"""Two models joined by a map, what that costs, and where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repsim_nb.corpora import Corpus
from repsim_nb.errors import InputError, named_arguments
from repsim_nb.models import Batch, Model, load_model
from repsim_nb.models.batch import Texts
from repsim_nb.stitching.fitting import STEPS, Method, Seam, descend, least_squares
from repsim_nb.stitching.ground import Ground, logits_from
from repsim_nb.stitching.maps import Map
from repsim_nb.stitching.shared import collated, states_at_receiver, stretches
from repsim_nb.stitching.task import KINDS, Losses

N_FIT = 1024
RESAMPLES = 2000


@dataclass(frozen=True)
class Stitched:
    """A sender's lower part, a map and a receiver's upper part.

    Losses are in nats per token of text, or of classifiers in nats per example: the unit of `penalty` wherever none is
    named.

    Attributes
    ----------
    seam
        Both models, unchanged, and where they are joined.
    map
        The fitted map, a torch module (..., d_sender) -> (..., d_receiver).
    method
        How it was fitted.
    history
        Learning curve of the gradient fit, DataFrame(step, fit_loss, stop_loss); one line for other fits.
    losses, receiver_losses, mean_losses
        Of every token predicted, or example labelled, on the documents to report on: stitched, the receiver alone, and
        the receiver fed its own mean activation at `into`.
    ground
        The documents.
    """

    seam: Seam
    map: Map
    method: Method
    history: pd.DataFrame
    losses: Losses
    receiver_losses: Losses
    mean_losses: Losses
    ground: Ground

    @property
    def sender(self) -> Model:
        """The model whose lower part is used."""
        return self.seam.sender

    @property
    def receiver(self) -> Model:
        """The model whose upper part is used."""
        return self.seam.receiver

    @property
    def layer(self) -> int:
        """Position of the sender that is read."""
        return self.seam.layer

    @property
    def into(self) -> int:
        """Position of the receiver that is written."""
        return self.seam.into

    @property
    def loss(self) -> float:
        """Of the stitched model."""
        return self.losses.mean

    @property
    def receiver_loss(self) -> float:
        """Of the receiver alone on the same text."""
        return self.receiver_losses.mean

    @property
    def accuracy(self) -> float:
        """Share of next tokens, or of examples, that the stitched model has right, 0 to 1."""
        return self.losses.accuracy

    @property
    def receiver_accuracy(self) -> float:
        """The same of the receiver alone."""
        return self.receiver_losses.accuracy

    @property
    def penalty(self) -> float:
        """loss - receiver_loss (Bansal et al. 2021); 0: the sender says all that the receiver needs."""
        return float((self.losses.nats.astype(np.float64) - self.receiver_losses.nats).mean())

    @property
    def recovered(self) -> float:
        """Share that the sender gives back of what the receiver loses when fed its mean activation.

        1 for no penalty, 0 for no better than the mean, below 0 for worse.
        """
        return 1 - self.penalty / (self.mean_losses.mean - self.receiver_loss)

    @property
    def bits_per_byte(self) -> float:
        """Loss of the stitched model per byte of the text that is predicted, in bits: comparable between tokenizers.

        Of a sender with another tokenizer, that text is some of the tokens alone.

        Raises
        ------
        InputError
            Classifiers, which predict no text.
        """
        if self.receiver.kind != "causal":
            raise InputError(f"{self.receiver.name} is a classifier, which predicts no bytes; see .loss and .accuracy.")
        return float(self.losses.nats.sum(dtype=np.float64) / np.log(2) / self.ground.bytes_predicted(self.receiver))

    @cached_property
    def documents(self) -> pd.DataFrame:
        """Per document reported on (index: name): how many tokens or examples; loss, receiver_loss and accuracies."""
        own, stitched = self.receiver_losses.by_document(), self.losses.by_document()
        names = self.ground.corpora["report"].documents
        return pd.DataFrame(
            {
                f"{self.ground.task.noun}s": own.predictions,
                "loss": stitched.nats / own.predictions,
                "receiver_loss": own.nats / own.predictions,
                "accuracy": stitched.right / own.predictions,
                "receiver_accuracy": own.right / own.predictions,
            }
        ).set_axis(pd.Index([names[i] for i in own.index], name="document"))

    def interval(self, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
        """Percentile bootstrap of the penalty over documents."""
        own = self.receiver_losses.by_document()
        excess = self.losses.by_document().nats - own.nats
        drawn = document_draws(len(own), np.random.default_rng(seed), RESAMPLES)
        ratios = drawn @ excess.to_numpy() / (drawn @ own.predictions.to_numpy())
        low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def logits(self, batch: Batch | Texts) -> Tensor:
        """Logits of the stitched model, (sequences, length, vocabulary), or of classifiers (sequences, classes).

        Parameters
        ----------
        batch
            Of the receiver, or texts; models with different tokenizers take texts only.

        Raises
        ------
        InputError
            A batch where the sender has other tokens.
        """
        own, batch = self._batches(batch)
        with torch.no_grad():
            hidden = self.sender.run(self.sender.embed(own), 0, self.layer, own)
            mapped = self.map(states_at_receiver(hidden, own, batch)).to(self.receiver.device)
            return logits_from(self.receiver, mapped, self.into, batch)

    def _batches(self, given: Batch | Texts) -> tuple[Batch, Batch]:
        """The same text in the tokens of sender and receiver."""
        if self.sender.windows.text_key == self.receiver.windows.text_key:
            batch = given if isinstance(given, Batch) else self.receiver.batch(given)
            return batch.to(self.sender.device), batch
        if isinstance(given, Batch):
            raise InputError(
                f"{self.sender.name} and {self.receiver.name} have different tokenizers, and a batch holds the tokens "
                "of one. Give the texts: logits([...])."
            )
        both = self.sender, self.receiver
        windows, *_ = stretches(
            tuple(m.windows for m in both), tuple(m.context for m in both), tuple(cast(Sequence[str], given))
        )
        if not windows:
            raise InputError("No two tokens of sender and receiver end at the same characters of this text.")
        return collated(self.sender, windows), collated(self.receiver, windows)

    def predictions(self, prompt: str | tuple[str, str], top: int = 5) -> pd.DataFrame:
        """What sender, receiver and stitched model make of `prompt`, side by side.

        Parameters
        ----------
        prompt
            Some text; a classifier takes a pair as well.
        top
            How many of the likeliest next tokens; a classifier shows all labels.

        Returns
        -------
        pandas.DataFrame
            DataFrame of the likeliest next tokens, one line per rank, with columns (model, "token" | "probability");
            for classifiers of probabilities, one line per label, one column per model.
        """
        texts = [prompt] if isinstance(prompt, str) else prompt
        if not all(isinstance(text, str) and text.strip() for text in texts) or not texts:
            raise InputError(f"prompt={prompt!r}; expected some text.")
        own, batch = self._batches([prompt])
        with torch.no_grad():
            return self.ground.task.prediction(
                {
                    "sender": (self.sender, self.sender.logits(own), own),
                    "receiver": (self.receiver, self.receiver.logits(batch.to(self.receiver.device)), batch),
                    "stitched": (self.receiver, self.logits([prompt]), batch),
                },
                top,
            )

    def costliest(self, n: int = 20) -> pd.DataFrame:
        """The predicted tokens, or the examples, at which stitching costs most.

        Returns
        -------
        pandas.DataFrame
            DataFrame(document, before, token, receiver_loss, loss, cost), the last three in nats, costliest first;
            `before` is the text in front of the token. For classifiers premise, hypothesis (or text), label and case,
            as far as the corpus has them, in place of `before` and `token`.
        """
        cost = self.losses.nats - self.receiver_losses.nats
        order = np.argsort(-cost, kind="stable")[:n]
        corpus = self.ground.corpora["report"]
        shown = pd.DataFrame(self.ground.task.shown(self.ground.batches_of(self.receiver)["report"], corpus, order))
        shown.insert(0, "document", [corpus.documents[i] for i in self.losses.document[order]])
        nats = {"receiver_loss": self.receiver_losses.nats, "loss": self.losses.nats, "cost": cost}
        return shown.assign(**{name: values[order].astype(float) for name, values in nats.items()})

    @property
    def provenance(self) -> str:
        """Models, map, documents and seed as one JSON string."""
        about: dict[str, Any] = {
            "sender": self.sender.provenance,
            "receiver": self.receiver.provenance,
            "layer": self.layer,
            "into": self.into,
            **asdict(self.method),
            "steps_taken": int(self.history.step.iloc[-1]),
            "shuffled_sender": self.seam.shuffle,
            **self.ground.provenance,
        }
        return json.dumps(about, sort_keys=True)

    def __repr__(self) -> str:
        return (
            f"Stitched({self.sender.name!r} at {self.layer} -> {self.receiver.name!r} at {self.into}, "
            f"penalty {self.penalty:.4f} {self.ground.task.units})"
        )


@named_arguments()
def stitch(
    sender: Model | str,
    receiver: Model | str,
    layer: int,
    corpus: Corpus | str | Sequence[str] | None = None,
    map: str = "affine",
    fit: str = "gradient",
    into: int | None = None,
    seed: int = 0,
    *,
    rank: int = 8,
    steps: int = STEPS,
    warmup: int = 0,
    n_fit: int = N_FIT,
    n_report: int | None = None,
    shuffle: bool = False,
) -> Stitched:
    """Feed what `sender` holds at `layer` through a fitted map to `receiver` at `into`, and measure what that costs.

    Both models stay as they are; only the map is fitted. The documents fitted on and those reported on are always
    different ones, and the gradient fit is stopped by a third set. What it costs is in nats per token for causal
    models, and in nats per example for classifiers.

    Causal models may have different tokenizers. The receiver is then fed, at each of its tokens, the mapped state of
    the sender's last token that ends no later in the text, and nothing of its own; its loss is taken, with and without
    the stitch, on the same tokens: those before which both have read exactly the same text (see `stitching.shared`).

    Parameters
    ----------
    sender, receiver
        Causal models, or classifiers with the same tokenizer that know the labels of the corpus; or anything
        `load_model` takes. Where the corpus says entailment or non-entailment and a classifier has more classes, all
        but "entailment" count as non-entailment.
    layer
        Position in the sender's residual stream, 0 (embedding) to n_layers; negative ones count from the end.
    corpus
        None is the one that the models were made for, "python-docs" or "nli-heuristics". These are fitted on their
        split "validation" and reported on "test"; other corpora are divided by document, unless map="identity", which
        fits nothing and reports on all. Classifiers need one with labels.
    map
        "identity", "orthogonal" (rotation, scale, shift), "affine", "affine_norm" (LayerNorm, then affine: the paper's
        form) or "low_rank" (affine of rank `rank`).
    fit
        "least_squares" of the receiver's activations, or "gradient": from there, Adam on the receiver's loss with early
        stopping, at most `steps` steps of 8 windows or 64 examples, the first `warmup` of them with a rising rate.
    into
        Position in the receiver; None takes `layer`.
    seed
        Seed of the windows, the division into documents and the order of batches.
    n_fit, n_report
        Windows of text, or examples, at most; n_report None is 192 windows or 1,024 examples.
    shuffle
        A control: hand the receiver the sender's activations at other, random places.

    Raises
    ------
    InputError
        Unknown map or fit, a layer that does not exist, models of different kinds, classifiers with different
        tokenizers, tokenizers that share too few places, labels that differ from those of the corpus or are missing
        there, too few documents.
    """
    method = Method(map, fit, rank, steps, warmup)
    seam = join(load_model(sender), load_model(receiver), layer, into, shuffle)
    ground = common_ground([seam.sender, seam.receiver], corpus, n_fit, n_report, seed, method.fits)
    return stitch_on(ground, seam, method)


def stitch_on(ground: Ground, seam: Seam, method: Method) -> Stitched:
    """`stitch` on documents that other stitches share."""
    map_ = method.new_map(seam)
    if method.fits:
        least_squares(map_, seam, ground)
    if method.descends:
        history = descend(map_, seam, ground, method)
    else:
        history = pd.DataFrame({"step": [0], "fit_loss": [np.nan], "stop_loss": [np.nan]})
    map_.requires_grad_(False)
    with torch.no_grad():
        each = zip(seam.sent(ground, "report"), ground.batches_of(seam.receiver)["report"], strict=True)
        losses = ground.losses(seam.receiver, (logits_from(seam.receiver, map_(h), seam.into, b) for h, b in each))
    own, mean = ground.losses_of(seam.receiver), ground.losses_of_mean(seam.receiver, seam.into)
    return Stitched(seam, map_, method, history, losses, own, mean, ground)


def join(sender: Model, receiver: Model, layer: int, into: int | None, shuffle: bool = False) -> Seam:
    """Checked ends of a stitch."""
    for model in (sender, receiver):
        if model.kind not in KINDS:
            raise InputError(f"{model.name} is of kind {model.kind!r}; only {' and '.join(KINDS)} can be stitched.")
    if sender.kind != receiver.kind:
        raise InputError(
            f"{sender.name} is of kind {sender.kind!r} and {receiver.name} of kind {receiver.kind!r}, which predict "
            "different things. Stitch models of one kind."
        )
    if sender.windows.text_key != receiver.windows.text_key and sender.kind != "causal":
        raise InputError(
            f"{sender.name} and {receiver.name} have different tokenizers; of {sender.kind} models only those with the "
            "same one can be stitched."
        )
    (layer,) = sender.positions(layer)
    if into is None and layer > receiver.n_layers:
        raise InputError(
            f"{receiver.name} has positions 0 to {receiver.n_layers}, so layer {layer} of {sender.name} has no "
            "counterpart there; say into=..."
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
    layers: Sequence[int] = (),
) -> Ground:
    """Windows that suit all of these models; `layers` are those that will be asked for."""
    for name, number in (("n_fit", n_fit), ("n_report", 1 if n_report is None else n_report)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"{name}={number!r}; expected a positive whole number.")
    ground = Ground(corpus, models, n_fit, n_report, seed, fits, layers)
    for model in models:
        ground.task.key(model)  # raises where the labels of model and corpus do not meet
    return ground


def document_draws(documents: int, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """How often each document is drawn in each resample, (resamples, documents)."""
    return rng.multinomial(documents, np.full(documents, 1 / documents), resamples)
