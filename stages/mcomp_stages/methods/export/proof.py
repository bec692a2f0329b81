"""What an exported file must show in its runtime before it counts as exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.errors import StageError
from mcomp.measure.divergence import first_divergence
from mcomp.measure.parity import Parity, compare
from mcomp.measure.runtime import Runtime
from mcomp.model.edits import masked_weights
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.methods.quantization.repair import left_in_float

LARGEST_PROOF = 256
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
    runtime: Runtime,
    module: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    quantized: bool,
    *,
    classes: bool = True,
    rounding_alike: nn.Module | None = None,
) -> Parity:
    """Return how far a file is, in its runtime, from the module it came from.

    `rounding_alike` is the module with the runtime's own arithmetic, and is compared with in its place.
    Raises StageError if that is too far, naming the first layer that differs where `module` is a graph.
    """
    parity = compare(runtime.session(path), rounding_alike or module, batches, classes=classes)
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
        raise diverged(what, path, runtime, module, batches[0], quantized)
    return parity


def diverged(
    what: str,
    path: Path,
    runtime: Runtime,
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    quantized: bool,
) -> StageError:
    """Return the error for a file that is too far from `module`, with where that begins and what to do."""
    if not isinstance(module, GraphModule):
        return StageError(what)
    served = runtime.layer_values(path, {name: value.cpu().numpy() for name, value in inputs.items()})
    if not served:
        return StageError(what)
    found = first_divergence(served, module, inputs, SMALLEST_SQNR_DB[quantized])
    if found is None:
        return StageError(f"{what}; no layer alone differs: the error builds up, or stands between layers")
    what += f"; this is the first layer whose values differ (SQNR {found.sqnr_db:.1f} dB)"
    return StageError(f"{what}{left_in_float([found.module]) if quantized else ''}", module=found.module)


def proven(
    path: Path,
    runtime: Runtime,
    module: nn.Module,
    quantized: bool,
    context: Context,
    rounding_alike: nn.Module | None = None,
) -> dict[str, Any]:
    """Return how far a file is from the module it came from on validation samples, as plain JSON.

    Raises StageError if that is too far; in a rehearsal only if the file does not run.
    """
    inputs, classes = validation_inputs(context), context.task.chooses
    if context.rehearsal:
        return compare(runtime.session(path), rounding_alike or module, inputs, classes=classes).model_dump()
    return require_parity(
        path, runtime, module, inputs, quantized, classes=classes, rounding_alike=rounding_alike
    ).model_dump()


def validation_inputs(context: Context) -> list[dict[str, Tensor]]:
    """Return the inputs of up to 256 validation samples, in batches."""
    split = context.data.split("validation")
    positions = torch.split(torch.arange(min(len(split), LARGEST_PROOF)), context.batch_size)
    return [split.batch(some).inputs for some in positions]
