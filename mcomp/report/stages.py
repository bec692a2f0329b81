"""What `mcomp stages` prints: the list of stages, and the manual of one, drawn from its docstring and its
schema.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mcomp import plugins
from mcomp.errors import printable_lines
from mcomp.report.text import clean

Schema = dict[str, Any]

BOUNDS = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "exclusiveMaximum": "< {}", "maximum": "<= {}"}


def stage_list() -> RenderableType:
    """Return every installed stage with what it does; a plugin that cannot be imported is shown with its
    error.
    """
    table = Table("stage", "does", "from", box=None, pad_edge=False)
    for each in plugins.describe("stages"):
        summary = Text(clean(each.error), style="red") if each.error else Text(clean(each.summary))
        table.add_row(
            Text(clean(each.name), style="bold"), summary, Text(clean(each.distribution), style="dim")
        )
    return table


def stage_manual(name: str) -> RenderableType:
    """Return the docstring of a stage with its sample, and its fields with their defaults.

    Raises RecipeError, with the nearest names, if there is no such stage.
    """
    kind = plugins.load("stages", name)
    manual = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or kind.__doc__ or "")
    fields = Table("field", "value", "default", "", box=None, pad_edge=False)
    schema = kind.model_json_schema()
    for row in field_rows(schema, schema.get("$defs", {})):
        fields.add_row(*(Text(clean(cell)) for cell in row))
    return Group(Text(printable_lines(in_paragraphs(manual))), Text(), fields)


def in_paragraphs(manual: str) -> str:
    """Return a manual without the line breaks inside of paragraphs: terminals break lines where they end."""
    blocks = manual.split("\n\n")
    is_prose = [not any(line.startswith((" ", "-", "|")) for line in block.split("\n")) for block in blocks]
    joined = [
        " ".join(block.split("\n")) if prose else block for block, prose in zip(blocks, is_prose, strict=True)
    ]
    return "\n\n".join(joined)


def field_rows(schema: Schema, definitions: Schema, indent: int = 0) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, kind of value, default and description of each field; nested fields follow, indented."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else shown(field.get("default"))
        yield "  " * indent + name, kind_of(field, definitions), default, field.get("description", "")
        for variant in mappings(field, definitions):
            yield from field_rows(variant, definitions, indent + 1)


def mappings(field: Schema, definitions: Schema) -> Iterator[Schema]:
    """Yield the schema of each mapping that may stand in a field."""
    if "$ref" in field:
        yield definitions[field["$ref"].rpartition("/")[2]]
    for each in alternatives(field):
        yield from mappings(each, definitions)
    if isinstance(field.get("items"), dict):
        yield from mappings(field["items"], definitions)


def alternatives(field: Schema) -> list[Schema]:
    """Return the alternatives of a field that may hold several kinds of value."""
    found: list[Schema] = [*field.get("anyOf", []), *field.get("oneOf", [])]
    return found


def kind_of(field: Schema, definitions: Schema) -> str:
    """Return what may be written for a field, in words."""
    if alternatives(field):
        kinds = [kind_of(each, definitions) for each in alternatives(field)]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in field:
        return shown(field["const"])
    if "enum" in field:
        return " | ".join(map(shown, field["enum"]))
    if "$ref" in field:
        return "mapping"
    if field.get("type") == "array":
        items = field.get("items")
        return f"list of {kind_of(items, definitions)}" if isinstance(items, dict) else "list"
    bounds = [text.format(shown(field[key])) for key, text in BOUNDS.items() if key in field]
    return " ".join([field.get("type", "any"), *bounds])


def shown(value: Any) -> str:
    """Return a value as one would write it in a recipe."""
    return value if isinstance(value, str) else json.dumps(value)
