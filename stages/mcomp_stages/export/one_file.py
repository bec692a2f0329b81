"""Write one safetensors file with packed weights, for a kernel or a loader of your own.

    packed:
      type: export.safetensors

Weights of 1 to 8 bits lie packed at their width, pruned ones without their zeros, all others as they are.
The metadata says how each is read, where activations are rounded, and how the architecture was built and
changed. `mcomp/model/unpack.py` reads all of it with numpy alone: copy it.

The file is read back both ways: every weight must come back to the last bit, and the model that is rebuilt
from it is compared with the one it came from. That model runs in torch with its integers in float, so the
latency in the report is not that of your kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mcomp.stage import Context, Form, StageConfig, StageResult

if TYPE_CHECKING:
    from mcomp.model.model import Model


class ExportSafetensors(StageConfig):
    """A .safetensors file with everything that the model is."""

    forms = {form: form for form in (Form.FLOAT, Form.QUANTIZED, Form.STORED)}
    exports = "safetensors"

    type: Literal["export.safetensors"] = "export.safetensors"

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp.measure.runtime import find_runtime
        from mcomp_stages.methods.export.metadata import metadata
        from mcomp_stages.methods.export.proof import proven, require_masked_zeros
        from mcomp_stages.methods.one_file.write import all_packed, require_same_weights, write

        require_masked_zeros(model)
        packed = all_packed(model, context.example)
        path = context.folder / "model.safetensors"
        told = {name: value for name, value in metadata(context).items() if name != "mcomp.recipe"}
        kinds = write(packed, context.example, path, told)
        same = require_same_weights(path, packed)
        module = model.inference_module(context.example)
        parity = proven(path, find_runtime(self.exports), module, model.quantized, context)
        return StageResult(
            None, files={path.name: path}, facts={"bytes": kinds, "equal_weights": same, "parity": parity}
        )
