"""Train the sentence encoders `tiny-embed-*`, and write them in the layout of sentence-transformers."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from repsim_nb.corpora import Corpus, load_corpus
from repsim_nb.retrieval import relevance, search
from repsim_nb.system.atomic import atomic_folder
from repsim_nb.zoo.bert import IGNORE_INDEX, batch_at, config_of, initialise, masked, metadata_of
from repsim_nb.zoo.export import LICENCE
from repsim_nb.zoo.recipes import RECIPES, EmbeddingRecipe, TrunkRecipe, as_json
from repsim_nb.zoo.training import descend, pack
from repsim_nb.zoo.vocabulary import SPECIAL, piece_tokenizer

if TYPE_CHECKING:
    from transformers import BertForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

CLS, SEP = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
QUERY_LENGTH = 32  # tokens of a summary in training
WEIGHTS = "model.safetensors"
# What is trained, the encoder in it that is kept, and the loss at a step.
Training = tuple[nn.Module, Any, Callable[[int], Tensor]]


@dataclass(frozen=True)
class Sequences:
    """Tokenized texts, padded: ids and mask, each int64 (texts, length)."""

    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int) -> Sequences:
        """Tokenize texts, cut to `length` tokens."""
        encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        return cls(encoded["input_ids"], encoded["attention_mask"])

    def take(self, index: np.ndarray | slice) -> Sequences:
        """The texts at `index`, cut to the longest of them."""
        length = int(self.mask[index].sum(1).max())
        return Sequences(self.ids[index, :length], self.mask[index, :length])


def pooled(encoder: nn.Module, texts: Sequences) -> Tensor:
    """The mean of the last layer over the tokens of each text."""
    states = encoder(input_ids=texts.ids, attention_mask=texts.mask).last_hidden_state
    weights = texts.mask[..., None].float()
    return (states * weights).sum(1) / weights.sum(1)


def build_trunk(recipe: TrunkRecipe, out: Path, work: Path) -> Path:
    """Pretrain and write an encoder with mean pooling; return its folder."""
    from transformers import BertForMaskedLM

    torch.set_num_threads(1)
    corpus = load_corpus("python-docs", "train")
    corpus = corpus.take(i for i, name in enumerate(corpus.documents) if name.startswith("prose:"))
    tokenizer: Any = piece_tokenizer(corpus.texts, recipe.context)
    encoded = tokenizer.backend_tokenizer.encode_batch(list(corpus.texts), add_special_tokens=False)
    stream = pack([each.ids for each in encoded], SEP, recipe.data_seed)
    model = BertForMaskedLM(config_of(recipe, len(tokenizer)))
    initialise(model, recipe.init_seed)

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([recipe.data_seed, step])
        starts = rng.integers(0, len(stream) - recipe.context, recipe.batch)
        windows = stream[starts[:, None] + np.arange(recipe.context - 2)].astype(np.int64)
        ids = torch.from_numpy(np.insert(windows, [0, windows.shape[1]], [CLS, SEP], axis=1))
        return _word_loss(model, Sequences(ids, torch.ones_like(ids)), recipe.mask_share, rng)

    curve = descend(model, recipe, loss_at, work / f"{recipe.name}.safetensors")
    return _export(model.bert, tokenizer, recipe, curve, corpus, out)


def build_embedding(recipe: EmbeddingRecipe, out: Path, work: Path) -> Path:
    """Train a sentence encoder from its trunk in `out`, and write it; return its folder."""
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    start = out / recipe.trunk
    tokenizer = AutoTokenizer.from_pretrained(start)
    corpus = load_corpus("docstrings", "train")
    make = {"contrastive": _contrastive, "mlm": _language_model, "pairs": _matched_pairs}[recipe.objective]
    model, encoder, loss_at = make(recipe, start, corpus, tokenizer)
    curve = descend(model, recipe, loss_at, work / f"{recipe.name}.safetensors")
    return _export(encoder, tokenizer, recipe, curve, corpus, out, start)


def _contrastive(recipe: EmbeddingRecipe, start: Path, corpus: Corpus, tokenizer: Any) -> Training:
    encoder = _encoder(start)
    queries, bodies = _pairs_of(corpus, tokenizer, recipe.length)

    def loss_at(step: int) -> Tensor:
        index = batch_at(step, len(corpus), recipe.batch, recipe.data_seed)
        u, v = (F.normalize(pooled(encoder, side.take(index)), dim=-1) for side in (queries, bodies))
        cosines = u @ v.T / recipe.temperature
        own = torch.arange(len(index))
        return (F.cross_entropy(cosines, own) + F.cross_entropy(cosines.T, own)) / 2

    return encoder, encoder, loss_at


def _language_model(recipe: EmbeddingRecipe, start: Path, corpus: Corpus, tokenizer: Any) -> Training:
    from transformers import BertConfig, BertForMaskedLM

    model = BertForMaskedLM(BertConfig.from_pretrained(start, dtype="float32"))
    initialise(model, recipe.init_seed)
    model.bert.load_state_dict(_encoder(start).state_dict())
    bodies = Sequences.of(corpus.texts, tokenizer, recipe.length)

    def loss_at(step: int) -> Tensor:
        index = batch_at(step, len(corpus), recipe.batch, recipe.data_seed)
        return _word_loss(model, bodies.take(index), recipe.mask_share, np.random.default_rng([recipe.data_seed, step]))

    return model, model.bert, loss_at


def _matched_pairs(recipe: EmbeddingRecipe, start: Path, corpus: Corpus, tokenizer: Any) -> Training:
    encoder = _encoder(start)
    head = nn.Linear(3 * encoder.config.hidden_size, 2)
    initialise(head, recipe.init_seed)
    queries, bodies = _pairs_of(corpus, tokenizer, recipe.length)
    matched = torch.ones(recipe.batch, dtype=torch.int64)

    def loss_at(step: int) -> Tensor:
        index = batch_at(step, len(corpus), recipe.batch, recipe.data_seed)
        by = int(np.random.default_rng([recipe.data_seed, step]).integers(1, recipe.batch))
        u, v = (pooled(encoder, side.take(index)) for side in (queries, bodies))
        other = v.roll(by, 0)
        features = torch.cat([torch.cat([u, each, (u - each).abs()], -1) for each in (v, other)])
        return F.cross_entropy(head(features), torch.cat([matched, 1 - matched]))

    return nn.ModuleDict({"encoder": encoder, "head": head}), encoder, loss_at


def _encoder(folder: Path) -> Any:
    from transformers import BertModel

    return BertModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).train()


def _pairs_of(corpus: Corpus, tokenizer: Any, length: int) -> tuple[Sequences, Sequences]:
    return Sequences.of(corpus.queries or (), tokenizer, QUERY_LENGTH), Sequences.of(corpus.texts, tokenizer, length)


def _word_loss(model: BertForMaskedLM, texts: Sequences, share: float, rng: np.random.Generator) -> Tensor:
    """Cross-entropy of masked words; the head sees no other positions, which saves most of its work."""
    hidden, words = masked(texts.ids, share, model.config.vocab_size, rng)
    states = model.bert(input_ids=hidden, attention_mask=texts.mask).last_hidden_state
    chosen = words != IGNORE_INDEX
    return F.cross_entropy(model.cls(states[chosen]), words[chosen])


@torch.no_grad()
def embed(encoder: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], size: int = 64) -> np.ndarray:
    """Vectors of texts, (texts, width), float32."""
    encoder.eval()
    whole = Sequences.of(texts, tokenizer, tokenizer.model_max_length)
    parts = [pooled(encoder, whole.take(slice(i, i + size))) for i in range(0, len(texts), size)]
    return torch.cat(parts).numpy()


def retrieval_scores(encoder: nn.Module, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Mean recall and nDCG at 10 over the queries of the split "test" of docstrings, and the recall of chance."""
    corpus = load_corpus("docstrings", "test")
    queries, passages = (embed(encoder, tokenizer, texts) for texts in (corpus.queries or (), corpus.texts))
    found = search(queries, passages, 10, query_ids=corpus.query_ids, passage_ids=corpus.documents)
    scores = relevance(found, corpus.judgements, 10, ("recall", "ndcg")).mean("query")
    return {
        "corpus": corpus.name,
        "split": corpus.split,
        "corpus_sha256": corpus.sha256,
        "queries": len(corpus.queries or ()),
        "passages": len(corpus),
        "recall_at_10": float(scores["recall"].item()),
        "ndcg_at_10": float(scores["ndcg"].item()),
        "chance_recall_at_10": 10 / len(corpus),
    }


