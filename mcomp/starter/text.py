"""The text of a first recipe: the samples of the plugins, each field with the description in its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from mcomp import plugins
from mcomp.config import PluginConfig
from mcomp.model.spec import ModelConfig
from mcomp.recipe.dump import Dumper
from mcomp.recipe.fields import description
from mcomp.recipe.samples import sample
from mcomp.recipe.schema import Recipe, Require
from mcomp.report.text import clean

# What most people mean by the name of a kind of stage.
USUAL_STAGES = {
    "train": "train",
    "distill": "distill.offline",
    "prune": "prune.channels",
    "qat": "quantize.qat",
    "export": "export.onnx",
}


@dataclass(frozen=True)
class Part:
    """One plugin of a recipe: its class, and the fields that are set; the others are shown commented out."""

    kind: type[BaseModel]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Starter:
    """What a first recipe says. `require`: the least speedup and so on, by the key under `require`."""

    name: str
    headline: tuple[str, ...]
    model: Part
    data: Part
    stages: Mapping[str, Part]
    baseline: str | None
    require: Mapping[str, Mapping[str, float]]


def starter_text(starter: Starter) -> str:
    """Return a recipe as YAML with comments."""
    order = ", ".join(starter.stages)
    lines = [
        *(f"# {clean(line)}" for line in starter.headline),
        "version: 1",
        f"name: {starter.name}",
        "seed: 0",
        "",
        "model:",
        *section(starter.model, "  "),
        "",
        "data:",
        *section(starter.data, "  "),
        "",
    ]
    if starter.baseline is not None:
        reference = inline({"recipe": starter.baseline})
        lines += [f"baseline: {reference}{comment(Recipe, ('baseline',))}", ""]
    lines += [f"pipeline: [{order}]{comment(Recipe, ('pipeline',))}", "", "stages:"]
    for name, part in starter.stages.items():
        lines += [f"  {name}:", *section(part, "    ")]
    if starter.require:
        lines += ["", "require:", *block(Require, starter.require, (), "  ")]
    return "\n".join(lines) + "\n"


def section(part: Part, indent: str) -> Iterator[str]:
    """Yield the lines of one plugin: its type with what it is, what is set, and what else could be."""
    summary = clean((part.kind.__doc__ or "").strip().partition("\n")[0])
    yield f"{indent}type: {inline(part.values['type'])}{f'  # {summary}' if summary else ''}"
    values = {name: value for name, value in part.values.items() if name != "type"}
    yield from block(part.kind, values, (), indent)
    for name, field in part.kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if name not in part.values and not field.is_required() and not isinstance(default, BaseModel):
            plain = list(default) if isinstance(default, tuple) else default
            yield f"{indent}# {name}: {inline(plain)}{comment(part.kind, (name,))}"


def block(
    kind: type[BaseModel], values: Mapping[str, Any], path: tuple[str | int, ...], indent: str
) -> Iterator[str]:
    """Yield one line for each value, or several for a mapping that holds mappings."""
    for name, value in values.items():
        here = (*path, name)
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            yield f"{indent}{name}:{comment(kind, here)}"
            yield from block(kind, value, here, f"{indent}  ")
        else:
            yield f"{indent}{name}: {inline(value)}{comment(kind, here)}"


def comment(kind: type[BaseModel], path: tuple[str | int, ...]) -> str:
    """Return what a field means as a comment behind it, or ""."""
    meaning = clean(description(kind, path))
    return f"  # {meaning}" if meaning else ""


def inline(value: Any) -> str:
    """Return a value in one line of YAML."""
    listed: str = yaml.dump([value], Dumper=Dumper, default_flow_style=True, sort_keys=False, width=10**6)
    return listed.strip()[1:-1]


def own_part(group: plugins.Group, name: str, files: Mapping[str, str]) -> Part:
    """Return a plugin with what its sample sets and the person's own `files`.

    Of data, only what it cannot do without is set: the rest depends on what lies in the files.
    """
    kind = plugins.load(group, name)
    shown = sample(kind)
    values = {**(shown.value if shown else {}), "type": name}
    if group == "data":
        needed = {field for field, about in kind.model_fields.items() if about.is_required()}
        values = {field: value for field, value in values.items() if field in needed | {"type"}}
    return Part(kind, {**values, **files})


def stage_parts(names: tuple[str, ...], teacher: str, model: Part) -> dict[str, Part]:
    """Return the stages by the names they get in the recipe; the recipes that samples refer to are `teacher`.

    `names` are types, or `USUAL_STAGES`. Raises UnknownPlugin, with the nearest type.
    """
    assert issubclass(model.kind, ModelConfig)
    parts: dict[str, Part] = {}
    for asked in names:
        part = stage_part(asked)
        shown = sample(part.kind)
        name = shown.name if shown else asked.rpartition(".")[2]
        taken = sum(each == name or each.startswith(f"{name}_") for each in parts)
        values = {**taught_by(part.values, teacher), **model.kind.starter.get(part.values["type"], {})}
        parts[f"{name}_{taken + 1}" if taken else name] = Part(part.kind, values)
    return parts


def stage_part(name: str) -> Part:
    """Return a stage by its type, or by what most people call it. Raises UnknownPlugin."""
    return own_part("stages", USUAL_STAGES.get(name, name), {})


def taught_by(value: Any, teacher: str) -> Any:
    """Return a value in which each reference to a recipe is one to the teacher's."""
    if isinstance(value, dict):
        inner = {name: taught_by(each, teacher) for name, each in value.items()}
        return {**inner, "recipe": teacher} if "recipe" in value else inner
    return [taught_by(each, teacher) for each in value] if isinstance(value, list) else value


def needs_teacher(names: tuple[str, ...]) -> bool:
    """Whether one of the stages learns from another recipe's model."""
    return any(refers(stage_part(name).values) for name in names)


def refers(value: Any) -> bool:
    """Whether a value holds a reference to a recipe."""
    if isinstance(value, Mapping):
        return "recipe" in value or any(map(refers, value.values()))
    return isinstance(value, list) and any(map(refers, value))


def plugin_fields(group: plugins.Group, name: str) -> set[str]:
    """Return the fields of a plugin."""
    kind = plugins.load(group, name)
    assert issubclass(kind, PluginConfig)
    return set(kind.model_fields)
