"""The catalogue of models that can be picked by name: embedded ones, and what is known of those on the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.checkpoint import read_metadata, weight_files
from repsim_nb.models.published import KNOWN, Known, repositories
from repsim_nb.system.shipped import data_dir

if TYPE_CHECKING:
    import pandas as pd


def list_models() -> pd.DataFrame:
    """The models that can be loaded by name, embedded ones first, then those on the hub (index: name).

    What is not known before a download is NA; any other model of the hub loads by its id. Toy models also load by the
    other names that TransformerLens has for them, Pythia models without "EleutherAI/" as well.

    Columns: family, kind, source ("embedded" or "hub"), needs_download, repository (its hub id), n_layers, d_model,
    d_head, rotary_dim (dimensions of a head that rotate with position), activation (of the MLP; NA where there is
    none), n_parameters, bytes (of the weights), tokens_seen, loss (nats per token on held-out text), bits_per_byte,
    unigram_loss and unigram_bits_per_byte (of the training frequencies on the same text), untrained_loss (the same
    network before its first step), revisions (checkpoints, as in name@step500; long lists shortened, see
    `checkpoints`).
    Classifiers have none of these losses but accuracy, the share of held-out pairs labelled right; for the sub-cases
    that their corpus holds out of distribution see `accuracies`.
    """
    import pandas as pd

    names = embedded()
    if not names:
        raise InputError(f"No embedded model in '{data_dir()}': this checkout is incomplete. Clone or install again.")
    rows = [*map(_describe, names), *map(_describe_known, KNOWN)]
    return pd.DataFrame(rows).set_index("name").convert_dtypes()  # with NA: integers stay integers


def embedded() -> list[str]:
    """Names of the models that travel with the package."""
    folders = (p.name for p in data_dir().iterdir() if (p / "config.json").exists() and "@" not in p.name)
    return sorted(folders, key=lambda name: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", name)])


def checkpoint(name: str, revision: str | None) -> Path:
    """The folder of an embedded model as it was at `revision`; its last step names the final weights as well.

    Raises
    ------
    InputError
        No such checkpoint.
    """
    folder = data_dir() / name
    if revision in (None, "main", _last_step(folder)):
        return folder
    if revision not in _revisions(name):
        raise unknown(f"revision of {name}", revision, ["main", *_revisions(name)])
    return data_dir() / f"{name}@{revision}"


def _revisions(name: str) -> list[str]:
    found = [p.name.split("@", 1)[1] for p in data_dir().glob(f"{name}@*") if (p / "config.json").exists()]
    found += filter(None, [_last_step(data_dir() / name)])
    return sorted(found, key=lambda r: int(re.sub(r"\D", "", r) or 0))


def _last_step(folder: Path) -> str | None:
    """At which step of its training the weights in `folder` were written, as a revision is named."""
    step = read_metadata(weight_files(folder)[0]).get("step")
    return f"step{step}" if step else None


def _describe(name: str) -> dict[str, Any]:
    folder = data_dir() / name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = weight_files(folder)[0]
    about = read_metadata(weights)
    measured = _accuracy(about) if "accuracies" in about else _losses(name, about)
    return {
        "name": name,
        "family": about["family"],
        "kind": "classifier" if "accuracies" in about else "causal",
        "source": "embedded",
        "needs_download": False,
        **_shape(config),
        "n_parameters": int(about["parameters"]),
        "bytes": weights.stat().st_size,
        **measured,
        "revisions": _shortened(_revisions(name)),
    }


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """What a config.json says, of transformers or of TransformerLens."""
    if "act_fn" in config:
        return {key: config[key] for key in ("n_layers", "d_model", "d_head")} | {"activation": config["act_fn"]}
    d_head = config["hidden_size"] // config["num_attention_heads"]
    share = config.get("rope_parameters", {}).get("partial_rotary_factor")
    return {
        "n_layers": config["num_hidden_layers"],
        "d_model": config["hidden_size"],
        "d_head": d_head,
        "rotary_dim": None if share is None else int(d_head * share),
        "activation": config["hidden_act"],
    }


def _accuracy(about: dict[str, str]) -> dict[str, Any]:
    return {"accuracy": json.loads(about["accuracies"])["test"]}


def _losses(name: str, about: dict[str, str]) -> dict[str, Any]:
    held_out = json.loads(about["held_out"])
    untrained = data_dir() / f"{name}@step0"
    return {
        "tokens_seen": int(about["tokens_seen"]),
        "loss": held_out["nats_per_token"],
        "bits_per_byte": held_out["bits_per_byte"],
        "unigram_loss": held_out["unigram_nats_per_token"],
        "unigram_bits_per_byte": held_out["unigram_bits_per_byte"],
        "untrained_loss": _held_out(untrained)["nats_per_token"] if untrained.is_dir() else float("nan"),
    }


def _held_out(folder: Path) -> dict[str, Any]:
    return json.loads(read_metadata(weight_files(folder)[0])["held_out"])


def _describe_known(known: Known) -> dict[str, Any]:
    return {
        "name": known.name,
        "family": known.family,
        "kind": "causal",
        "source": "hub",
        "needs_download": True,
        "repository": known.repository,
        **{key: getattr(known, key) for key in ("n_layers", "d_model", "d_head", "rotary_dim", "activation")},
        "n_parameters": known.n_parameters,
        "bytes": known.bytes,
        "revisions": _shortened(known.checkpoints) or None,
    }


def _shortened(names: Sequence[str]) -> str:
    """A long list by its first and last."""
    return ", ".join(names if len(names) < 9 else [*names[:3], "...", *names[-2:]])


def checkpoints(name: str) -> list[str]:
    """Revisions of a model of the catalogue, in the order of training: `load_model(f"{name}@{revision}")`.

    Raises
    ------
    InputError
        A name that is not in the catalogue.

    Examples
    --------
    >>> checkpoints("EleutherAI/pythia-70m")[9:13]
    ['step256', 'step512', 'step1000', 'step2000']
    """
    if name in embedded():
        return _revisions(name)
    repository = repositories().get(name, name)
    for known in KNOWN:
        if known.repository == repository:
            return list(known.checkpoints)
    raise unknown("model", name, [*embedded(), *repositories()])


def accuracies() -> pd.DataFrame:
    """Accuracies of the embedded classifiers as they were when published (index: name).

    Columns: "test", in distribution, and every sub-case of nli-heuristics out of distribution, as in
    "lexical_overlap/non-entailment/subject_object_swap".
    """
    import pandas as pd

    cards = {name: read_metadata(weight_files(data_dir() / name)[0]) for name in embedded()}
    rows = {name: json.loads(about["accuracies"]) for name, about in cards.items() if "accuracies" in about}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
