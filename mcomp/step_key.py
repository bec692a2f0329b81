"""What the key of a step is made of: everything that the bytes of its result depend on. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, cast

from mcomp.data.contract import DataConfig
from mcomp.fingerprint import effective, fingerprint, makers, sources
from mcomp.measure.machine import machine_id
from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import Recipe, RecipeRef
from mcomp.stage import StageConfig

KEY_FORMAT = 1


def step_key(
    recipe: Recipe,
    config: StageConfig,
    source: str | Mapping[str, Any],
    models: Mapping[RecipeRef, str],
    content: str,
) -> dict[str, Any]:
    """Return everything that the bytes of a step's result depend on, as JSON."""
    data = cast(DataConfig, recipe.data)
    return {
        "format": KEY_FORMAT,
        "stage": {"version": type(config).version, **with_keys(effective(config), models)},
        "source": source,
        "data": {"version": type(data).version, "content": content, **effective(data)},
        "task": {"version": type(recipe.task).version, **effective(recipe.task)},
        "seed": recipe.seed,
        "compute": recipe.compute.model_dump(mode="json", exclude_defaults=True),
        "makers": makers(),
        "sources": {
            name: digest
            for part in (config, data, recipe.task)
            for name, digest in sources(type(part)).items()
        },
        **({"machine": machine_id()} if config.timed() else {}),
        **({"libraries": {name: version(name) for name in config.libraries}} if config.libraries else {}),
    }


def made_by(kind: type[ModelConfig]) -> dict[str, Any]:
    """Return what the weights of a fresh model depend on beside its fields: versions, and code that may
    change.
    """
    return {
        "version": kind.version,
        "libraries": {name: version(name) for name in kind.libraries},
        "sources": sources(kind),
    }


def with_keys(value: Any, models: Mapping[RecipeRef, str]) -> Any:
    """Return `value` with each reference to a recipe replaced by the key of its model: paths are in no
    key.
    """
    plain = {fingerprint(ref.model_dump(mode="json")): key for ref, key in models.items()}
    return replaced(value, plain)


def replaced(value: Any, keys: Mapping[str, str]) -> Any:
    """Return `value` with each mapping whose fingerprint is in `keys` replaced by that key."""
    if isinstance(value, dict):
        key = keys.get(fingerprint(value))
        return key or {name: replaced(each, keys) for name, each in value.items()}
    return [replaced(each, keys) for each in value] if isinstance(value, list) else value
