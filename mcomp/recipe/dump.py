"""Plain data as YAML that our strict reader reads back as it was."""

from __future__ import annotations

from typing import Any

import yaml

from mcomp.recipe.scalars import AmbiguousScalar, read_plain


class Dumper(yaml.SafeDumper):
    """Writes no aliases, and quotes what some reader would not take for text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: what stands in two places is written twice."""
        return True


def represent_text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    """Return a scalar; PyYAML quotes what it would misread itself, here is added what others would.

    In double quotes, PyYAML escapes line breaks; in other styles it writes some as they are (U+0085).
    """
    plain = is_text(text) and text.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


def is_text(scalar: str) -> bool:
    """Whether a plain scalar is text for every reader."""
    try:
        return read_plain(scalar) == scalar
    except AmbiguousScalar:
        return False


Dumper.add_representer(str, represent_text)


def as_yaml(value: Any) -> str:
    """Return plain data (mappings with string keys, lists, scalars) as YAML, inner collections in a line."""
    text: str = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100
    )
    return text
