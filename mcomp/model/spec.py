"""How a model is built: the configuration of an architecture, found by name through `mcomp.models`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from mcomp.config import PluginConfig, no_effect
from mcomp.recipe.schema import RecipeRef

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from mcomp.data.contract import DataFacts


class ModelConfig(PluginConfig):
    """Base of the architectures.

    `libraries`: distributions beside torch whose code they are made of. `starter`: fields that `mcomp init`
    sets for this architecture, by the type of a stage, where the sample of the stage does not suit it.
    """

    libraries: ClassVar[tuple[str, ...]] = ()
    starter: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    checkpoint: Annotated[
        str | RecipeRef | None,
        Field(description="trained weights: a .safetensors or .pt file, or {recipe: other.yaml}"),
    ] = None
    licence: str = no_effect(
        default="", description="of the weights it starts from; the card of a served model says it"
    )

    def build(self) -> nn.Module:
        """Return the architecture with fresh weights drawn from torch's global generator."""
        raise NotImplementedError

    def fill(self, module: nn.Module, checkpoint: Path) -> None:
        """Copy the weights of a file into what `build` returned, in place.

        Raises CheckpointError if the file is broken or does not fit; then nothing was copied.
        """
        from mcomp.model.checkpoint import load_weights

        load_weights(module, checkpoint)

    def fitted_to(self, facts: DataFacts) -> ModelConfig:
        """Return a copy in which what was left open (`num_classes: null`) is taken from the data.

        Raises RecipeError; `path` of each of its problems is the field of this configuration to blame.
        """
        return self

    def spec(self) -> dict[str, Any]:
        """Return what rebuilds the architecture, as plain JSON: no weights."""
        return self.model_dump(mode="json", exclude={"checkpoint", "licence"})
