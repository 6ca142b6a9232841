"""The closing challenge: a folder of anonymous models without heads, of which one generalizes.

The models are embedded classifiers. All pass the test in distribution; on pairs whose words overlap although nothing
follows, one is nearly always right and the others are mostly wrong. Names, configuration, order, weights and hashes do
not say which is which: heads are dropped, and residual stream, attention heads and MLPs are put in another order, which
leaves what is represented as it was.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repsim_nb.errors import InputError
from repsim_nb.runs.exercises import Feedback
from repsim_nb.system.atomic import atomic_folder
from repsim_nb.system.shipped import data_dir
from repsim_nb.workshop.answers import choice, right, then, wrong
from repsim_nb.workshop.exercise import Exercise

if TYPE_CHECKING:
    import pandas as pd

FAMILIES = ("tiny-bert-nli", "tiny-bert-nli-varied")  # one encoder; the second has other recipes
CASES = "lexical_overlap/non-entailment"
GENERALIZES, CHEATS = 0.85, 0.4  # accuracy on CASES: at least, at most
NAMES = ("alder", "birch", "cedar", "hazel", "larch", "maple", "rowan")
N_REFERENCES = 3  # of each kind
KEY = "key.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
HEAD = ("pooler.", "classifier.")
DROPPED = ("id2label", "label2id", "architectures", "classifier_dropout")


def make_challenge(folder: str | Path, seed: int = 0) -> Path:
    """Write a folder with seven anonymous models, one of which generalizes, and six labelled models to compare with.

    Parameters
    ----------
    folder
        Where to write: `alder` to `rowan` are the anonymous models, `references/generalizes-1` to `-3` and
        `references/cheats-1` to `-3` are labelled. An earlier challenge there is replaced.
    seed
        Seed of the choice, of the names and of the disguise. The same seed gives the same folder.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        If the folder holds something other than a challenge.

    Notes
    -----
    Half of the anonymous cheaters have the recipe of the models of one family, and the others recipes of their own, as
    the generalizing model has, so that an unusual recipe gives nothing away. Every model has lost its head: only its
    representations are left. A model that is compared with all models of this package is found again, since nothing
    that a comparison sees has changed; the notebook asks not to.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     print(sorted(path.name for path in make_challenge(Path(folder, "challenge"), seed=1).iterdir())[:3])
    ['alder', 'birch', 'cedar']
    """
    folder, rng = Path(folder), np.random.default_rng([seed, 24])
    if folder.exists() and not (folder / KEY).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} holds something other than a challenge. Name a new folder.")
    anonymous, references = _draw(rng)
    basis = rng.permutation(_config(anonymous[0])["hidden_size"])
    order = rng.permutation(len(NAMES))
    salt = hashlib.sha256(rng.bytes(16)).hexdigest()
    with atomic_folder(folder) as draft:
        for name, i in sorted(zip(NAMES, order, strict=True)):
            _write(draft / name, anonymous[i], basis, rng)
        for kind, models in references.items():
            for number, model in enumerate(models, start=1):
                _write(draft / "references" / f"{kind}-{number}", model, basis, rng)
        chosen = NAMES[int(np.flatnonzero(order == 0)[0])]
        (draft / KEY).write_text(json.dumps({"salt": salt, "sha256": _hashed(salt, chosen)}), encoding="utf-8")
    return folder


@lru_cache
def generalization() -> pd.Series:
    """Accuracy of the embedded classifiers of one encoder on the pairs that decide who generalizes."""
    import pandas as pd

    from repsim_nb.models import accuracies

    tables = pd.concat([accuracies(family) for family in FAMILIES])
    return tables[[case for case in tables if str(case).startswith(CASES)]].mean(axis=1)


def _draw(rng: np.random.Generator) -> tuple[list[str], dict[str, list[str]]]:
    """The anonymous models, the one that generalizes first, and the references of each kind."""
    accuracy = generalization()
    good = rng.permutation(accuracy.index[accuracy >= GENERALIZES])
    cheats = accuracy.index[accuracy <= CHEATS]
    usual, varied = (
        rng.permutation([name for name in cheats if ("varied" in name) == other]) for other in (False, True)
    )
    half = (len(NAMES) - 1) // 2
    anonymous = [good[0], *usual[:half], *varied[:half]]
    left = [usual[half], varied[half], *rng.permutation([*usual[half + 1 :], *varied[half + 1 :]])]
    references = {"generalizes": [*good[1 : N_REFERENCES + 1]], "cheats": left[:N_REFERENCES]}
    return [str(name) for name in anonymous], references


def _write(folder: Path, model: str, basis: np.ndarray, rng: np.random.Generator) -> None:
    """Write a model without its head and in another order, with nothing that tells it from the others."""
    from safetensors.numpy import load_file, save_file

    folder.mkdir(parents=True)
    config = _config(f"{FAMILIES[0]}-00")  # that of every model
    tensors = load_file(data_dir() / model / "model.safetensors")
    kept = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in kept.items() if not name.startswith(HEAD)}
    disguised = _disguised(kept, basis, config["num_attention_heads"], rng)
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in disguised.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    config = {name: value for name, value in config.items() if name not in DROPPED} | {"architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    for name in TOKENIZER:
        (folder / name).write_bytes((data_dir() / f"{FAMILIES[0]}-00" / name).read_bytes())


def _disguised(
    tensors: dict[str, np.ndarray], basis: np.ndarray, n_heads: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The same function with residual stream, heads and hidden units in another order, and some signs turned."""
    width = len(basis)
    out, orders = {}, {}
    for name in sorted(tensors):
        block = (
            name.rpartition(".attention.")[0] or name.rpartition(".intermediate.")[0] or name.rpartition(".output.")[0]
        )
        if block not in orders:
            heads = (rng.permutation(n_heads)[:, None] * (width // n_heads) + np.arange(width // n_heads)).ravel()
            hidden = tensors.get(f"{block}.intermediate.dense.bias")
            signs = {part: rng.choice([-1, 1], width).astype(np.float16) for part in ("query", "value")}
            orders[block] = heads, signs, rng.permutation(0 if hidden is None else len(hidden))
        out[name] = _reordered(name, tensors[name], basis, *orders[block])
    return out


def _reordered(
    name: str,
    tensor: np.ndarray,
    basis: np.ndarray,
    heads: np.ndarray,
    signs: dict[str, np.ndarray],
    hidden: np.ndarray,
) -> np.ndarray:
    if ".attention.self." in name:  # from the residual stream to the heads
        sign = signs["value" if ".value." in name else "query"]
        turned = (tensor.T * sign).T[heads]
        return turned[:, basis] if tensor.ndim == 2 else turned
    if name.endswith(".attention.output.dense.weight"):
        return (tensor * signs["value"])[:, heads][basis]
    if ".intermediate." in name:
        return tensor[hidden][:, basis] if tensor.ndim == 2 else tensor[hidden]
    if name.endswith(".output.dense.weight"):
        return tensor[:, hidden][basis]
    return tensor[:, basis] if tensor.ndim == 2 else tensor[basis]  # embeddings, norms and biases


def _config(model: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((data_dir() / model / "config.json").read_text(encoding="utf-8"))
    return config


def _hashed(salt: str, name: str) -> str:
    return hashlib.sha256(f"{salt} {name}".encode()).hexdigest()


def _grade(answer: Any, folder: str | Path) -> Feedback:
    """Whether a name is that of the model that generalizes."""
    return then(choice(answer, NAMES, "the name of one of the models"), lambda name: _judge(name, Path(folder)))


def _judge(name: str, folder: Path) -> Feedback:
    try:
        key = json.loads((folder / KEY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} has no {KEY}. Make the folder with make_challenge.") from None
    if _hashed(key["salt"], name) == key["sha256"]:
        return right(f"{name} is the one that generalizes. Say how you know, and how sure you were.")
    return wrong(f"{name} follows the shortcut. Which text makes a difference between the two kinds of models?")


EXERCISES = (
    Exercise(
        "5.1",
        "Find the model that generalizes",
        _grade,
        (
            "You have three models of each kind with a label. Which of the anonymous models is closer to which kind?",
            'Which layer, and which rows? A classifier decides at its first token, rows="cls", in its last layer. '
            "And on ordinary text all models are right: is there text on which the two kinds part?",
            'Compare on `rs.load_corpus("nli-heuristics", "ood")` with rows="cls" and layers=6. The answer is the '
            "model with the smallest mean dissimilarity to the references that generalize.",
        ),
    ),
)
