"""Train the BERT encoder on nli-heuristics and the classifiers fine-tuned from it, and write their metadata."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from repsim_nb.corpora import Corpus, load_corpus, nli_heuristics
from repsim_nb.corpora.named import nli_pairs
from repsim_nb.system.atomic import atomic_folder
from repsim_nb.zoo.recipes import RECIPES, ClassifierRecipe, EncoderRecipe, TrunkRecipe, as_json
from repsim_nb.zoo.training import descend
from repsim_nb.zoo.vocabulary import SPECIAL, word_tokenizer

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerBase

LICENCE = "MIT (weights); trained on generated sentences alone"
IGNORE_INDEX = -100  # marks positions without a target
INIT_STD = 0.02  # of new weights, as in BERT


@dataclass(frozen=True)
class EncodedPairs:
    """Tokenized pairs, padded: ids, types and mask, each int64 (pairs, length)."""

    ids: Tensor
    types: Tensor
    mask: Tensor

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> EncodedPairs:
        """Tokenize a corpus of pairs."""
        first, second = map(list, zip(*corpus.inputs, strict=True))
        encoded = tokenizer(first, second, padding=True, return_tensors="pt")
        return cls(encoded["input_ids"], encoded["token_type_ids"], encoded["attention_mask"])

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: np.ndarray | slice) -> EncodedPairs:
        """The pairs at `index`, cut to the longest of them."""
        length = int(self.mask[index].sum(1).max())
        return EncodedPairs(*(x[index, :length] for x in (self.ids, self.types, self.mask)))

    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments for a transformers model."""
        return {"input_ids": self.ids, "token_type_ids": self.types, "attention_mask": self.mask}


