"""Which layers of an ONNX file must run in integers."""

from __future__ import annotations

from pathlib import Path

from mcomp.errors import StageError
from mcomp.measure.census import census
from mcomp.model.model import Model
from mcomp.store.ledger import Census
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.repair import left_in_float
from mcomp_stages.methods.quantization.weights.edit import StoredWeights

SIGNED = (
    "; their inputs are signed, as preset: arm_xnnpack has them, and this runtime fuses unsigned ones: leave "
    "out the preset (and signed: true), or write the file for the other runtime with export.executorch"
)


def require_integers(path: Path, model: Model) -> Census:
    """Return what the runtime makes of a file, with scratch beside it.

    Raises StageError naming quantized layers left in float.
    """
    found = census(path, path.parent)
    edits = [edit for edit in model.edits if isinstance(edit, Quantizers | StoredWeights)]
    weights = [name for edit in edits for name in edit.integer_weights if not is_transposed(edit, name)]
    layers = {name.rpartition(".")[0] for name in weights}
    in_float = [name for name in found.float_layers if name.partition(":")[0] in layers]
    if in_float or found.int8 < len(weights):
        names = ", ".join(in_float or found.float_layers) or "none"
        paths = dict.fromkeys(name.partition(":")[0] for name in in_float)
        repair = SIGNED if any(map(has_signed_activations, edits)) else left_in_float(paths) if paths else ""
        raise StageError(
            f"{len(weights)} layers are quantized, ONNX Runtime runs {found.int8} in integers; "
            f"left in float: {names}{repair}"
        )
    return found


def has_signed_activations(edit: Quantizers | StoredWeights) -> bool:
    """Whether layers read signed integers."""
    return isinstance(edit, Quantizers) and any(each.signed for each in edit.activations.values())


def is_transposed(edit: Quantizers | StoredWeights, name: str) -> bool:
    """Whether a weight is that of a transposed convolution, which only other runtimes have in integers."""
    return isinstance(edit, Quantizers) and edit.weights[name].axis != 0
