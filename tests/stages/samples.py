"""The YAML in a stage's manual."""

from __future__ import annotations

import textwrap
from types import ModuleType
from typing import Any

import yaml


def sample_of(module: ModuleType) -> dict[str, Any]:
    """Return the fields of the stage that the fullest indented block of a module's docstring describes."""
    assert module.__doc__ is not None
    blocks = [part for part in module.__doc__.split("\n\n") if part.startswith("    ")]
    (fields,) = yaml.safe_load(textwrap.dedent(max(blocks, key=lambda block: block.count(":")))).values()
    assert isinstance(fields, dict)
    return fields
