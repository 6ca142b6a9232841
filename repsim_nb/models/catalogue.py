"""The catalogue of models that load by name: embedded ones, pretrained ones from the package index, and the hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repsim_nb.errors import InputError, unknown
from repsim_nb.models.checkpoint import read_metadata, weight_files
from repsim_nb.models.packaged import PACKAGED, SOURCE, Packaged
from repsim_nb.models.published import HUB_MODELS, HubModel, repositories
from repsim_nb.system.shipped import data_dir

if TYPE_CHECKING:
    import pandas as pd


def list_models(family: str | None = None) -> pd.DataFrame:
    """List the models that load by name: embedded ones, then those from the package index and the hub (index: name).

    Printed or displayed, the whole list shows one row per family; it still holds one row per model.

    Parameters
    ----------
    family
        Only the models of this family, each shown in its own row. None means all.

    Returns
    -------
    pandas.DataFrame
        Columns: family, kind, source ("embedded", "package index" or "hub"), needs_download, repository (hub id),
        n_layers, d_model, d_head, rotary_dim (rotary dimensions of a head), activation (of the MLP; NA without one),
        n_parameters, bytes (of the weights), tokens_seen, loss (nats per token on held-out text), bits_per_byte,
        unigram_loss and unigram_bits_per_byte (of training frequencies on the same text), untrained_loss (before the
        first step), revisions (checkpoints, as in name@step500; long lists are shortened, see `checkpoints`), licence
        and note (of models from the package index). Classifiers have no losses but accuracy, on held-out pairs; for
        out-of-distribution sub-cases see `accuracies`. Sentence encoders have recall: the share of the queries of
        docstrings, split test, whose passage is among the first 10.

    Notes
    -----
    Values that are unknown before a download are NA. Any other model on the hub loads by its id. Toy models also load
    by TransformerLens' other names for them, and Pythia models without "EleutherAI/".

    Raises
    ------
    InputError
        There is no such family.

    Examples
    --------
    >>> len(list_models(family="tiny-bert-nli"))
    40
    >>> "tiny-bert-nli-07" in list_models().index
    True
    """
    import pandas as pd

    from repsim_nb.models.family_table import Catalogue

    names = embedded()
    if not names:
        raise InputError(f"No embedded models in '{data_dir()}': this checkout is incomplete. Clone or install again.")
    packaged = map(_describe_packaged, PACKAGED.values())
    rows = [*map(_describe, names), *packaged, *map(_describe_hub_model, HUB_MODELS)]
    models = pd.DataFrame(rows).set_index("name").convert_dtypes()  # keeps integers despite NA
    if family is None:
        return Catalogue(models)
    if family not in set(models.family):
        raise unknown("family", family, models.family.unique(), "See list_models().")
    return models[models.family == family]


def families() -> pd.DataFrame:
    """List the families of models, one row each (index: family).

    Returns
    -------
    pandas.DataFrame
        Columns: models (how many), kind, source, n_layers, d_model and n_parameters (from the smallest to the largest,
        as text), for (what the family is for) and names (of all its models).

    Examples
    --------
    >>> families().n_layers["tiny-gelu"]
    '3 to 4'
    """
    from repsim_nb.models.family_table import by_family

    return by_family(list_models())


def embedded() -> list[str]:
    """Names of the models that ship with the package."""
    folders = (p.name for p in data_dir().iterdir() if (p / "config.json").exists() and "@" not in p.name)
    return sorted(folders, key=lambda name: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", name)])


def checkpoint(name: str, revision: str | None) -> Path:
    """The folder of an embedded model at `revision`; its last step is another name for the final weights.

    Raises
    ------
    InputError
        If there is no such checkpoint.
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
    """Revision name of the training step at which the weights in `folder` were written."""
    step = read_metadata(weight_files(folder)[0]).get("step")
    return f"step{step}" if step else None


def _describe(name: str) -> dict[str, Any]:
    folder = data_dir() / name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = weight_files(folder)[0]
    about = read_metadata(weights)
    kind, measured = _measured(name, about)
    return {
        "name": name,
        "family": about["family"],
        "kind": kind,
        "source": "embedded",
        "needs_download": False,
        **_shape(config),
        "n_parameters": int(about["parameters"]),
        "bytes": weights.stat().st_size,
        **measured,
        "revisions": _shortened(_revisions(name)),
    }


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """Shape from a config.json of transformers or TransformerLens."""
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


