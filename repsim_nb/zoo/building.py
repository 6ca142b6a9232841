"""The one call that trains a model from its recipe."""

from __future__ import annotations

import os
from pathlib import Path

from repsim_nb.errors import unknown
from repsim_nb.zoo.recipes import RECIPES, ClassifierRecipe, EncoderRecipe


def build(name: str, out: str | os.PathLike[str], work: str | os.PathLike[str] | None = None) -> Path:
    """Train the model `name` from its recipe on one thread and write it to `out/name` in its target format.

    A call after a kill goes on where the last one stopped. The encoder of a classifier is taken from `out`, and
    pretrained first where it is missing there.

    Parameters
    ----------
    name
        From `list_recipes()`.
    out
        The folder of models.
    work
        Where the state of training is kept; None is `out/.work`.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    InputError
        Unknown name, unwritable folder.
    """
    from repsim_nb.zoo.bert import build_classifier, build_encoder
    from repsim_nb.zoo.export import build_recipe

    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    out = Path(out)
    work = Path(work) if work else out / ".work"
    recipe = RECIPES[name]
    if isinstance(recipe, EncoderRecipe):
        return build_encoder(recipe, out, work)
    if isinstance(recipe, ClassifierRecipe):
        if not (out / recipe.encoder / "config.json").exists():
            build(recipe.encoder, out, work)
        return build_classifier(recipe, out, work)
    return build_recipe(recipe, out, work)
