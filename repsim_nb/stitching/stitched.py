"""Two models joined by a map, the penalty, and where it arises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
from repsim_nb.stitching.entries import fit_entries
from repsim_nb.stitching.fitting import STEPS, Method, Seam
from repsim_nb.stitching.ground import Ground, logits_from
from repsim_nb.stitching.joined import common_ground, join
from repsim_nb.stitching.maps import Map
from repsim_nb.stitching.shared import collated, states_at_receiver, stretches
from repsim_nb.stitching.task import Losses

N_FIT = 1024
RESAMPLES = 2000


@dataclass(frozen=True)
class Stitched:
    """The sender's lower layers, a map and the receiver's upper layers.

    Losses and penalties are in nats per token, or nats per example for classifiers.

    Attributes
    ----------
    seam
        Both models, unchanged, and the layers where they are joined.
    map
        The fitted map, a torch module (..., d_sender) -> (..., d_receiver).
    method
        How the map was fitted.
    history
        Learning curve of the gradient fit, DataFrame(step, fit_loss, stop_loss); a single line for other fits.
    losses, receiver_losses, mean_losses
        Losses on the report documents, per token or example: of the stitched model, of the receiver alone, and of the
        receiver given its own mean activation at `into`.
    ground
        The documents, and cached activations on them.
    raced
        Whether a race between entries stopped the fit early; see `stitching_table`.

    Notes
    -----
    The penalty is an upper bound on what the receiver cannot use: a better fit (more text in `n_fit`, more steps, a
    richer map) lowers it. A low penalty shows that a map exists, not that the two models compute the same thing.
    """

    seam: Seam
    map: Map
    method: Method
    history: pd.DataFrame
    losses: Losses
    receiver_losses: Losses
    mean_losses: Losses
    ground: Ground
    raced: bool = False

    @property
    def sender(self) -> Model:
        """The model whose lower layers are used."""
        return self.seam.sender

    @property
    def receiver(self) -> Model:
        """The model whose upper layers are used."""
        return self.seam.receiver

    @property
    def layer(self) -> int:
        """Layer of the sender that is read."""
        return self.seam.layer

    @property
    def into(self) -> int:
        """Layer of the receiver that is replaced."""
        return self.seam.into

    @property
    def loss(self) -> float:
        """Mean loss of the stitched model."""
        return self.losses.mean

    @property
    def receiver_loss(self) -> float:
        """Mean loss of the receiver alone on the same text."""
        return self.receiver_losses.mean

    @property
    def accuracy(self) -> float:
        """Share of next tokens, or of examples, that the stitched model predicts correctly, 0 to 1."""
        return self.losses.accuracy

    @property
    def receiver_accuracy(self) -> float:
        """The same share for the receiver alone."""
        return self.receiver_losses.accuracy

    @property
    def penalty(self) -> float:
        """loss - receiver_loss (Bansal et al. 2021). 0 means that the sender provides all the receiver needs."""
        return float((self.losses.nats.astype(np.float64) - self.receiver_losses.nats).mean())

    @property
    def recovered(self) -> float:
        """Share of the mean-ablation loss that the sender recovers.

        1 means no penalty, 0 no better than the receiver's mean activation; negative is worse than that.
        """
        return 1 - self.penalty / (self.mean_losses.mean - self.receiver_loss)

    @property
    def bits_per_byte(self) -> float:
        """Loss of the stitched model in bits per byte of predicted text, comparable between tokenizers.

        If the sender has another tokenizer, only some of the tokens are predicted.

        Raises
        ------
        InputError
            If the models are classifiers, which predict no text.
        """
        if self.receiver.kind != "causal":
            raise InputError(f"{self.receiver.name} is a classifier and predicts no text; use .loss and .accuracy.")
        return float(self.losses.nats.sum(dtype=np.float64) / np.log(2) / self.ground.bytes_predicted(self.receiver))

    @cached_property
    def documents(self) -> pd.DataFrame:
        """Per report document (index: name): number of tokens or examples, losses and accuracies."""
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
        """Percentile bootstrap of the penalty over documents. It treats the fitted map as fixed."""
        own = self.receiver_losses.by_document()
        excess = self.losses.by_document().nats - own.nats
        drawn = document_draws(len(own), np.random.default_rng(seed), RESAMPLES)
        ratios = drawn @ excess.to_numpy() / (drawn @ own.predictions.to_numpy())
        low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def logits(self, batch: Batch | Texts) -> Tensor:
        """Logits of the stitched model, (sequences, length, vocabulary) or (sequences, classes) for classifiers.

        Parameters
        ----------
        batch
            A batch of the receiver, or texts. Models with different tokenizers need texts.

        Raises
        ------
        InputError
            If a batch is given and the sender has a different tokenizer.
        """
        own, batch = self._batches(batch)
        with torch.no_grad():
            hidden = self.sender.run(self.sender.embed(own), 0, self.layer, own)
            mapped = self.map(states_at_receiver(hidden, own, batch)).to(self.receiver.device)
            return logits_from(self.receiver, mapped, self.into, batch)

    def _batches(self, given: Batch | Texts) -> tuple[Batch, Batch]:
        """The same text as a batch of the sender and of the receiver."""
        if self.sender.windows.text_key == self.receiver.windows.text_key:
            batch = given if isinstance(given, Batch) else self.receiver.batch(given)
            return batch.to(self.sender.device), batch
        if isinstance(given, Batch):
            raise InputError(
                f"{self.sender.name} and {self.receiver.name} have different tokenizers, and a batch holds tokens of "
                "only one. Pass the texts instead: logits([...])."
            )
        both = self.sender, self.receiver
        windows, *_ = stretches(
            tuple(m.windows for m in both), tuple(m.context for m in both), tuple(cast(Sequence[str], given))
        )
        if not windows:
            raise InputError("No token of the sender ends at the same character of this text as one of the receiver.")
        return collated(self.sender, windows), collated(self.receiver, windows)

    def predictions(self, prompt: str | tuple[str, str], top: int = 5) -> pd.DataFrame:
        """Compare the predictions of sender, receiver and stitched model for `prompt`.

        Parameters
        ----------
        prompt
            A text, or for classifiers also a pair of texts.
        top
            Number of next tokens to show; classifiers show all labels.

        Returns
        -------
        pandas.DataFrame
            The most likely next tokens, one line per rank, with columns (model, "token" | "probability"). For
            classifiers the probabilities, one line per label and one column per model.
        """
        texts = [prompt] if isinstance(prompt, str) else prompt
        if not all(isinstance(text, str) and text.strip() for text in texts) or not texts:
            raise InputError(f"prompt={prompt!r}; expected a non-empty text.")
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
        """The predicted tokens or examples with the largest penalty.

        Parameters
        ----------
        n
            Number of tokens or examples.

        Returns
        -------
        pandas.DataFrame
            DataFrame(document, before, token, receiver_loss, loss, cost), the last three in nats, largest cost first.
            `before` is the text in front of the token. For classifiers `before` and `token` are replaced by premise,
            hypothesis (or text), label and case, if the corpus has them.
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
        """Models, map, documents and seed, as one JSON string."""
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
    """Feed the sender's activations at `layer` through a fitted map into the receiver, and measure the penalty.

    Both models stay unchanged; only the map is fitted. The map is fitted on other documents than those reported on,
    and the gradient fit uses a third set for early stopping. Penalties are in nats per token for causal models and in
    nats per example for classifiers.

    Causal models may have different tokenizers. Each token of the receiver then gets the mapped state of the sender's
    last token that ends no later in the text. The loss with and without the stitch is taken on the same tokens: those
    before which both models have read exactly the same text (see `stitching.shared`).

    Parameters
    ----------
    sender, receiver
        Two causal models, or two classifiers with the same tokenizer and the labels of the corpus; or anything that
        `load_model` takes. If the labels are entailment and non-entailment and a classifier has more classes, all of
        them except "entailment" count as non-entailment.
    layer
        Layer of the sender's residual stream, 0 (embedding) to n_layers; negative values count from the end.
    corpus
        Text for fitting and reporting. None means the one that the models were made for, "python-docs" or
        "nli-heuristics". These are fitted on their split "validation" and reported on "test". Other corpora are split
        by document, unless map="identity", which has nothing to fit. Classifiers need labels.
    map
        "identity", "orthogonal" (rotation, scale, shift), "affine", "affine_norm" (LayerNorm, then affine: the form of
        the paper) or "low_rank" (affine with rank `rank`).
    fit
        "least_squares" to the receiver's activations, or "gradient": from there, Adam on the receiver's loss with early
        stopping.
    into
        Layer of the receiver; None takes `layer`.
    seed
        Seed for the sample of windows, the split of the documents and the order of batches.
    rank
        Rank of map="low_rank".
    steps, warmup
        Maximum number of gradient steps, of 8 windows or 64 examples each, and how many of them warm up the learning
        rate.
    n_fit, n_report
        Maximum number of windows, or examples, to fit on and to report on. n_report=None means 192 windows or 1,024
        examples.
    shuffle
        As a control, give the receiver the sender's activations at other, random positions.

    Returns
    -------
    Stitched
        The stitched model with its losses and penalty.

    Raises
    ------
    InputError
        If the map, fit or layer is unknown, the kinds of models differ, classifiers have different tokenizers, the
        tokenizers share too few token boundaries, labels are missing or do not match, or there are too few documents.

    Notes
    -----
    The penalty depends on how much text the map was fitted on (`n_fit`), on `steps` and on the family of maps: compare
    penalties only with equal settings. A richer map can lower the penalty by computing what the sender does not; the
    controls are shuffle=True, map="identity" and a map from an untrained sender.

    References
    ----------
    Lenc and Vedaldi 2015; Bansal, Nakkiran and Barak 2021, "Revisiting model stitching to compare neural
    representations".

    Examples
    --------
    >>> stitched = stitch("tiny-neox-w32-d2", "tiny-neox-w32-d2", 1, map="identity", n_report=4)
    >>> round(abs(stitched.penalty), 4)
    0.0
    """
    method = Method(map, fit, rank, steps, warmup)
    seam = join(load_model(sender), load_model(receiver), layer, into, shuffle)
    ground = common_ground([seam.sender, seam.receiver], corpus, n_fit, n_report, seed, method.fits, [seam])
    return stitch_on(ground, seam, method)


def stitch_on(ground: Ground, seam: Seam, method: Method) -> Stitched:
    """`stitch` on documents shared with other stitches."""
    (stitched,) = stitches_on(ground, [seam], method)
    return stitched


def stitches_on(ground: Ground, seams: Sequence[Seam], method: Method, race: float | None = None) -> Iterator[Stitched]:
    """Stitch one cut of a sender into several entries of a receiver, as `fit_entries` does, one after the other."""
    for seam, fitted in zip(seams, fit_entries(ground, seams, method, race), strict=True):
        receiver, map_ = seam.receiver, fitted.map.requires_grad_(False)
        with torch.no_grad():
            each = zip(seam.sent(ground, "report"), ground.batches_of(receiver)["report"], strict=True)
            losses = ground.losses(receiver, (logits_from(receiver, map_(h), seam.into, b) for h, b in each))
        own, mean = ground.losses_of(receiver), ground.losses_of_mean(receiver, seam.into)
        yield Stitched(seam, map_, method, fitted.history, losses, own, mean, ground, fitted.raced)


def document_draws(documents: int, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Number of times each document is drawn in each bootstrap resample, (resamples, documents)."""
    return rng.multinomial(documents, np.full(documents, 1 / documents), resamples)