def _measured(name: str, about: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """The kind of a model, and what was measured when it was trained."""
    if "accuracies" in about:
        return "classifier", {"accuracy": json.loads(about["accuracies"])["test"]}
    if "retrieval" in about:
        return "encoder", {"recall": json.loads(about["retrieval"])["recall_at_10"]}
    return "causal", _losses(name, about)


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


def _describe_hub_model(known: HubModel) -> dict[str, Any]:
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


def _describe_packaged(model: Packaged) -> dict[str, Any]:
    shape = ("n_layers", "d_model", "d_head", "activation", "n_parameters", "bytes")
    return {
        **{key: getattr(model, key) for key in ("name", "family", "kind", *shape, "licence", "note")},
        "source": SOURCE,
        "needs_download": not model.fetched,
    }


def _shortened(names: Sequence[str]) -> str:
    """Join names, shortening a long list to its first and last ones."""
    return ", ".join(names if len(names) < 9 else [*names[:3], "...", *names[-2:]])


def checkpoints(name: str) -> list[str]:
    """List the revisions of a model in the catalogue, in training order: `load_model(f"{name}@{revision}")`.

    Parameters
    ----------
    name
        Name of the model.

    Returns
    -------
    list of str
        Names of the revisions; empty if there are none.

    Raises
    ------
    InputError
        If the name is not in the catalogue.

    Examples
    --------
    >>> checkpoints("EleutherAI/pythia-70m")[9:13]
    ['step256', 'step512', 'step1000', 'step2000']
    """
    if name in embedded():
        return _revisions(name)
    if name in PACKAGED:
        return []
    repository = repositories().get(name, name)
    for known in HUB_MODELS:
        if known.repository == repository:
            return list(known.checkpoints)
    raise unknown("model", name, [*embedded(), *PACKAGED, *repositories()])


def trajectory(name: str, folder: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """List the checkpoints of a model that was trained with one of the recipes, and their held-out losses.

    Parameters
    ----------
    name
        An embedded model, or one in `folder`.
    folder
        Where `repsim-nb zoo build` has written models. None means the embedded ones.

    Returns
    -------
    pandas.DataFrame
        Indexed by step, ascending; the last is the end of training. Columns: checkpoint, the folder, which
        `load_model` takes; and loss, in nats per token on the test split of the corpus.

    Raises
    ------
    InputError
        If there is no such model, or it is none that has a loss.
    FileNotFoundError
        If the folder is missing.

    Examples
    --------
    >>> trajectory("tiny-neox-w64-d4").loss.round(2).to_dict()
    {0: 7.82, 50: 6.76, 150: 5.31, 500: 4.13, 1000: 3.77, 1500: 3.63}
    """
    import pandas as pd

    place = data_dir() if folder is None else Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"The folder {place} of trained models does not exist.")
    there = {path.parent.name for path in place.glob("*/config.json")}
    whole = sorted(each for each in there if "@" not in each)
    if name not in whole:
        raise unknown("model", name, whole, f"Looked in {place}.")
    folders = [place / each for each in there if each.split("@")[0] == name]
    lines = []
    for path in folders:
        about = read_metadata(weight_files(path)[0])
        if "held_out" not in about:
            raise InputError(f"{path.name} has no held-out loss; expected a language model made by one of the recipes.")
        lines.append((int(about["step"]), str(path), json.loads(about["held_out"])["nats_per_token"]))
    return pd.DataFrame(lines, columns=["step", "checkpoint", "loss"]).set_index("step").sort_index()


def accuracies(family: str | None = None) -> pd.DataFrame:
    """List the accuracies of the embedded classifiers, measured when they were trained.

    Parameters
    ----------
    family
        A family in `list_models()`; None means all.

    Returns
    -------
    pandas.DataFrame
        Indexed by name. Columns: "test", in distribution, and every out-of-distribution sub-case of nli-heuristics,
        such as "lexical_overlap/non-entailment/subject_object_swap".

    Raises
    ------
    InputError
        If no embedded classifier is of this family.

    Examples
    --------
    >>> len(accuracies("tiny-bert-nli"))
    40
    """
    import pandas as pd

    cards = {name: read_metadata(weight_files(data_dir() / name)[0]) for name in embedded()}
    cards = {name: about for name, about in cards.items() if "accuracies" in about}
    families = {about["family"] for about in cards.values()}
    if family is not None and family not in families:
        raise unknown("family of classifiers", family, sorted(families))
    rows = {name: json.loads(about["accuracies"]) for name, about in cards.items() if family in (None, about["family"])}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
