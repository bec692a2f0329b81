"""The samples that a stage without training looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.example import Example
from mcomp.stage import Context

MASK = "attention_mask"  # what marks the real tokens among the inputs of a transformer


def calibration_inputs(context: Context, num_samples: int) -> list[dict[str, Tensor]]:
    """Return the first samples of the calibration split in batches, without padding where lengths may vary.

    Raises StageError if there are fewer; a rehearsal takes what there is.
    """
    split = context.data.split("calibration")
    if len(split) < num_samples and not context.rehearsal:
        raise StageError(
            f"{num_samples} calibration samples are asked for and there are {len(split)}; "
            "lower `samples`, or give the calibration split more in `data`"
        )
    positions = torch.split(torch.arange(min(num_samples, len(split))), context.batch_size)
    batches = (split.batch(some).inputs for some in positions)
    varying = context.example.varying if isinstance(context.example, Example) else {}
    return list(without_padding(batches) if varying.get(MASK) else batches)


def without_padding(batches: Iterable[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Yield the samples of each batch by length, cut to it: what a layer sees of padding is not data.

    Padding is what the attention mask leaves out at the end.
    """
    for inputs in batches:
        length = inputs[MASK].shape[1]
        last_N = (inputs[MASK] * torch.arange(1, length + 1)).amax(1)
        for real in sorted(set(last_N.tolist())):
            chosen = last_N == real
            yield {
                name: value[chosen][:, :real] if value.shape[1:2] == (length,) else value[chosen]
                for name, value in inputs.items()
            }
