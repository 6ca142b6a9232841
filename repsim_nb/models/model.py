"""The model interface: embed, run layers k to m, head."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.batch import Batch, Texts, Window, Windows, collate
from repsim_nb.models.identity import network_sha256
from repsim_nb.models.neutral import NEUTRAL, Neutral
from repsim_nb.models.positions import RESIDUAL, positions
from repsim_nb.models.sentences import SentenceHead, Vectors, of_one_length
from repsim_nb.system.card import card

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Any  # annotations are checked at run time under pytest, without importing transformers

Hidden = Float[Tensor, "sequences length d_model"]
Logits = Float[Tensor, "sequences length vocabulary"] | Float[Tensor, "sequences classes"]
Tap = Callable[[int, Tensor], Any]
HASHED_SEPARATELY = ("name", "module", "tokenizer")  # attributes left out of the settings hash


class Model(ABC):
    """A transformer as a sequence of layers in its residual stream: 0 is the embedding output, l is after block l.

    Attributes
    ----------
    name
        Name given by the user, with `@revision` if there is one.
    kind
        "causal", "classifier" or "encoder".
    sites
        Places where activations can be read: "resid_post" (the residual stream), and for some models "attn_out" and
        "mlp_out" (what attention and MLP add to it), "pre_residual" (what the last addition of a block adds;
        classifiers and encoders) and, for causal models, "mlp_act", "head_out" and "ov"; see `models.sites`.
    n_layers
        Number of blocks; layers run from 0 to n_layers.
    d_model
        Width of the residual stream.
    context
        Maximum sequence length in tokens, special tokens included.
    made_for
        Name of the default corpus.
    neutral
        Whether a text's activations depend on what else is in its batch; see `models.neutral`.
    tokenizer
        Hugging Face tokenizer.
    device, dtype
        Device and precision of the computation.
    pooling
        How a sentence-embedding model turns a text into one vector; None for other models.
    """

    kind: str
    sites: tuple[str, ...] = (RESIDUAL,)
    made_for: str = "python-docs"
    neutral: Neutral = NEUTRAL
    pooling: SentenceHead | None = None
    n_layers: int
    d_model: int
    context: int

    def __init__(self, name: str, module: nn.Module, tokenizer: PreTrainedTokenizerBase, source: dict[str, Any]):
        self.name = name
        self.module = module.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self._source = source

    def __repr__(self) -> str:
        shape = f"{self.n_layers} layers, width {self.d_model}"
        return f"Model({self.name!r}, {self.kind}, {shape}, {str(self.dtype).removeprefix('torch.')} on {self.device})"

    def _repr_html_(self) -> str:
        hashed = "weights_sha256" in vars(self)  # not computed only to be shown: it takes seconds for large models
        made = {"weights_sha256": "see model.provenance"} | (self.provenance if hashed else self._described)
        sentences = [
            f"A {self.kind} model with {self.n_layers} layers of width {self.d_model}, for {self.context:,} tokens.",
            f"Can be read at {', '.join(self.sites)}.",
            f"Computes in {str(self.dtype).removeprefix('torch.')} on {self.device}.",
        ]
        return card(self.name, sentences, made)

    @property
    def device(self) -> torch.device:
        """The device for batches; with a device_map, that of the first part."""
        own = next(self.module.parameters()).device
        if own.type != "meta":
            return own
        places: Any = self.module.hf_device_map  # the weights are offloaded until needed
        return torch.device(next((p for p in places.values() if p not in ("cpu", "disk")), "cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the computation."""
        return next(p.dtype for p in self.module.parameters() if p.is_floating_point())

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of all parameters by name, computed when first needed."""
        return self.hashed()

    def hashed(self) -> str:
        """Hash of all parameters by name, as they are in memory now."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self._weights().items()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def computation(self) -> str:
        """Hash of everything else that values depend on, given tokens: network, settings, precision, device, padding.

        Settings are the public attributes of this object.

        Raises
        ------
        UntraceableError
            If something cannot be hashed; see `models.identity`.
        """
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        settings = {
            name: value for name, value in own.items() if name not in HASHED_SEPARATELY and not _is_cached(self, name)
        }
        return network_sha256(
            self.module,
            settings,
            self.dtype,
            self.device.type,
            self.pad,
            "token_type_ids" in self.tokenizer.model_input_names,
        )

    def fingerprint(self) -> str:
        """A hash that is equal for models with the same values for the same tokens, as they are in memory now.

        Raises
        ------
        UntraceableError
            As for `computation`.
        """
        return hashlib.sha256(f"{self.hashed()} {self.computation()}".encode()).hexdigest()

    def _weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self.module.state_dict()
        if not any(value.is_meta for value in weights.values()):
            return weights
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        return get_state_dict_offloaded_model(self.module)

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, source, revision, hash of the weights, precision and device; for a classifier also its labels.

        For a sentence-embedding model also everything that decides its vectors, under "sentences".
        """
        return self._described | {"weights_sha256": self.weights_sha256}

    @property
    def _described(self) -> dict[str, Any]:
        """The provenance but for the hash."""
        return {
            "model": self.name,
            "kind": self.kind,
            **self._source,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
            **({} if self.pooling is None else {"sentences": self.pooling.about}),
        }

    @cached_property
    def windows(self) -> Windows:
        """Splits texts into windows of the context length: `model.windows(texts)`."""
        return Windows(self.tokenizer, self.context, self.vocabulary)

    @property
    def vocabulary(self) -> int | None:
        """Number of rows of the token embedding; None for architectures without one."""
        try:
            weight: Any = getattr(self.module.get_input_embeddings(), "weight", None)  # type: ignore[operator]
        except (AttributeError, NotImplementedError):
            return None
        return None if weight is None or weight.dim() != 2 else len(weight)

    @property
    def pad(self) -> int:
        """Token id used for padding: that of the padding token, or another one if that has no embedding."""
        given = (self.tokenizer.pad_token_id, getattr(self.module.config, "pad_token_id", None), 0)
        return next(i for i in given if i is not None and 0 <= i < (self.vocabulary or i + 1))

    def collate(self, windows: Sequence[Window], length: int = 0) -> Batch:
        """Collate windows into a batch on the model's device, padded to the longest, or to `length` if that is more.

        Raises
        ------
        InputError
            If the windows would change each other's activations in this model (`neutral`).
        """
        lengths = [len(window) for window in windows]
        self.neutral.check(self.name, lengths, max(length, *lengths))
        batch = collate(windows, self.pad, length)
        if self.vocabulary is not None and int(batch.ids.max()) >= self.vocabulary:
            raise self.windows.beyond(int(batch.ids.max()))
        if "token_type_ids" not in self.tokenizer.model_input_names:  # they may come from another model's windows
            batch = replace(batch, types=None)
        return batch.to(self.device)

    def batch(self, texts: Texts) -> Batch:
        """Tokenize texts or pairs of texts. Texts longer than the context become several sequences; none is truncated.

        Raises
        ------
        InputError
            If there is no text, a string is given instead of a sequence, a pair exceeds the context, or the texts
            would change each other's activations in this model (`neutral`).
        """
        windows = self.windows(texts)
        if not windows:
            raise InputError("Nothing to tokenize: expected at least one non-empty text.")
        return self.collate(windows)

    def pooled(self, batch: Batch) -> Bool[Tensor, "sequences length"]:
        """Mask of the tokens that rows="mean" averages over: those that stand for text."""
        return batch.carries_text.to(self.device)

    @abstractmethod
    def embed(self, batch: Batch) -> Hidden:
        """Layer 0, the embedding output: (sequences, length, d_model)."""

    @abstractmethod
    def _blocks(self, hidden: Hidden, k: int, m: int, batch: Batch, tap: Tap | None) -> Hidden:
        """Run blocks k+1 to m; `tap(layer, hidden)` is called for every layer from k to m."""

    @abstractmethod
    def head(self, hidden: Hidden, batch: Batch) -> Logits:
        """Compute the output from layer n_layers, final norm included.

        Shape (sequences, length, vocabulary), (sequences, classes) for classifiers, or (sequences, length, d_model)
        for encoders without a prediction head.
        """

    def run(self, hidden: Tensor, k: int, m: int, batch: Batch) -> Hidden:
        """Run from layer k to layer m of the residual stream.

        Parameters
        ----------
        hidden
            Layer k, (sequences, length, d_model).
        k, m
            Layers, 0 <= k <= m <= n_layers.
        batch
            The batch that `hidden` comes from; provides mask and positions.

        Returns
        -------
        Tensor
            Layer m, (sequences, length, d_model).

        Raises
        ------
        InputError
            If layers are out of range or in the wrong order, or `hidden` has the wrong shape.
        """
        if not 0 <= k <= m <= self.n_layers:
            raise InputError(f"Cannot run {self.name} from layer {k} to {m}; expected 0 <= k <= m <= {self.n_layers}.")
        self._check(hidden, batch)
        if k == m:
            return hidden
        out = self._blocks(hidden, k, m, batch, None)
        if out.shape != hidden.shape:
            raise InputError(
                f"{self.name} turns shape {tuple(hidden.shape)} into {tuple(out.shape)} from layer {k} to {m}."
            )
        return out

    def logits(self, batch: Batch) -> Logits:
        """Run the whole model; shapes as for `head`."""
        return self.head(self.run(self.embed(batch), 0, self.n_layers, batch), batch)

    def sentences(
        self,
        texts: Texts | Batch,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
    ) -> Vectors:
        """Compute one vector per text, equal to `encode` of sentence-transformers for this model.

        Parameters
        ----------
        texts
            Texts or pairs of texts, truncated to the model's maximum length. Alternatively a batch, which gives one
            vector per sequence and allows no prompt, since it is already tokenized.
        prompt_name
            Name of one of the model's prompts to prepend, such as "query" or "document". None takes the model's
            default prompt, if it has one.
        prompt
            Text to prepend to every text; "" for none.
        batch_size
            Maximum number of texts per forward pass. Only texts of equal length share one, so that none depends on
            another.

        Returns
        -------
        Tensor
            (sequences, width), in the order of the texts.

        Raises
        ------
        InputError
            If this is not a sentence-embedding model or has unsupported modules, the prompt is unknown or combined
            with a batch, or a text has no tokens.

        Notes
        -----
        `extract` and `compare` never prepend a prompt, not even the default one, since its tokens are not part of the
        text. For a model with a default prompt, rows="mean" of the last layer therefore corresponds to
        `sentences(texts, prompt="")`, not to `sentences(texts)`. Modules after the pooling (Dense, Normalize,
        truncation) are applied here only.
        """
        if self.pooling is None:
            raise InputError(
                f"{self.name} is not a sentence-embedding model: it has no modules.json that defines a pooling. "
                'Use rows="mean" or rows="last" of its last layer instead.'
            )
        self.pooling.check()
        before = self.pooling.prompt(prompt_name, prompt)
        if isinstance(texts, Batch):
            if before:
                raise InputError(
                    f"The prompt {before!r:.80} cannot be prepended, since a batch is already tokenized. Pass the "
                    'texts themselves, or prompt="".'
                )
            return self._vectors(texts, 0)
        if isinstance(texts, str) or len(texts) == 0:
            raise InputError(f"Expected a list of at least one text, got {texts!r:.80}. Pass [text].")
        windows = self.pooling.windows(self.tokenizer, texts, before, self.context)
        length = self.pooling.prompt_length(self.tokenizer, before, self.context)
        vectors: dict[int, Tensor] = {}
        for places in of_one_length(windows, batch_size if self.neutral.company else 1):
            batch = self.collate([windows[place] for place in places])
            vectors.update(zip(places, self._vectors(batch, length), strict=True))
        return torch.stack([vectors[place] for place in range(len(windows))])

    def _vectors(self, batch: Batch, prompt: int) -> Vectors:
        """Sentence vectors for sequences whose first `prompt` tokens belong to the prompt."""
        assert self.pooling is not None
        vectors = self.pooling(self._states(batch), batch.mask, prompt)
        if not vectors.isfinite().all():
            raise not_finite(self, "in its sentence vectors")
        return vectors

    def _states(self, batch: Batch) -> Hidden:
        """What transformers calls last_hidden_state, final norm included, for kinds of models that pool it."""
        raise InputError(f"{self.name} has no states to pool.")

    def residuals(self, batch: Batch, layers: Iterable[int], tap: Tap) -> None:
        """Run the model once and call `tap(layer, hidden)` for each of `layers`; stops after the highest one."""
        wanted = set(layers)
        self._check_company(batch)
        with self._checked_tap(batch, wanted, tap) as see:
            hidden = self.embed(batch)
            if max(wanted) == 0:
                see(0, hidden)
            else:
                self._blocks(hidden, 0, max(wanted), batch, lambda p, h: see(p, h) if p in wanted else None)

    def read(self, batch: Batch, layers: Iterable[int], tap: Tap, site: str = RESIDUAL) -> None:
        """Like `residuals`, at any site. Inside blocks, layer l belongs to block l and there is no layer 0.

        Raises
        ------
        InputError
            If this model does not have the site.
        """
        self._check_site(site)
        if site == RESIDUAL:
            self.residuals(batch, layers, tap)
        else:
            self._check_company(batch)
            with self._checked_tap(batch, layers, tap, self.width(site)) as see:
                self._read_inside(batch, sorted(set(layers)), see, site)

    @contextmanager
    def _checked_tap(self, batch: Batch, layers: Iterable[int], tap: Tap, width: int | None = None) -> Iterator[Tap]:
        """Wrap `tap` so that each layer must arrive exactly once, with shape (sequences, length, width or d_model).

        Raises
        ------
        InputError
            If a layer does not, so that what `tap` fills would be incomplete.
        """
        waiting, expected = set(layers), (*batch.ids.shape, width or self.d_model)
        known = set(waiting)

        def see(layer: int, hidden: Tensor) -> None:
            found = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            if layer in known and layer not in waiting:
                raise InputError(f"{self.name} passed layer {layer} twice in one run, so it cannot be read there.")
            if found != expected:
                raise InputError(f"{self.name} holds {found} at layer {layer}; expected {expected} for this batch.")
            waiting.discard(layer)
            tap(layer, hidden)

        yield see
        if waiting:
            raise InputError(f"{self.name} did not pass layer {min(waiting)} in this run, so that it cannot be read.")

    def _read_inside(self, batch: Batch, layers: list[int], tap: Tap, site: str) -> None:
        """`read` at sites inside blocks, for models that have any."""
        raise NotImplementedError

    def width(self, site: str = RESIDUAL) -> int:
        """Width of the activations at a site."""
        return self.d_model

    def _check_site(self, site: str) -> None:
        if site not in self.sites:
            raise unknown("site", site, self.sites, f"{self.name} is a {self.kind} model.")

    def positions(self, layers: str | SupportsIndex | Iterable[SupportsIndex], site: str = RESIDUAL) -> list[int]:
        """Convert a layer argument ("all", one layer or a list) to layers; negative ones count from the end.

        Raises
        ------
        InputError
            If a layer is outside -(n_layers + 1) .. n_layers or not an integer, layer 0 is requested inside blocks, or
            this model does not have the site.
        """
        self._check_site(site)
        return positions(self.name, self.n_layers, layers, site)

    def _check(self, hidden: Tensor, batch: Batch) -> None:
        expected = (*batch.ids.shape, self.d_model)
        if tuple(hidden.shape) != expected:
            raise InputError(
                f"hidden has shape {tuple(hidden.shape)}; {self.name} expects (sequences, length, d_model) = "
                f"{expected} for this batch."
            )
        self._check_company(batch)

    def _check_company(self, batch: Batch) -> None:
        """Check the batch, which may have been made for another model."""
        if self.neutral != NEUTRAL:
            self.neutral.check(self.name, batch.mask.sum(1).tolist(), batch.ids.shape[1])


def _is_cached(model: Model, name: str) -> bool:
    return isinstance(getattr(type(model), name, None), cached_property)


def not_finite(model: Model, where: str) -> InputError:
    """The error for values that overflowed, or come from broken weights."""
    advice = "Check its weights." if model.dtype == torch.float32 else "Load it with dtype='float32'."
    return InputError(f"{model.name} has values that are not finite {where} in {model.dtype}. {advice}")