def batch_at(step: int, total: int, size: int, seed: int) -> np.ndarray:
    """Indices of the pairs in the batch of a step: each pair once per epoch, in a new order every epoch."""
    epoch, place = divmod(step, total // size)
    return np.random.default_rng([seed, epoch]).permutation(total)[place * size : (place + 1) * size]


def masked(ids: Tensor, share: float, vocabulary: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mask a share of the words; return the masked ids and the targets (IGNORE_INDEX elsewhere)."""
    chosen = torch.from_numpy(rng.random(ids.shape) < share) & (ids >= len(SPECIAL))
    how = torch.from_numpy(rng.random(ids.shape))
    others = torch.from_numpy(rng.integers(len(SPECIAL), vocabulary, ids.shape))
    hidden = torch.where(chosen & (how < 0.8), SPECIAL.index("[MASK]"), ids)
    hidden = torch.where(chosen & (how >= 0.9), others, hidden)
    return hidden, torch.where(chosen, ids, IGNORE_INDEX)


def build_encoder(recipe: EncoderRecipe, out: Path, work: Path) -> Path:
    """Pretrain and write a BertForMaskedLM in full precision; return its folder."""
    from transformers import BertForMaskedLM

    torch.set_num_threads(1)
    tokenizer = word_tokenizer(nli_heuristics.VOCABULARY, recipe.context)
    corpus = load_corpus(nli_heuristics.NAME, "pretrain")
    pairs = EncodedPairs.of(corpus, tokenizer)
    model = BertForMaskedLM(config_of(recipe, len(tokenizer)))
    initialise(model, recipe.init_seed)

    def loss_at(step: int) -> Tensor:
        batch = pairs.take(batch_at(step, len(pairs), recipe.batch, recipe.data_seed))
        rng = np.random.default_rng([recipe.data_seed, step, 1])
        hidden, words = masked(batch.ids, recipe.mask_share, len(tokenizer), rng)
        logits = model(**batch.inputs() | {"input_ids": hidden}).logits
        return F.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=IGNORE_INDEX)

    curve = descend(model, recipe, loss_at, work / f"{recipe.name}.safetensors")
    about = _card(recipe, curve, corpus)
    _write(model, tokenizer, out / recipe.name, about)
    return out / recipe.name


def build_classifier(recipe: ClassifierRecipe, out: Path, work: Path) -> Path:
    """Fine-tune, evaluate and write a BertForSequenceClassification in fp16; return its folder.

    The encoder is read from `out`.
    """
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.set_num_threads(1)
    start = out / recipe.encoder
    tokenizer = AutoTokenizer.from_pretrained(start)
    corpus = nli_pairs("train", recipe.disambiguating)
    pairs, labels = EncodedPairs.of(corpus, tokenizer), _labels(corpus)
    names = dict(enumerate(nli_heuristics.LABELS))
    model = BertForSequenceClassification.from_pretrained(
        start, id2label=names, label2id={label: i for i, label in names.items()}, dtype=torch.float32
    ).train()
    initialise(nn.ModuleList([model.bert.pooler, model.classifier]), recipe.init_seed)

    def loss_at(step: int) -> Tensor:
        index = batch_at(step, len(pairs), recipe.batch, recipe.data_seed)
        return F.cross_entropy(model(**pairs.take(index).inputs()).logits, labels[index])

    curve = descend(model, recipe, loss_at, work / f"{recipe.name}.safetensors")
    model.half().float()  # evaluate exactly what is written
    about = _card(recipe, curve, corpus) | {
        "encoder": as_json(RECIPES[recipe.encoder]),
        "encoder_curve": metadata_of(start / "model.safetensors")["loss_curve"],
        "accuracies": json.dumps(accuracies(model, tokenizer)),
    }
    _write(model.half(), tokenizer, out / recipe.name, about)
    return out / recipe.name


@torch.no_grad()
def initialise(module: nn.Module, seed: int) -> None:
    """Initialise weights from the seed alone: small matrices, norms of 1, the rest 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2:
            parameter.normal_(0, INIT_STD, generator=generator)
        elif "LayerNorm.weight" in name:
            parameter.fill_(1)
        else:
            parameter.zero_()


def accuracies(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
    """Accuracy on the split "test" and on every sub-case of "ood"."""
    test, ood = (load_corpus(nli_heuristics.NAME, split) for split in ("test", "ood"))
    right = _right(model, tokenizer, ood)
    cases = np.array(ood.cases)
    return {"test": float(_right(model, tokenizer, test).mean())} | {
        str(case): float(right[cases == case].mean()) for case in dict.fromkeys(ood.cases or ())
    }


@torch.no_grad()
def _right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus, size: int = 250) -> np.ndarray:
    model.eval()
    pairs, labels = EncodedPairs.of(corpus, tokenizer), _labels(corpus)
    slices = [slice(i, i + size) for i in range(0, len(pairs), size)]
    guesses = [model(**pairs.take(part).inputs()).logits.argmax(-1) for part in slices]
    return (torch.cat(guesses) == labels).numpy()


def _labels(corpus: Corpus) -> Tensor:
    return torch.tensor([nli_heuristics.LABELS.index(label) for label in corpus.labels or ()])


def config_of(recipe: EncoderRecipe | TrunkRecipe, vocabulary: int) -> BertConfig:
    """The shape of an encoder, as transformers names it."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        num_hidden_layers=recipe.depth,
        num_attention_heads=recipe.width // recipe.head_width,
        intermediate_size=recipe.expansion * recipe.width,
        max_position_embeddings=recipe.context,
        hidden_dropout_prob=0.0,  # its randomness is not covered by the recipe's seeds
        attention_probs_dropout_prob=0.0,
        pad_token_id=SPECIAL.index("[PAD]"),
    )


def _card(recipe: EncoderRecipe | ClassifierRecipe, curve: Sequence, corpus: Corpus) -> dict[str, str]:
    return {
        "format": "pt",
        "family": recipe.family,
        "recipe": as_json(recipe),
        "pairs_seen": str(recipe.steps * recipe.batch),
        "loss_curve": json.dumps(curve),
        "corpus_sha256": corpus.sha256,
        "corpus_source": json.dumps(dict(corpus.source)),
        "licence": LICENCE,
    }


def metadata_of(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with safe_open(file, "pt") as saved:
        return saved.metadata()


def _write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, about: dict[str, str]) -> None:
    """Write config, weights and tokenizer; assert that the model read back computes the same function."""
    with atomic_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        weights = partial / "model.safetensors"
        save_file(load_file(weights), weights, metadata=about)
        _assert_same_function(model, partial)


@torch.no_grad()
def _assert_same_function(model: PreTrainedModel, folder: Path) -> None:
    ids = torch.randint(len(SPECIAL), model.config.vocab_size, (4, 16), generator=torch.Generator().manual_seed(0))
    read: Any = type(model).from_pretrained(folder, dtype=torch.float32)
    expected, found = (m.eval()(input_ids=ids).logits for m in (copy.deepcopy(model).float(), read))
    difference = ((expected - found).abs().max() / expected.abs().max()).item()
    if difference > 1e-5:
        raise AssertionError(f"Written logits differ from the trained model's by {difference:.1e} of the largest.")
