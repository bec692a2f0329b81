"""Image models of the library timm.

    model: {type: timm, name: resnet18, arguments: {drop_path_rate: 0.1}}

`name` is one of `timm.list_models()`, `arguments` what its builder takes beside the classes and channels,
which come from the data. Weights are a file of the model's page on the hub: download it and name it as
`checkpoint`. The input is `image`, normalised as the weights expect it (the page says how).

timm imports torchvision as it starts (timm/layers/create_norm.py), so it needs a torchvision that is built
for the very torch that is installed; without, no model of it can be made. `resnet`, `mobilenet_v2`, `vgg_bn`,
`vit` and `efficientnet_lite` need neither, and of these `vit` takes timm's weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mcomp.model.spec import ModelConfig
from mcomp_stages.models.open_sizes import filled

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from mcomp.data.contract import DataFacts

INSTALL = "pip install timm torchvision, both for the installed torch"


class TimmConfig(ModelConfig):
    """An image model by its name in timm."""

    libraries = ("timm",)

    type: Literal["timm"] = "timm"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$", description="one of timm.list_models()")]
    arguments: Annotated[
        dict[str, str | int | float | bool | None], Field(description="what else its builder takes")
    ] = {}
    in_channels: Annotated[int | None, Field(ge=1, description="default: the data's")] = None
    num_classes: Annotated[int | None, Field(ge=1, description="default: the data's")] = None

    def fitted_to(self, facts: DataFacts) -> TimmConfig:
        """Return a copy with the data's sizes. Raises RecipeError if timm is not installed."""
        from mcomp_stages.models.installed import require_installed

        require_installed("timm", INSTALL)
        return filled(self, in_channels=facts.channels, num_classes=facts.num_classes)

    def build(self) -> nn.Module:
        """Return the network with fresh weights. Raises RecipeError if timm cannot."""
        from mcomp_stages.models.libraries import built, imported

        timm = imported("timm", "timm", INSTALL)
        sizes = {"in_chans": self.in_channels, "num_classes": self.num_classes}
        given: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
        return built(
            "timm",
            self.name,
            lambda: timm.create_model(self.name, pretrained=False, **given, **self.arguments),
        )

    def fill(self, module: nn.Module, checkpoint: Path) -> None:
        from mcomp_stages.models.libraries import fill_network

        fill_network(module, checkpoint)
