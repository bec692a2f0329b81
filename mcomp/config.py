"""What every configurable part is described by: a frozen Pydantic model that refuses unknown keys."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """Base of every mapping in a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class PluginConfig(Config):
    """Base of the mappings whose `type` names a plugin.

    `version` is raised when the same configuration would give other results; it is part of every key.
    """

    version: ClassVar[str] = "1"
    type: str


def no_effect(**kwargs: Any) -> Any:
    """Return a `Field` that does not change the result, so that it is left out of the step's key."""
    return Field(json_schema_extra={"affects_result": False}, **kwargs)
