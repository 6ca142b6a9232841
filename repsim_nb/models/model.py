"""The one interface: embed, run layers k to m, head."""

from __future__ import annotations

import hashlib
import operator
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
from repsim_nb.models.sentences import SentenceHead, Vectors, of_one_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
else:
    PreTrainedTokenizerBase = Any  # under pytest annotations are checked at run time; transformers stays unimported

Hidden = Float[Tensor, "sequences length d_model"]
Logits = Float[Tensor, "sequences length vocabulary"] | Float[Tensor, "sequences classes"]
Tap = Callable[[int, Tensor], Any]
RESIDUAL = "resid_post"
LENGTHS = ("max_position_embeddings", "max_seq_len")  # by architecture
NOT_SETTINGS = ("name", "module", "tokenizer")  # attributes; weights and tokens have hashes of their own
UNSAID = 2048  # tokens at once, of a model that says nothing


class Model(ABC):
    """A transformer as a chain of positions in its residual stream: 0 is the embedding output, l is after block l.

    Attributes
    ----------
    name
        As it was asked for, with `@revision` where one was given.
    kind
        "causal", "classifier" or "encoder".
    sites
        Where activations can be read, of these: "resid_post" (the residual stream), "attn_out" and "mlp_out" (what
        attention and MLP of a block add to it), "pre_residual" (what the block's last addition adds).
    n_layers
        Number of blocks; positions run from 0 to n_layers.
    d_model
        Width of the residual stream.
    context
        Longest sequence in tokens, special tokens included.
    made_for
        Name of the corpus that stands in where none is given.
    neutral
        Whether a text's activations depend on what else is in its batch; see `models.neutral`.
    tokenizer
        Its Hugging Face tokenizer.
    device, dtype
        Where and in what precision it computes.
    pooling
        How a sentence-embedding model was published to make one vector of a text; None of all others.
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

    @property
    def device(self) -> torch.device:
        """Where batches are sent; with a device_map, where the first of its parts computes."""
        own = next(self.module.parameters()).device
        if own.type != "meta":
            return own
        places: Any = self.module.hf_device_map  # of a model whose weights wait elsewhere until they are needed
        return torch.device(next((p for p in places.values() if p not in ("cpu", "disk")), "cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Precision that it computes in."""
        return next(p.dtype for p in self.module.parameters() if p.is_floating_point())

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of all parameters, by name, as they were when it was first asked for."""
        return self.hashed()

    def hashed(self) -> str:
        """Hash of all parameters, by name, as they are in memory now."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self._weights().items()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def computation(self) -> str:
        """Hash of all else that its values depend on, given tokens: network, settings, precision, device, padding.

        Settings are the attributes of this object whose names are public.

        Raises
        ------
        UntraceableError
            Something that no hash can hold; see `models.identity`.
        """
        own = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        settings = {
            name: value for name, value in own.items() if name not in NOT_SETTINGS and not _is_cached(self, name)
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
        """Equal for models that give the same values for the same tokens, as they are in memory now.

        Raises
        ------
        UntraceableError
            As `computation`.
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
        """What identifies this model: name, source, revision, hash of the weights, precision, device.

        Of a sentence-embedding model also all that decides its vectors, under "sentences".
        """
        return {
            "model": self.name,
            "kind": self.kind,
            **self._source,
            "weights_sha256": self.weights_sha256,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
            **({} if self.pooling is None else {"sentences": self.pooling.about}),
        }

    @cached_property
    def windows(self) -> Windows:
        """Cuts texts into windows of the context: `model.windows(texts)`."""
        return Windows(self.tokenizer, self.context, self.vocabulary)

    @property
    def vocabulary(self) -> int | None:
        """Rows of the embedding that tokens are looked up in; None where an architecture has no such embedding."""
        try:
            weight: Any = getattr(self.module.get_input_embeddings(), "weight", None)  # type: ignore[operator]
        except (AttributeError, NotImplementedError):
            return None
        return None if weight is None or weight.dim() != 2 else len(weight)

    @property
    def pad(self) -> int:
        """The id at padded places: the padding token's, or, where that has no embedding, one that has."""
        given = (self.tokenizer.pad_token_id, getattr(self.module.config, "pad_token_id", None), 0)
        return next(i for i in given if i is not None and 0 <= i < (self.vocabulary or i + 1))

    def collate(self, windows: Sequence[Window], length: int = 0) -> Batch:
        """Windows as a batch on the model's device, padded to the longest of them, or to `length` if that is more.

        Raises
        ------
        InputError
            Windows that change each other's activations in this model (`neutral`).
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
        """Tokenize texts, or pairs of texts; one longer than the context becomes several sequences, none is truncated.

        Raises
        ------
        InputError
            No text, one string instead of a sequence, a pair longer than the context, or texts that change each other's
            activations in this model (`neutral`).
        """
        windows = self.windows(texts)
        if not windows:
            raise InputError("Nothing to tokenize: give at least one non-empty text.")
        return self.collate(windows)

    def pooled(self, batch: Batch) -> Bool[Tensor, "sequences length"]:
        """True at the tokens that rows="mean" takes the mean over: those that stand for text."""
        return batch.carries_text.to(self.device)

    @abstractmethod
    def embed(self, batch: Batch) -> Hidden:
        """Position 0, the embedding output: (sequences, length, d_model)."""

    @abstractmethod
    def _blocks(self, hidden: Hidden, k: int, m: int, batch: Batch, tap: Tap | None) -> Hidden:
        """Blocks k+1 to m; `tap(position, hidden)` sees every position from k to m."""

    @abstractmethod
    def head(self, hidden: Hidden, batch: Batch) -> Logits:
        """From position n_layers, final norm included.

        (sequences, length, vocabulary); of classifiers (sequences, classes); of encoders that predict nothing
        (sequences, length, d_model).
        """

    def run(self, hidden: Tensor, k: int, m: int, batch: Batch) -> Hidden:
        """From position k to position m of the residual stream.

        Parameters
        ----------
        hidden
            Position k, (sequences, length, d_model).
        k, m
            Positions, 0 <= k <= m <= n_layers.
        batch
            What `hidden` was computed from; gives mask and positions.

        Raises
        ------
        InputError
            Positions out of range or in the wrong order, or a hidden of the wrong shape.
        """
        if not 0 <= k <= m <= self.n_layers:
            raise InputError(
                f"Cannot run {self.name} from position {k} to {m}: positions go up from 0 to {self.n_layers}."
            )
        self._check(hidden, batch)
        if k == m:
            return hidden
        out = self._blocks(hidden, k, m, batch, None)
        if out.shape != hidden.shape:
            raise InputError(f"{self.name} makes {tuple(out.shape)} of {tuple(hidden.shape)} from position {k} to {m}.")
        return out

    def logits(self, batch: Batch) -> Logits:
        """The whole model, shapes as of `head`."""
        return self.head(self.run(self.embed(batch), 0, self.n_layers, batch), batch)

    def sentences(
        self,
        texts: Texts | Batch,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
    ) -> Vectors:
        """One vector per text, as the sentence-embedding model was published: what sentence-transformers' encode gives.

        Parameters
        ----------
        texts
            Texts, or pairs of texts; each is cut off at the model's longest sequence. Or a batch, one vector per
            sequence of it: its text is tokenized already, so that no prompt can be put before it.
        prompt_name
            Which of the model's own prompts to put before every text, such as "query" or "document".
            None takes the model's default prompt, if it has one.
        prompt
            Text to put before every text; "" for nothing.
        batch_size
            How many texts run at once. Texts of one length run together, so that none depends on another.

        Returns
        -------
        Tensor
            (sequences, width), in the order of the texts.

        Raises
        ------
        InputError
            A model that is no sentence-embedding model, or one that does more than is done here; a prompt that the
            model does not have, or a prompt with a batch; a text without a token.

        Notes
        -----
        Rows of layers (`extract`, `compare`) are of the text alone: no prompt is put before it, not even the default
        one, since a prompt's tokens are no part of the text. With a default prompt, rows="mean" of the last layer is
        therefore what `sentences(texts, prompt="")` pools, not what `sentences(texts)` does.

        The vectors are not those of `extract`: modules behind the pooling (Dense, Normalize, a smaller number of
        dimensions) are applied here only.
        """
        if self.pooling is None:
            raise InputError(
                f"{self.name} is no sentence-embedding model: it holds no modules.json that says how to pool. "
                'Take rows="mean" or rows="last" of its last layer instead.'
            )
        self.pooling.check()
        before = self.pooling.prompt(prompt_name, prompt)
        if isinstance(texts, Batch):
            if before:
                raise InputError(
                    f"The prompt {before!r:.80} goes before every text, but the text of a batch is tokenized already. "
                    'Give the texts themselves, or prompt="" for none.'
                )
            return self._vectors(texts, 0)
        if isinstance(texts, str) or len(texts) == 0:
            raise InputError(f"Expected texts; received {texts!r:.80}. Give a list of at least one text: [text].")
        windows = self.pooling.windows(self.tokenizer, texts, before, self.context)
        length = self.pooling.prompt_length(self.tokenizer, before, self.context)
        vectors: dict[int, Tensor] = {}
        for places in of_one_length(windows, batch_size if self.neutral.company else 1):
            batch = self.collate([windows[place] for place in places])
            vectors.update(zip(places, self._vectors(batch, length), strict=True))
        return torch.stack([vectors[place] for place in range(len(windows))])

    def _vectors(self, batch: Batch, prompt: int) -> Vectors:
        """Of sequences whose first `prompt` tokens are of the prompt."""
        assert self.pooling is not None
        vectors = self.pooling(self._states(batch), batch.mask, prompt)
        if not vectors.isfinite().all():
            raise not_finite(self, "in its vectors of sentences")
        return vectors

    def _states(self, batch: Batch) -> Hidden:
        """What transformers calls last_hidden_state, final norm included, of kinds that are published to pool it."""
        raise InputError(f"{self.name} gives no states to pool.")

    def residuals(self, batch: Batch, layers: Iterable[int], tap: Tap) -> None:
        """One pass that calls `tap(layer, hidden)` at each position of `layers`; nothing above the highest is run."""
        wanted = set(layers)
        self._check_company(batch)
        with self._once(batch, wanted, tap) as see:
            hidden = self.embed(batch)
            if max(wanted) == 0:
                see(0, hidden)
            else:
                self._blocks(hidden, 0, max(wanted), batch, lambda p, h: see(p, h) if p in wanted else None)

    def read(self, batch: Batch, layers: Iterable[int], tap: Tap, site: str = RESIDUAL) -> None:
        """`residuals` at any site; elsewhere than in the residual stream layer l is inside block l, and there is no 0.

        Raises
        ------
        InputError
            A site that this model does not have.
        """
        self._check_site(site)
        if site == RESIDUAL:
            self.residuals(batch, layers, tap)
        else:
            self._check_company(batch)
            with self._once(batch, layers, tap) as see:
                self._read_inside(batch, sorted(set(layers)), see, site)

    @contextmanager
    def _once(self, batch: Batch, layers: Iterable[int], tap: Tap) -> Iterator[Tap]:
        """`tap`, of which each layer must be seen exactly once, (sequences, length, d_model).

        Raises
        ------
        InputError
            A layer that is not, so that what `tap` fills would hold something else.
        """
        waiting, expected = set(layers), (*batch.ids.shape, self.d_model)
        known = set(waiting)

        def see(layer: int, hidden: Tensor) -> None:
            found = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            if layer in known and layer not in waiting:
                raise InputError(f"{self.name} passed layer {layer} twice in one run, so that it cannot be read there.")
            if found != expected:
                raise InputError(f"{self.name} holds {found} at layer {layer}; expected {expected} for this batch.")
            waiting.discard(layer)
            tap(layer, hidden)

        yield see
        if waiting:
            raise InputError(f"{self.name} did not pass layer {min(waiting)} in this run, so that it cannot be read.")

    def _read_inside(self, batch: Batch, layers: list[int], tap: Tap, site: str) -> None:
        """`read` at the other sites, for models that name any."""
        raise NotImplementedError

    def _check_site(self, site: str) -> None:
        if site not in self.sites:
            raise unknown("site", site, self.sites, f"{self.name} is a {self.kind} model.")

    def positions(self, layers: str | SupportsIndex | Iterable[SupportsIndex], site: str = RESIDUAL) -> list[int]:
        """Layer argument -> positions: "all", one position or several; negative ones count from the end.

        Raises
        ------
        InputError
            A position outside -(n_layers + 1) .. n_layers, or something that is no integer; 0 at a site inside blocks;
            a site that this model does not have.
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
        """Also of batches that were made for another model."""
        if self.neutral != NEUTRAL:
            self.neutral.check(self.name, batch.mask.sum(1).tolist(), batch.ids.shape[1])


def _is_cached(model: Model, name: str) -> bool:
    return isinstance(getattr(type(model), name, None), cached_property)


def as_layers(layers: Any) -> Any:
    """A layer argument with Python's own ints where it holds whole numbers of NumPy; all else as it is."""
    if isinstance(layers, str):
        return layers
    one = _whole(layers)
    return one if isinstance(one, int) or not isinstance(layers, Iterable) else [_whole(layer) for layer in layers]


def _whole(number: Any) -> Any:
    try:
        return operator.index(number)
    except TypeError:
        return number


def not_finite(model: Model, where: str) -> InputError:
    """The error to raise of values that overflowed, or of weights that are broken."""
    advice = "Check its weights." if model.dtype == torch.float32 else "Load it with dtype='float32'."
    return InputError(f"{model.name} gives values that are not finite {where} in {model.dtype}. {advice}")


def longest(config: Any) -> int:
    """Tokens that a model reads at once, as its config says; architectures without learned positions may not say."""
    said = (getattr(config, name, None) for name in LENGTHS)
    return next((length for length in said if isinstance(length, int)), UNSAID)


def sizes(name: str, module: Any) -> tuple[int, int]:
    """Depth and width, as a transformers model's config says.

    Raises
    ------
    InputError
        It says neither: the model is no single stack of blocks of one width.
    """
    config = module.config.get_text_config()
    depth, width = (getattr(config, size, None) for size in ("num_hidden_layers", "hidden_size"))
    if not (isinstance(depth, int) and isinstance(width, int)):
        raise InputError(
            f"{name} ({type(module).__name__}) has no num_hidden_layers and hidden_size in its config. "
            "This architecture is not supported."
        )
    return depth, width


def positions(
    name: str, n_layers: int, layers: str | SupportsIndex | Iterable[SupportsIndex], site: str = RESIDUAL
) -> list[int]:
    """`Model.positions` of a model with that name and depth, which has `site`."""
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f'layers={layers!r} was given; expected "all", a position or a list of positions.')
        return list(range(0 if site == RESIDUAL else 1, n_layers + 1))
    layers = as_layers(layers)
    asked: list[Any] = list(layers) if isinstance(layers, Iterable) else [layers]
    total = n_layers + 1
    wrong = [p for p in asked if not isinstance(p, int) or not -total <= p < total]
    if wrong or not asked:
        raise InputError(
            f"Layer {wrong[0]!r} does not exist in {name}: its positions are 0 (embedding) to {n_layers}."
            if wrong
            else 'layers is empty; expected "all", a position or a list of positions.'
        )
    if site != RESIDUAL and any(p % total == 0 for p in asked):
        raise InputError(f"Position 0 is the embedding, which has no {site}: layers of {site} go from 1 up.")
    return [p % total for p in asked]
