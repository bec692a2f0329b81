"""A JSON Schema of recipes with everything that is installed, for editors and other programs.

It says what the schemas of the parts say. What must hold between parts (the order of stages, a target that
names exactly one quantity, files that must be there) only `mcomp check` can say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Union

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from mcomp import plugins
from mcomp.config import PluginConfig
from mcomp.errors import PluginError
from mcomp.recipe.build import DEFAULT_TASK
from mcomp.recipe.samples import sample
from mcomp.recipe.schema import Name, Recipe, one_or_many

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = {
    "type": "string",
    "pattern": r"\$\{|^\?\?\?$",
    "description": "the value of another key, as in ${model.depth}; ??? is a value that is still to be set",
}
NOTES = ("description", "default", "examples")
DEFAULTS = {
    "type": "array",
    "items": {"type": ["string", "object"]},
    "description": "files to build on, and _self_, where this file's own keys are laid over them",
}


class Generator(GenerateJsonSchema):
    """Pydantic's generator; what recipes may say beyond it, and samples, are added."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> Schema:
        """Return the schema of what a validator is called with."""
        inner = super().function_before_schema(schema)
        either = schema["function"]["function"] is one_or_many
        return {"anyOf": [inner["items"], inner]} if either else inner

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        """Return the schema of a class, a plugin's with the sample of its docstring."""
        made = super().model_schema(schema)
        shown = sample(schema["cls"]) if issubclass(schema["cls"], PluginConfig) else None
        return made | ({"examples": [shown.value]} if shown else {})

    def sort(self, value: Any, parent_key: str | None = None) -> Any:
        """Return the value as it is: fields stand in the order in which they are explained."""
        return value


def recipe_schema(on_broken: Callable[[str], None]) -> Schema:
    """Return the schema of a whole recipe; `on_broken` is told which plugins are left out, and why."""
    definitions = whole_recipe(on_broken).model_json_schema(schema_generator=Generator)
    whole = {key: value for key, value in definitions.items() if key != "$defs"}
    parts = {name: open_to_references(part) for name, part in definitions["$defs"].items()}
    return {
        "$schema": DIALECT,
        "title": "mcomp recipe",
        "if": {"required": ["defaults"]},
        "then": {"$ref": "#/$defs/recipe-on-bases"},
        "else": {"$ref": "#/$defs/whole-recipe"},
        "$defs": {
            # No class can have these names.
            "whole-recipe": open_to_references(whole),
            "recipe-on-bases": on_bases(whole),
            "reference-to-value": REFERENCE,
            **parts,
        },
    }


def whole_recipe(on_broken: Callable[[str], None]) -> type[BaseModel]:
    """Return the schema of a recipe in which each part is one of the installed plugins."""
    stage = one_of("stages", on_broken)
    parts: dict[str, Any] = {
        "model": (one_of("models", on_broken), ...),
        "data": (one_of("data", on_broken), ...),
        "task": (one_of("tasks", on_broken), DEFAULT_TASK),
        "stages": (dict[Name, stage], Field({}, min_length=1)),  # type: ignore[valid-type]  # known at run time
    }
    return create_model("Recipe", __base__=Recipe, __doc__=Recipe.__doc__, **parts)


def one_of(group: plugins.Group, on_broken: Callable[[str], None]) -> Any:
    """Return the union of a group's classes, told apart by their `type`."""
    kinds = tuple(loaded(group, on_broken))
    if len(kinds) < 2:
        return kinds[0] if kinds else PluginConfig
    # X | Y cannot be written for classes that are only known at run time.
    return Annotated[Union[kinds], Field(discriminator="type")]  # noqa: UP007


def loaded(group: plugins.Group, on_broken: Callable[[str], None]) -> Iterator[type[BaseModel]]:
    """Yield the classes of a group."""
    for name in plugins.names(group):
        try:
            yield plugins.load(group, name)
        except PluginError as error:
            on_broken(str(error))


def on_bases(recipe: Schema) -> Schema:
    """Return the schema of a recipe that builds on others: what is in them no editor sees, so that only the
    names of its own keys can be checked.
    """
    keys = {name: {"description": part.get("description", "")} for name, part in recipe["properties"].items()}
    return {
        "type": "object",
        "properties": {"defaults": DEFAULTS, **keys},
        "additionalProperties": False,
    }


def open_to_references(schema: Schema) -> Schema:
    """Return the schema of a mapping whose values may also be references, and whose `type` must be given."""
    properties = schema.get("properties", {})
    opened = {name: or_reference(value) for name, value in properties.items()}
    required = list(schema.get("required", ()))
    if "const" in properties.get("type", {}) and "type" not in required:
        required.insert(0, "type")
    kept = {key: value for key, value in schema.items() if key != "title"}
    return kept | ({"properties": opened} if opened else {}) | ({"required": required} if required else {})


def or_reference(schema: Schema) -> Schema:
    """Return a schema that also accepts a reference, in the place of the value and of each value inside."""
    notes = {key: schema[key] for key in NOTES if key in schema}
    plain = {key: inside(key, value) for key, value in schema.items() if key not in ("title", *NOTES)}
    if "const" in plain or plain == {"type": "string"}:
        return {**plain, **notes}
    if "patternProperties" in plain:
        plain["additionalProperties"] = False
    alternatives = plain["anyOf"] if plain.keys() == {"anyOf"} else [plain]
    return {"anyOf": [*alternatives, {"$ref": "#/$defs/reference-to-value"}], **notes}


def inside(key: str, value: Any) -> Any:
    """Return the value of a keyword; the schemas in it also accept references."""
    if key in ("items", "additionalProperties") and isinstance(value, dict):
        return or_reference(value)
    if key == "patternProperties":
        return {pattern: or_reference(each) for pattern, each in value.items()}
    if key == "anyOf":
        return [{inner: inside(inner, part) for inner, part in each.items()} for each in value]
    return value
