"""Write a program of ExecuTorch (.pte) whose layers XNNPACK runs, and prove it there.

    mobile:
      type: export.executorch
      fixed: {batch: 1}

For phones and other devices on which PyTorch itself is too large. All sizes are fixed: inputs whose length
varies must be named in `fixed`, and shorter ones are filled up with zeros. Quantized models run in integers
where XNNPACK has them: 8 bits, weights by channel, and layers whose outputs are rounded again. The last layer
has no such output and stays in float.

The file is written and run in processes of their own: ExecuTorch's libraries may end one that holds others.

Needs `pip install 'mcomp[executorch]'`, whose version must fit that of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.export.sizes import FixedSizes

if TYPE_CHECKING:
    from mcomp.model.model import Model


class ExportExecuTorch(StageConfig):
    """A .pte file of fixed sizes; inputs are in the order in which the data provides them."""

    forms = {form: form for form in (Form.FLOAT, Form.QUANTIZED)}
    exports = "executorch"
    libraries = ("executorch",)

    type: Literal["export.executorch"] = "export.executorch"
    fixed: FixedSizes = {"batch": 1}

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.measure.runtime import find_runtime
        from mcomp_stages.methods.executorch.write import write_executorch
        from mcomp_stages.methods.export.graph import served_graph
        from mcomp_stages.methods.export.metadata import metadata
        from mcomp_stages.methods.export.proof import proven, require_masked_zeros
        from mcomp_stages.methods.export.sizes import with_fixed

        require_masked_zeros(model)
        served, path = served_graph(model, context.example), context.folder / "model.pte"
        facts = write_executorch(served, with_fixed(context.example, self.fixed), path, metadata(context))
        facts["parity"] = proven(path, find_runtime(self.exports), served, model.quantized, context)
        return StageResult(None, files={path.name: path}, facts=facts)
