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
        found = read(inspect.cleandoc(f"\n{paragraph}"))
        if found is not None and found.value.get("type") in getattr(names, "__args__", ()):
            return found
    return None


def read(text: str) -> Sample | None:
    """Return the one mapping that a paragraph holds under a name, None if it is no such YAML."""
    reader = Reader("docstring", text)
    try:
        data = reader.document()
    except RecipeError:
        return None
    if reader.problems or not isinstance(data, dict) or len(data) != 1:
        return None
    ((name, value),) = data.items()
    return Sample(name, value) if isinstance(value, dict) else None
