"""The tokenizer of a model's folder, and whether it is that model's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint_folder import read_json, refusing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_CODE: dict[str, Any] = {"trust_remote_code": False}  # left out, transformers asks on stdin whether to run it
VERY_LONG = 10**9  # tokens; tokenizers that say nothing say more


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers logs errors only and shows no bars.

    What is missing is an error here, not a table of warnings, and reading a few tensors takes no time; downloads keep
    their bars.
    """
    from transformers.utils import logging

    said, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(said)
        if bars:
            logging.enable_progress_bar()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The one of a folder.

    Raises
    ------
    InputError
        None there, or one that is broken. From a folder without, transformers makes an empty one.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    file = folder / "tokenizer.json"
    advice = "Copy it from the model it was made from, or pass tokenizer=... to load_model."
    if file.is_file():
        read_json(file)
        with refusing(f"its tokenizer '{file}' is broken", advice):
            Tokenizer.from_file(str(file))
    with refusing(f"its tokenizer in '{folder}' cannot be read", advice), quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, **NO_CODE)
        words = own_words(tokenizer)
    if not words:
        raise InputError(f"'{folder}' holds no tokenizer (expected tokenizer.json or its like). {advice}")
    return tokenizer


def own_words(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Tokens and their numbers, without those that were added to the vocabulary."""
    added = tokenizer.added_tokens_encoder
    return {token: number for token, number in tokenizer.get_vocab().items() if token not in added}


def check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, rows: int | None) -> None:
    """A tokenizer must fit an embedding of so many rows; tokens added to it are looked at when they come up.

    Raises
    ------
    InputError
        A tokenizer of another vocabulary, or one whose longest sequence is no number of tokens.
    """
    length = tokenizer.model_max_length
    if not ((isinstance(length, int | float) and length > VERY_LONG) or (isinstance(length, int) and length > 0)):
        raise InputError(
            f"Cannot load {name!r}: its tokenizer says model_max_length={length!r:.80}; expected a positive integer."
        )
    if rows is None:
        return
    beyond = [token for token, number in own_words(tokenizer).items() if number >= rows]
    if beyond:
        raise InputError(
            f"Cannot load {name!r}: {len(beyond):,} words of its tokenizer, {min(beyond)!r} among them, have numbers "
            f"beyond its embedding of {rows:,} rows. The tokenizer is of another model: pass tokenizer=... as well."
        )
