"""Sizes that a recipe leaves open, for the data to say."""

from __future__ import annotations

from typing import Any, TypeVar

from mcomp.errors import RecipeError
from mcomp.model.spec import ModelConfig

Kind = TypeVar("Kind", bound=ModelConfig)


def filled(config: Kind, **found: Any) -> Kind:
    """Return a copy in which each field that is named and still open has what was found."""
    return config.model_copy(update={name: getattr(config, name) or value for name, value in found.items()})


def known(config: ModelConfig, *names: str) -> tuple[int, ...]:
    """Return the sizes of these names. Raises RecipeError if one of them is still open."""
    sizes = tuple(getattr(config, name) for name in names)
    if None in sizes:
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
        raise RecipeError(f"{config.type}: the data does not say {listed}; set them")
    return sizes
