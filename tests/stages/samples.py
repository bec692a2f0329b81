"""The YAML in a stage's manual."""

from __future__ import annotations

import textwrap
from types import ModuleType
from typing import Any

import yaml


def sample_of(module: ModuleType) -> dict[str, Any]:
    """Return the fields of the stage that the indented block of a module's docstring describes."""
    assert module.__doc__ is not None
    block = next(part for part in module.__doc__.split("\n\n") if part.startswith("    "))
    (fields,) = yaml.safe_load(textwrap.dedent(block)).values()
    assert isinstance(fields, dict)
    return fields
