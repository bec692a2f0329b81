"""What an exported file must show in its runtime before it counts as exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.errors import StageError
from mcomp.measure.census import census
from mcomp.measure.divergence import first_divergence
from mcomp.measure.parity import Parity, compare
from mcomp.model.edits import masked_weights
from mcomp.model.model import Model
from mcomp.store.ledger import Census
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.repair import left_in_float
from mcomp_stages.methods.quantization.weights.edit import StoredWeights

SMALLEST_AGREEMENT = 0.98
# Of the median error, relative to the outputs' root mean square. Float runtimes sum in another order; in
# integers a rounding that flips is passed on, by less than a step of the last layers.
LARGEST_ERROR = {False: 1e-3, True: 2e-2}
# Of a layer's values: above it a layer is right, and what differs is the order of sums, or flips passed on.
SMALLEST_SQNR_DB = {False: 60.0, True: 26.0}


def require_masked_zeros(model: Model) -> None:
    """Raise StageError naming the first parameter in which a masked weight is not zero."""
    for name in masked_weights(model.state):
        masked = model.module.get_parameter(name)[~model.state[f"masks.{name}"]]
        if masked.any():
            raise StageError(
                f"{int(masked.count_nonzero())} pruned weights are not zero any more", module=name
            )


def require_parity(
    path: Path,
    module: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    quantized: bool,
    *,
    classes: bool = True,
) -> Parity:
    """Return how far a file is from the module it came from.

    Raises StageError if that is too far, naming the first layer that differs where `module` is a graph.
    """
    parity = compare(path, module, batches, classes=classes)
    what = ""
    if parity.agreement is not None and parity.agreement < SMALLEST_AGREEMENT:
        what = (
            f"the file agrees with the model it came from on {parity.agreement:.1%} of {parity.samples} "
            f"samples; {SMALLEST_AGREEMENT:.0%} are needed"
        )
    elif parity.median_error > LARGEST_ERROR[quantized] * parity.size:
        share = parity.median_error / parity.size
        what = (
            f"the median error of the file's outputs is {share:.2%} of their size; "
            f"{LARGEST_ERROR[quantized]:.1%} is the most allowed"
        )
    if what:
        raise diverged(what, path, module, batches[0], quantized)
    return parity


def diverged(
    what: str, path: Path, module: nn.Module, inputs: Mapping[str, Tensor], quantized: bool
) -> StageError:
    """Return the error for a file that is too far from `module`, with where that begins and what to do."""
    if not isinstance(module, GraphModule):
        return StageError(what)
    found = first_divergence(path, module, inputs, SMALLEST_SQNR_DB[quantized])
    if found is None:
        return StageError(f"{what}; no layer alone differs: the error builds up, or stands between layers")
    what += f"; this is the first layer whose values differ (SQNR {found.sqnr_db:.1f} dB)"
    return StageError(f"{what}{left_in_float([found.module]) if quantized else ''}", module=found.module)


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
        raise StageError(
            f"{len(weights)} layers are quantized, ONNX Runtime runs {found.int8} in integers; "
            f"left in float: {names}{left_in_float(paths) if paths else ''}"
        )
    return found


def is_transposed(edit: Quantizers | StoredWeights, name: str) -> bool:
    """Whether a weight is that of a transposed convolution, which only other runtimes have in integers."""
    return isinstance(edit, Quantizers) and edit.weights[name].axis != 0
