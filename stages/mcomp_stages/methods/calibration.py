"""The samples that a stage without training looks at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.example import Example
from mcomp.stage import Context

MASK = "attention_mask"  # what marks the real tokens among the inputs of a transformer


def calibration_inputs(context: Context, num_samples: int) -> list[dict[str, Tensor]]:
    """Return the first samples of the calibration split in batches, without padding where lengths may vary.

    Raises StageError if there are fewer (a rehearsal takes what there is), or if they say nothing.
    """
    split = context.data.split("calibration")
    if len(split) < num_samples and not (context.rehearsal and len(split)):
        raise StageError(
            f"{num_samples} calibration samples are asked for and there are {len(split)}; "
            "lower `samples`, or give the calibration split more in `data`"
        )
    positions = torch.split(torch.arange(min(num_samples, len(split))), context.batch_size)
    batches = [split.batch(some).inputs for some in positions]
    require_telling(batches)
    varying = context.example.varying if isinstance(context.example, Example) else {}
    return list(without_padding(batches)) if varying.get(MASK) else batches


def require_telling(batches: Sequence[Mapping[str, Tensor]]) -> None:
    """Raise StageError if numbers are not finite, or if all samples, of two or more, are the same."""
    for name in batches[0]:
        wrong = sum(int((~inputs[name].isfinite()).sum()) for inputs in batches)
        if wrong:
            raise StageError(
                f"{wrong} numbers of the input '{name}' are not finite in the calibration samples; "
                "look at the files that `data` names"
            )
    first = {name: values[0] for name, values in batches[0].items()}
    num_samples = sum(len(inputs[name]) for inputs in batches for name in list(first)[:1])
    if num_samples > 1 and all(
        values.shape[1:] == first[name].shape and torch.equal(values, first[name].expand_as(values))
        for inputs in batches
        for name, values in inputs.items()
    ):
        raise StageError(
            f"all {num_samples} calibration samples are the same, which tells nothing of what is usual; "
            "give the calibration split other samples in `data`"
        )


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
