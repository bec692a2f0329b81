"""A network that ends early, as an edit: a bottleneck in the place of the last layers, nothing between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.config import Config
from mcomp.model.edits import Edit, State

if TYPE_CHECKING:
    from torch import nn

Path = Annotated[str, Field(min_length=1)]
Size = Annotated[int, Field(ge=1)]


class Bottleneck(Config):
    """Brings early maps to the shape of the last ones: means of rectangles, a 1x1 convolution, a ReLU."""

    rectangle: tuple[Size, Size]
    inputs: Size
    outputs: Size


class EarlyExit(Edit):
    """Put a bottleneck at `place`, and what hands its input on at `left_out`. The classifier stays."""

    kind: Literal["early_exit"] = "early_exit"
    place: Path
    left_out: tuple[Path, ...]
    classifier: Path
    bottleneck: Bottleneck

    def apply(self, module: nn.Module, state: State) -> None:
        from torch import nn

        from mcomp_stages.methods.blocks.passing import Passing

        for path in (self.place, *self.left_out, self.classifier):
            try:
                module.get_submodule(path)
            except AttributeError as error:
                raise ValueError(f"there is no module {path}") from error
        for path in self.left_out:
            module.set_submodule(path, Passing(in_tuple=False))
        size = self.bottleneck
        project = nn.Conv2d(size.inputs, size.outputs, 1)
        module.set_submodule(self.place, nn.Sequential(nn.AvgPool2d(size.rectangle), project, nn.ReLU()))
        for path in (self.place, *self.left_out, self.classifier):
            for name in [name for name in state if name.startswith(f"masks.{path}.")]:
                del state[name]
