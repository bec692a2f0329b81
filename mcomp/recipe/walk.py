"""What fields say about themselves beside their type, found by walking a validated value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mcomp.recipe.places import KeyPath


def walk(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield a validated value and everything in it, each with its path."""
    yield path, value
    if isinstance(value, BaseModel):
        inside: Iterable[tuple[str | int, Any]] = (
            (name, getattr(value, name, None)) for name in type(value).model_fields
        )
    elif isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list | tuple):
        inside = enumerate(value)
    else:
        return
    for name, item in inside:
        yield from walk(item, (*path, name))


def mark(field: FieldInfo, name: str) -> Any:
    """Return what a field says under a name, None if it says nothing."""
    extra = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None


def texts(value: BaseModel, name: str) -> Iterator[tuple[KeyPath, str]]:
    """Yield every text in the fields that are marked with a name, each with its path."""
    for path, part in walk(value):
        if not isinstance(part, BaseModel):
            continue
        for key, field in type(part).model_fields.items():
            if mark(field, name) is not None:
                inside = walk(getattr(part, key), (*path, key))
                yield from ((where, text) for where, text in inside if isinstance(text, str))
