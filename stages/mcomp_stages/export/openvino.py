"""Write the intermediate representation of OpenVINO (.xml and .bin) and prove it there.

    openvino:
      type: export.openvino
      opset: 21

It is made from the ONNX file that `export.onnx` writes. OpenVINO runs it on validation samples beside the
model it came from, with `INFERENCE_PRECISION_HINT=f32`: serve it so too, because its own choice is bfloat16
where the processor has it. Needs `pip install 'mcomp[openvino]'`.

On processors without VNNI sums of byte products may overflow in OpenVINO as they do in ONNX Runtime, and it
has no option against that: if weights of 8 bits fail the proof there, use weights of 7 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp_stages.methods.export.sizes import OPSET, FixedSizes

if TYPE_CHECKING:
    from mcomp.model.model import Model


class ExportOpenVino(StageConfig):
    """An .xml and a .bin file; inputs are named as the data provides them."""

    forms = {form: form for form in (Form.FLOAT, Form.QUANTIZED, Form.STORED)}
    exports = "openvino"
    libraries = ("openvino",)

    type: Literal["export.openvino"] = "export.openvino"
    opset: Annotated[int, Field(ge=21, le=23, description=OPSET)] = 21

    fixed: FixedSizes = {}

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.measure.runtime import find_runtime
        from mcomp_stages.methods.export.graph import served_graph
        from mcomp_stages.methods.export.metadata import metadata
        from mcomp_stages.methods.export.proof import proven, require_masked_zeros
        from mcomp_stages.methods.export.sizes import with_fixed
        from mcomp_stages.methods.onnx.write import write_onnx
        from mcomp_stages.methods.openvino.write import write_openvino

        require_masked_zeros(model)
        served = served_graph(model, context.example)
        example = with_fixed(context.example, self.fixed)
        source, *_ = write_onnx(served, example, context.folder / "source.onnx", opset=self.opset)
        files = write_openvino(source, context.folder / "model.xml", metadata(context))
        runtime = find_runtime(self.exports)
        census = runtime.census(files[0], context.folder)
        facts = {
            "parity": proven(files[0], runtime, served, model.quantized, context),
            "census": census.model_dump(mode="json") if census else None,
        }
        return StageResult(None, files={file.name: file for file in files}, facts=facts)
