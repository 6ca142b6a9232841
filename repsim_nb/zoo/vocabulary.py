"""Tokenizers of the embedded models: byte-level BPE, WordPiece (both trained on python-docs), and a list of words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 2048
END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE with 2,048 entries that puts <|endoftext|> in front of every sequence.

    Parameters
    ----------
    texts
        Training documents only; the held-out splits must not shape the vocabulary.
    context
        The longest sequence of the models that will use it, in tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, bpe.token_to_id(END_OF_TEXT))]
            ),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=context,
    )


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_tokenizer(words: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """One token per word of a closed vocabulary; pairs are joined as BERT joins them.

    Parameters
    ----------
    words
        The vocabulary, ordered by id after those of the special tokens.
    context
        The longest sequence of the models that will use it, in tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    ids = {word: i for i, word in enumerate([*SPECIAL, *words])}
    level = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    level.normalizer = normalizers.Lowercase()
    level.pre_tokenizer = pre_tokenizers.Whitespace()
    return _bert_like(level, context)


def piece_tokenizer(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """Train a WordPiece tokenizer with 2,048 entries on text in lower case, as BERT's; all but ASCII is unknown to it.

    Parameters
    ----------
    texts
        Training documents only; the held-out splits must not shape the vocabulary.
    context
        The longest sequence of the models that will use it, in tokens.
    """
    from tokenizers import Tokenizer, models, trainers

    alphabet = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    inner = [f"##{character}" for character in alphabet if character.isalnum()]
    draft = _pieces(Tokenizer(models.WordPiece(unk_token="[UNK]")))
    draft.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(
            vocab_size=VOCABULARY,
            # without numbers of their own, pieces inside of words get them in a random order, which decides ties
            special_tokens=[*SPECIAL, *inner],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        ),
    )
    trained = _pieces(Tokenizer(models.WordPiece(draft.get_vocab(), unk_token="[UNK]")))
    return _bert_like(trained, context)


def _pieces(backend: Tokenizer) -> Tokenizer:
    from tokenizers import decoders, normalizers, pre_tokenizers

    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def _bert_like(backend: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=context,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
