"""Write a program of torch.export (.pt2) and prove it by loading and running it again.

    program:
      type: export.torch

`torch.export.load("model.pt2").module()` needs torch alone: no code of the model, none of mcomp. Quantized
models keep their integers, and their sums are made in float: such a file is small, and not faster than a
float one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.export.sizes import FixedSizes

if TYPE_CHECKING:
    from mcomp.model.model import Model


class ExportTorch(StageConfig):
    """A .pt2 file for any batch size; inputs are named as the data provides them."""

    forms = {form: form for form in (Form.FLOAT, Form.QUANTIZED, Form.STORED)}
    exports = "torch"

    type: Literal["export.torch"] = "export.torch"
    fixed: FixedSizes = {}

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.measure.runtime import find_runtime
        from mcomp_stages.methods.export.graph import served_graph
        from mcomp_stages.methods.export.metadata import metadata
        from mcomp_stages.methods.export.proof import proven, require_masked_zeros
        from mcomp_stages.methods.export.sizes import with_fixed
        from mcomp_stages.methods.program.write import exported_program, write_program

        require_masked_zeros(model)
        served = served_graph(model, context.example)
        program = exported_program(served, with_fixed(context.example, self.fixed))
        path = write_program(program, context.folder / "model.pt2", metadata(context))
        parity = proven(path, find_runtime(self.exports), served, model.quantized, context)
        return StageResult(None, files={path.name: path}, facts={"parity": parity})
