"""Load the tokenizer from a model's folder, and check that it belongs to that model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError
from repsim_nb.models.checkpoint_folder import read_json, refusing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_CODE: dict[str, Any] = {"trust_remote_code": False}  # without it, transformers asks on stdin whether to run code
VERY_LONG = 10**9  # tokens; a tokenizer without a limit reports more than this
_ONE_AT_A_TIME = RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Inside this context, transformers only logs errors and shows no progress bars (except for downloads).

    Missing weights are an error in this package, not a table of warnings. One thread at a time is inside: this context,
    and transformers while it makes a network, change settings of the whole process and restore what they found. Threads
    that overlap would restore each other's, such as float16 as torch's default type.
    """
    from transformers.utils import logging

    with _ONE_AT_A_TIME:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder.

    Raises
    ------
    InputError
        If there is none (transformers would make an empty one), or it is broken.
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
        raise InputError(f"'{folder}' has no tokenizer (expected a file such as tokenizer.json). {advice}")
    return tokenizer


def own_words(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Tokens and their ids, without added tokens."""
    added = tokenizer.added_tokens_encoder
    return {token: number for token, number in tokenizer.get_vocab().items() if token not in added}


def check_tokenizer(name: str, tokenizer: PreTrainedTokenizerBase, rows: int | None) -> None:
    """Check that a tokenizer fits an embedding with `rows` rows. Added tokens are checked when they are used.

    Raises
    ------
    InputError
        If the vocabulary does not fit, or the maximum length is not a number of tokens.
    """
    length = tokenizer.model_max_length
    if not ((isinstance(length, int | float) and length > VERY_LONG) or (isinstance(length, int) and length > 0)):
        raise InputError(
            f"Cannot load {name!r}: its tokenizer has model_max_length={length!r:.80}; expected a positive integer."
        )
    if rows is None:
        return
    beyond = [token for token, number in own_words(tokenizer).items() if number >= rows]
    if beyond:
        raise InputError(
            f"Cannot load {name!r}: {len(beyond):,} tokens of its tokenizer, such as {min(beyond)!r}, have ids beyond "
            f"its embedding of {rows:,} rows. The tokenizer belongs to another model; pass tokenizer=... as well."
        )
