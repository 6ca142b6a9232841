"""Recipes that train the embedded model families in data/."""

from repsim_nb.zoo.building import build
from repsim_nb.zoo.recipes import Recipe, list_recipes

__all__ = ["Recipe", "build", "list_recipes"]
