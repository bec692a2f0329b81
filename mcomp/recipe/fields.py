"""The part of a schema that a validation error is about: the possible keys, and what the field means."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Location = tuple[str | int, ...]

# How many mappings deep a misplaced key is looked for.
DEEPEST = 3


def possible_keys(model: type[BaseModel], location: Location) -> tuple[str, ...]:
    """Return the names that could stand where the last part of `location` stands."""
    return tuple(name for part in members(model, location[:-1]) for name in part.model_fields)


def elsewhere(model: type[BaseModel], location: Location) -> str:
    """Return where a key that is unknown at `location` could stand, deeper in: `optimizer.lr`, or ""."""
    key = str(location[-1])
    around = members(model, location[:-1])
    for depth in range(1, DEEPEST):
        found = [path for part in around for path in paths(part, key, depth)]
        if found:
            return found[0] if len(set(found)) == 1 else ""
    return ""


def paths(model: type[BaseModel], key: str, depth: int) -> list[str]:
    """Return the dotted paths to the fields called `key`, `depth` mappings below `model`."""
    if depth == 0:
        return [key] if key in model.model_fields else []
    return [
        f"{name}.{path}"
        for name, field in model.model_fields.items()
        for part in alternatives(field.annotation)
        if is_model(part)
        for path in paths(part, key, depth - 1)
    ]


def example(model: type[BaseModel], location: Location, value: str) -> str:
    """Return what a bare `value` at `location` stands for: a mapping, or itself where none can stand.

    "" if that is not clear.
    """
    schemas = members(model, location)
    if value.lower() in choices(model, location, "type"):
        return f"{{type: {value.lower()}}}"
    if not schemas:
        return value
    fields = schemas[0].model_fields
    needed = [name for name, field in fields.items() if field.is_required()] or list(fields)
    return f"{{{needed[0]}: {value}}}" if len(needed) == 1 else ""


def choices(model: type[BaseModel], location: Location, key: str) -> list[str]:
    """Return what a mapping at `location` may hold under the `key` that tells its kinds apart."""
    fields = [schema.model_fields[key] for schema in members(model, location) if key in schema.model_fields]
    return [tag for field in fields if is_literal(field.annotation) for tag in get_args(field.annotation)]


def members(model: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """Return the schemas of the mappings that may stand at `location`."""
    return [part for part in walk(model, location)[0] if is_model(part)]


def description(model: type[BaseModel], location: Location) -> str:
    """Return the description of the innermost field at `location`, or ""."""
    return walk(model, location)[1]


def walk(model: type[BaseModel], location: Location) -> tuple[list[Any], str]:
    """Return what may stand at `location`, and the description of the field that leads there.

    `location` is pydantic's: it also holds the tags of unions and the names of validators.
    """
    here: list[Any] = [model]
    meaning = ""
    for part in location:
        for annotation in here:
            if is_model(annotation) and part in annotation.model_fields:
                meaning = annotation.model_fields[str(part)].description or ""
        here = [inner for annotation in here for inner in step(annotation, part)] or here
    return here, meaning


def step(annotation: Any, part: str | int) -> list[Any]:
    """Return what `part` leads to from one annotation; nothing, if it does not belong to it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_model(annotation):
        if part in annotation.model_fields:
            return alternatives(annotation.model_fields[str(part)].annotation)
        return [annotation] if part in tags(annotation) else []
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return alternatives(arguments[1])
    if origin in (tuple, list) and arguments and isinstance(part, int):
        return alternatives(arguments[0])
    return []


def tags(model: type[BaseModel]) -> set[Any]:
    """Return what pydantic calls a model in the location of an error inside a union."""
    literals = (field.annotation for field in model.model_fields.values())
    return {
        model.__name__,
        *(tag for each in literals if is_literal(each) for tag in get_args(each)),
    }


def is_model(annotation: Any) -> bool:
    """Whether an annotation is a class of a schema."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def is_literal(annotation: Any) -> bool:
    """Whether an annotation lists the values that there are."""
    return get_origin(annotation) is Literal


def alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, or the annotation alone."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [inner for argument in get_args(annotation) for inner in alternatives(argument)]
    return [annotation]
