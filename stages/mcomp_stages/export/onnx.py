"""Write an ONNX file and prove it in ONNX Runtime.

    export:
      type: export.onnx
      opset: 21

Quantized models become QuantizeLinear and DequantizeLinear around ordinary operators, with weights stored as
int8. The file is run on validation samples beside the model it came from (integers with the sums and
roundings of the runtime's kernels), and the graph that the runtime makes of it is read: a quantized layer
that would run in float is an error. Where a weight was pruned, the file must have a zero. The report has the
bytes of the file by the width of its weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.export.sizes import OPSET, FixedSizes

if TYPE_CHECKING:
    from mcomp.model.model import Model


class ExportOnnx(StageConfig):
    """An ONNX file for any batch size; inputs are named as the data provides them, the output is `output`."""

    forms = {form: form for form in (Form.FLOAT, Form.QUANTIZED, Form.STORED)}
    exports = "onnxruntime"

    type: Literal["export.onnx"] = "export.onnx"
    opset: Annotated[int, Field(ge=21, le=23, description=OPSET)] = 21

    fixed: FixedSizes = {}

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.measure.runtime import find_runtime
        from mcomp_stages.methods.export.graph import served_graph
        from mcomp_stages.methods.export.metadata import metadata
        from mcomp_stages.methods.export.proof import proven, require_masked_zeros
        from mcomp_stages.methods.export.sizes import with_fixed
        from mcomp_stages.methods.onnx.integers import with_integer_sums
        from mcomp_stages.methods.onnx.proof import require_integers
        from mcomp_stages.methods.onnx.sizes import bytes_by_width
        from mcomp_stages.methods.onnx.write import write_onnx
        from mcomp_stages.methods.onnx.zeros import zeros_in_file

        require_masked_zeros(model)
        path = context.folder / "model.onnx"
        served = served_graph(model, context.example)
        files = write_onnx(
            served,
            with_fixed(context.example, self.fixed),
            path,
            opset=self.opset,
            metadata=metadata(context),
        )
        facts = {"opset": self.opset, "census": require_integers(path, model).model_dump(mode="json")}
        runtime, alike = find_runtime(self.exports), with_integer_sums(served) if model.quantized else None
        facts["parity"] = proven(path, runtime, served, model.quantized, context, alike)
        facts |= zeros_in_file(path, model) | {"bytes": bytes_by_width(path, model)}
        return StageResult(None, files={file.name: file for file in files}, facts=facts)