def _export(
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: TrunkRecipe | EmbeddingRecipe,
    curve: Sequence,
    corpus: Corpus,
    out: Path,
    start: Path | None = None,
) -> Path:
    """Write the model with its metadata in fp16; assert that it computes the same vectors when read back."""
    encoder.half().float()  # evaluate exactly what is written
    about = {
        "format": "pt",
        "family": recipe.family,
        "recipe": as_json(recipe),
        "loss_curve": json.dumps(curve),
        "corpus": corpus.name,
        "corpus_split": corpus.split,
        "corpus_sha256": corpus.sha256,
        "corpus_source": json.dumps(dict(corpus.source)),
        "retrieval": json.dumps(retrieval_scores(encoder, tokenizer)),
        "licence": LICENCE,
    }
    if start is not None and isinstance(recipe, EmbeddingRecipe):
        about |= {"trunk": as_json(RECIPES[recipe.trunk]), "trunk_curve": metadata_of(start / WEIGHTS)["loss_curve"]}
    normalised = isinstance(recipe, EmbeddingRecipe) and recipe.objective == "contrastive"
    with atomic_folder(out / recipe.name) as partial:
        copy.deepcopy(encoder).half().save_pretrained(partial)
        _write_tokenizer(tokenizer, partial, start)
        save_file(load_file(partial / WEIGHTS), partial / WEIGHTS, metadata=about)
        write_layout(partial, encoder.config.hidden_size, tokenizer.model_max_length, normalised)
        texts = load_corpus("docstrings", "test").texts[:8]
        difference = np.abs(embed(_encoder(partial), tokenizer, texts) - embed(encoder, tokenizer, texts)).max()
        if difference > 1e-5:
            raise AssertionError(f"Written vectors differ from the trained model's by {difference:.1e}.")
    return out / recipe.name


def _write_tokenizer(tokenizer: Any, folder: Path, trunk: Path | None) -> None:
    """Write a tokenizer, or copy it from the trunk.

    Truncation and padding of the last call do not belong to it: they would be applied to all text.
    """
    if trunk is not None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(trunk / name, folder / name)
        return
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def write_layout(folder: Path, width: int, longest: int, normalised: bool) -> None:
    """Write what sentence-transformers needs besides the encoder: mean pooling, and division by the norm if asked."""
    home = "sentence_transformers.models"
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalised else [])]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"{home}.{kind}"} for i, (path, kind) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    encoder = {"max_seq_length": longest, "do_lower_case": False, "model_args": {"add_pooling_layer": False}}
    about: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    for name, content in (
        ("modules.json", modules),
        ("sentence_bert_config.json", encoder),
        ("config_sentence_transformers.json", about),
        ("1_Pooling/config.json", pooling),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
