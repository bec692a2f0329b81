"""Write a program of torch.export (.pt2) and prove it by loading and running it again.

    program:
      type: export.torch

`torch.export.load("model.pt2").module()` needs torch alone: no code of the model, none of mcomp. Quantized
models keep their integers, and their sums are made in float: such a file is not faster than a float one. It
is smaller where the weights outweigh the graph, whose text takes some 20 kB for each layer in integers and
5 kB in float: a ResNet-20 of width 32 takes 1.7 MB in place of 4.5, LeNet-5 181 kB in place of 269.

With `compile: true` the file is a package of AOTInductor: machine code for processors like this one, which
`torch._inductor.aoti_load_package("model.pt2")` runs without interpreting a graph. It takes a C++ compiler
and a minute, and holds a megabyte of code beside the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.export.sizes import FixedSizes

if TYPE_CHECKING:
    from mcomp.model.model import Model


class ExportTorch(StageConfig):
    """A .pt2 file for any batch size; inputs are named as the data provides them."""

    version = "2"
    forms = {form: form for form in (Form.FLOAT, Form.QUANTIZED, Form.STORED)}
    exports = "torch"

    type: Literal["export.torch"] = "export.torch"
    fixed: FixedSizes = {}
    compile: Annotated[bool, Field(description="machine code for this processor, by AOTInductor")] = False

    def timed(self) -> bool:
        """Whether the machine is in the key: machine code is of its processor."""
        return self.compile

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.measure.runtime import find_runtime
        from mcomp_stages.methods.export.graph import served_graph
        from mcomp_stages.methods.export.metadata import metadata
        from mcomp_stages.methods.export.proof import proven, require_masked_zeros
        from mcomp_stages.methods.export.sizes import with_fixed
        from mcomp_stages.methods.program.compiled import write_compiled
        from mcomp_stages.methods.program.write import exported_program, write_program

        require_masked_zeros(model)
        served = served_graph(model, context.example)
        example, path = with_fixed(context.example, self.fixed), context.folder / "model.pt2"
        program = exported_program(served, example)
        if self.compile:
            write_compiled(program, example, path, metadata(context))
        else:
            write_program(program, path, metadata(context))
        parity = proven(path, find_runtime(self.exports), served, model.quantized, context)
        return StageResult(None, files={path.name: path}, facts={"parity": parity})
