"""Train a model from its recipe."""

from __future__ import annotations

import os
from pathlib import Path

from repsim_nb.errors import unknown
from repsim_nb.zoo.recipes import (
    RECIPES,
    ClassifierRecipe,
    DescendantRecipe,
    EmbeddingRecipe,
    EncoderRecipe,
    TrunkRecipe,
)


def build(name: str, out: str | os.PathLike[str], work: str | os.PathLike[str] | None = None) -> Path:
    """Train the model `name` from its recipe on one thread, and write it to `out/name` in its target format.

    Training resumes after an interruption. The encoder of a classifier and the trunk of a sentence encoder are read
    from `out`, and pretrained first if they are missing there; the base of a descendant is the embedded model where
    `out` has none.

    Parameters
    ----------
    name
        A name from `list_recipes()`.
    out
        Folder of the models.
    work
        Folder for the training state; None means `out/.work`.

    Returns
    -------
    Path
        The folder of the model.

    Raises
    ------
    InputError
        If the name is unknown or a folder is not writable.
    """
    from repsim_nb.zoo.bert import build_classifier, build_encoder
    from repsim_nb.zoo.embedding import build_embedding, build_trunk
    from repsim_nb.zoo.export import build_recipe
    from repsim_nb.zoo.fine_tuning import build_descendant

    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    out = Path(out)
    work = Path(work) if work else out / ".work"
    recipe = RECIPES[name]
    if isinstance(recipe, EncoderRecipe):
        return build_encoder(recipe, out, work)
    if isinstance(recipe, TrunkRecipe):
        return build_trunk(recipe, out, work)
    if isinstance(recipe, ClassifierRecipe):
        _build_if_missing(recipe.encoder, out, work)
        return build_classifier(recipe, out, work)
    if isinstance(recipe, EmbeddingRecipe):
        _build_if_missing(recipe.trunk, out, work)
        return build_embedding(recipe, out, work)
    if isinstance(recipe, DescendantRecipe):
        return build_descendant(recipe, out, work)
    return build_recipe(recipe, out, work)


def _build_if_missing(name: str, out: Path, work: Path) -> None:
    if not (out / name / "config.json").exists():
        build(name, out, work)
