"""What every configurable part is described by: a frozen Pydantic model that refuses unknown keys.

Numbers and booleans are taken as they are written: `"4"` and `true` are no numbers, `1` is no boolean, and
`8.0` is not the choice `8`. An integer may stand for a float, and a list for a tuple. Pydantic's own strict
mode refuses lists, paths and names of enums as well, so only the schemas of numbers and booleans are made
strict.
"""

from __future__ import annotations

from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


def make_strict(schema: Any, owner: type[BaseModel]) -> None:
    """Make the numbers and booleans in `owner`'s schema strict, in place, but not in the models inside it."""
    if isinstance(schema, list | tuple):
        parts = list(schema)
    elif isinstance(schema, dict):
        kind = schema.get("type")  # or, in a table of fields, the schema of a field called `type`
        if kind == "model" and schema["cls"] is not owner:
            return
        if kind in ("int", "float", "bool"):
            schema["strict"] = True
        if kind == "literal" and not all(isinstance(choice, str) for choice in schema["expected"]):
            make_exact(schema)
            return
        is_table = not isinstance(kind, str)
        parts = [part for key, part in schema.items() if is_table or key not in ("default", "metadata")]
    else:
        return
    for part in parts:
        make_strict(part, owner)


def make_exact(schema: dict[str, Any]) -> None:
    """Make a choice between numbers tell `8` from `8.0` and `1` from `true`, in place; Python cannot."""
    choices = tuple(schema["expected"])
    exact = {(type(choice), choice) for choice in choices}

    def refuse_others(value: Any) -> Any:
        if isinstance(value, bool | int | float) and (type(value), value) not in exact:
            shown = [str(choice) for choice in choices]
            expected = " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
            raise PydanticKnownError("literal_error", {"expected": expected})
        return value

    inner = dict(schema)
    schema.clear()
    schema.update(core_schema.no_info_before_validator_function(refuse_others, cast(CoreSchema, inner)))


class Config(BaseModel):
    """Base of every mapping in a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        schema = handler(source)
        make_strict(handler.resolve_ref_schema(schema), source)
        return schema


class PluginConfig(Config):
    """Base of the mappings whose `type` names a plugin.

    `version` is raised when the same configuration would give other results; it is part of every key.
    """

    version: ClassVar[str] = "1"
    type: str


def no_effect(**kwargs: Any) -> Any:
    """Return a `Field` that does not change the result, so that it is left out of the step's key."""
    return Field(json_schema_extra={"affects_result": False}, **kwargs)


def shortens_to(limit: int, **kwargs: Any) -> Any:
    """Return a `Field` for an amount of work: at most `limit` in shortened runs (`run --quick`, `check`)."""
    return Field(json_schema_extra={"shortens_to": limit}, **kwargs)


def module_patterns(**kwargs: Any) -> Any:
    """Return a `Field` whose texts are patterns over the paths of modules, so that `check` can match them."""
    return Field(json_schema_extra={"patterns": "modules"}, **kwargs)
