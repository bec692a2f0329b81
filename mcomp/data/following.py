"""Data whose targets are what another model says about the samples."""

# N = samples, O = numbers that the model gives for one
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch, Data, Split, SplitName
from mcomp.data.shortened import part_of
from mcomp.errors import StageError
from mcomp.measure.accuracy import batches, in_inference_mode

BATCH_SIZE = 64


@dataclass(frozen=True)
class FollowingSplit:
    """A split whose target is what `module` says: `outputs` (N, O), asked for once, in the split's order.

    Samples that are augmented are asked for again each time.
    """

    split: Split
    module: nn.Module
    outputs: Tensor

    @property
    def augmented(self) -> bool:
        return self.split.augmented

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        batch = self.split.batch(positions, draw)
        anew = self.augmented and draw is not None
        target = answer(self.module, batch.inputs) if anew else self.outputs[positions]
        return replace(batch, target=target)


@dataclass(frozen=True)
class FollowingData:
    """The samples of `data`, with what `module` says about them as targets."""

    data: Data
    module: nn.Module

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.data.facts

    @cached_property
    def splits(self) -> dict[SplitName, FollowingSplit]:
        """The splits that were asked for, so that each is run through the model once."""
        return {}

    def split(self, name: SplitName) -> FollowingSplit:
        if name not in self.splits:
            # Now, and not with the first batch: signals wait for the end of an update.
            split = self.data.split(name)
            self.splits[name] = FollowingSplit(split, self.module, outputs_of(self.module, split))
        return self.splits[name]

    def part(self, name: SplitName, size: int) -> FollowingSplit:
        """Return `size` samples of a split, or all if it has fewer; the model is asked about these alone."""
        some = part_of(self.data.split(name), size)
        return FollowingSplit(some, self.module, outputs_of(self.module, some))


def outputs_of(module: nn.Module, split: Split) -> Tensor:
    """Return what a module says about every sample as it is, (N, O).

    Raises StageError if that differs in shape from batch to batch.
    """
    answers_NO = [answer(module, batch.inputs) for batch in batches(split, BATCH_SIZE)]
    shapes = {tuple(output.shape[1:]) for output in answers_NO}
    if len(shapes) > 1:
        raise StageError(
            "what the model gives for a sample differs in shape from batch to batch, so it cannot be a "
            "target; let it give one vector a sample (output: embedding), or pad to one length"
        )
    return torch.cat(answers_NO)


def answer(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return what a module says, in inference mode and without gradients."""
    with in_inference_mode(module), torch.no_grad():
        output: Tensor = module(**inputs)
    return output
