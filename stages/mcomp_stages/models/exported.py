"""A program of torch.export: a .pt2 file that torch.export.save wrote, or `export.torch`.

    model: {type: exported, path: model.pt2}

The file is read as data and nothing of it is run, which `torch.export.load` does not promise. Where the
program has the operator of a layer with its own weights, torch's module stands at the path that it had; the
rest is called operator by operator. So it trains, is pruned and is quantized like other models, as far as the
sizes that the export wrote down as numbers allow.

Export it in inference mode, with a free batch, and name the inputs as the data does:
`torch.export.export(model.eval(), (), {"image": x}, dynamic_shapes={"image": {0: Dim("batch")}})`, or say in
`inputs` which input of the program is which of the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.config import no_effect
from mcomp.model.spec import ModelConfig
from mcomp.recipe.files import NamedPath
from mcomp_stages.models.exported_program import Program

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from mcomp.data.contract import DataFacts


class ExportedConfig(ModelConfig):
    """A model as torch.export saved it; its first output counts."""

    type: Literal["exported"] = "exported"
    path: NamedPath | None = no_effect(default=None, description="a .pt2 file, relative to the recipe")
    inputs: Annotated[
        dict[str, str],
        Field(description="names of the data's inputs, by those of the program, as {x: image}"),
    ] = {}
    program: Annotated[
        Program | None, Field(description="what the file says; read from it, and kept with each result")
    ] = None

    @model_validator(mode="after")
    def comes_from_a_file(self) -> ExportedConfig:
        """Refuse what leaves open which program is meant."""
        if self.path is None and self.program is None:
            raise ValueError("needs the path of a .pt2 file")
        return self

    def fitted_to(self, facts: DataFacts) -> ExportedConfig:
        """Return a copy with the program of the file, and its weights as the checkpoint.

        Raises RecipeError for a file that is none, or that does more than compute.
        """
        from mcomp_stages.models.exported_archive import read_program

        if self.path is None:
            return self
        program = read_program(self.path, self.inputs)
        return self.model_copy(
            update={"program": program, "inputs": {}, "checkpoint": self.checkpoint or str(self.path)}
        )

    def spec(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"checkpoint", "licence", "path"})

    def build(self) -> nn.Module:
        from mcomp_stages.models.exported_module import build_program

        assert self.program is not None
        return build_program(self.program)

    def fill(self, module: nn.Module, checkpoint: Path) -> None:
        from mcomp_stages.models.exported_weights import fill_program

        fill_program(module, checkpoint)
