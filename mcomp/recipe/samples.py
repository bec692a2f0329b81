"""The YAML sample in the docstring of a plugin."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any, NamedTuple

from pydantic import BaseModel

from mcomp.errors import RecipeError
from mcomp.recipe.load import Reader


class Sample(NamedTuple):
    """What a docstring shows: the key it stands under (the name of a stage, or `model`), and its value."""

    name: str
    value: dict[str, Any]


def sample(kind: type[BaseModel]) -> Sample | None:
    """Return the first sample in the docstring of a plugin's module, or of its class; None if it has none."""
    module = sys.modules[kind.__module__]
    paragraphs = re.split(r"\n\s*\n", f"{module.__doc__ or ''}\n\n{inspect.cleandoc(kind.__doc__ or '')}")
    names = kind.model_fields["type"].annotation
    for paragraph in paragraphs:
        for found in read(inspect.cleandoc(f"\n{paragraph}")):
            if found.value.get("type") in getattr(names, "__args__", ()):
                return found
    return None


def read(text: str) -> list[Sample]:
    """Return the mappings that a paragraph holds under names; none if it is no such YAML."""
    reader = Reader("docstring", text)
    try:
        data = reader.document()
    except RecipeError:
        return []
    if reader.problems or not isinstance(data, dict):
        return []
    return [Sample(name, value) for name, value in data.items() if isinstance(value, dict)]
