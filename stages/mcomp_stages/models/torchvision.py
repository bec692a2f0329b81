"""Image models of the library torchvision.

    model: {type: torchvision, name: resnet18}
    data: {type: image_folder, path: images, image_size: 224}

`name` is one of `torchvision.models.list_models()`, `arguments` what its builder takes beside the number of
classes, which comes from the data. Weights are a file: save `model.state_dict()`, or download the one that
the library's page names, and write it as `checkpoint`. The input is `image`, three channels.

torchvision imports only beside the very torch that it was built for (otherwise: `operator torchvision::nms
does not exist`); install both from one index. `resnet`, `mobilenet_v2` and `vgg_bn` need no torchvision and
take its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.errors import Problem, RecipeError
from mcomp.model.spec import ModelConfig

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from mcomp.data.contract import DataFacts

INSTALL = "pip install torchvision, for the installed torch"
CHANNELS = 3


class TorchvisionConfig(ModelConfig):
    """An image model by its name in torchvision."""

    libraries = ("torchvision",)

    type: Literal["torchvision"] = "torchvision"
    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.]+$", description="one of torchvision.models.list_models()")
    ]
    arguments: Annotated[
        dict[str, str | int | float | bool | None], Field(description="what else its builder takes")
    ] = {}
    num_classes: Annotated[int | None, Field(ge=1, description="default: the data's")] = None

    def fitted_to(self, facts: DataFacts) -> TorchvisionConfig:
        """Return a copy with the data's classes. Raises RecipeError if torchvision is not installed."""
        from mcomp_stages.models.installed import require_installed

        require_installed("torchvision", INSTALL)
        if facts.channels not in (None, CHANNELS):
            what = f"models of torchvision take 3 channels, and the data has {facts.channels}"
            raise RecipeError(Problem("", "type", what, "write channels: 3 under data, or take type: timm"))
        return self.model_copy(update={"num_classes": self.num_classes or facts.num_classes})

    def build(self) -> nn.Module:
        """Return the network with fresh weights. Raises RecipeError if torchvision cannot."""
        from mcomp_stages.models.libraries import built, imported

        models = imported("torchvision", "torchvision.models", INSTALL)
        classes = {} if self.num_classes is None else {"num_classes": self.num_classes}
        return built(
            "torchvision",
            self.name,
            lambda: models.get_model(self.name, weights=None, **classes, **self.arguments),
        )

    def fill(self, module: nn.Module, checkpoint: Path) -> None:
        from mcomp_stages.models.libraries import fill_network

        fill_network(module, checkpoint)
