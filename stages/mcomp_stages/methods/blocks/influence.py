"""What each block is worth: how much it changes its input, how large its weights are, or what its loss costs.

Each function returns a score for each block; the lowest goes first.
"""

# N = samples, C = channels
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from mcomp.errors import StageError
from mcomp.measure.accuracy import in_inference_mode
from mcomp.model.fastpath import without_fastpath
from mcomp_stages.methods.blocks.blocks import left_out, watching
from mcomp_stages.methods.blocks.config import BlockImportance
from mcomp_stages.methods.blocks.edit import RemovedBlock

Blocks = Mapping[str, RemovedBlock]


@dataclass(frozen=True)
class Witness:
    """What scores are computed from: a module in inference mode that nobody else uses, `calibration` to get
    samples, `validation_loss` of a module, and a generator.
    """

    module: nn.Module
    calibration: Callable[[], Iterable[Mapping[str, Tensor]]]
    validation_loss: Callable[[nn.Module], float]
    generator: Generator


def block_influence(blocks: Blocks, witness: Witness) -> dict[str, float]:
    """Return 1 - cosine between what each block gets and gives, mean over positions and samples.

    Source: Men et al. 2024, arXiv:2403.03853 (equation 1, block influence). A vector is a token (last axis)
    or a pixel (channels of a map).
    """
    sums, counts = dict.fromkeys(blocks, 0.0), dict.fromkeys(blocks, 0)
    with in_inference_mode(witness.module), torch.no_grad(), without_fastpath():
        for inputs in witness.calibration():
            with watching(witness.module, list(blocks)) as calls:
                witness.module(**inputs)
            for path, (call,) in calls.items():
                changes = one_minus_cosine(call.given, call.result)
                sums[path] += float(changes.sum())
                counts[path] += changes.numel()
    return {path: sums[path] / counts[path] for path in blocks}


def one_minus_cosine(given: Tensor, result: Tensor) -> Tensor:
    """Return 1 - cosine of each pair of vectors; two zeros are alike."""
    axis = 1 if given.ndim == 4 else -1
    alike = functional.cosine_similarity(given.double(), result.double(), dim=axis)
    both_zero = (given == 0).all(axis) & (result == 0).all(axis)
    return torch.where(both_zero, 0.0, 1 - alike)


def magnitude(blocks: Blocks, witness: Witness) -> dict[str, float]:
    """Return the mean absolute value of each block's matrices and kernels."""
    scores = {}
    for path in blocks:
        weights = [each for each in witness.module.get_submodule(path).parameters() if each.ndim > 1]
        if not weights:
            raise StageError("has no matrix or kernel, so no magnitude; put it in skip", module=path)
        scores[path] = float(torch.cat([each.detach().abs().double().flatten() for each in weights]).mean())
    return scores


def trial(blocks: Blocks, witness: Witness) -> dict[str, float]:
    """Return the loss on validation without each block."""
    scores = {}
    for path, block in blocks.items():
        with left_out(witness.module, block):
            scores[path] = witness.validation_loss(witness.module)
    return scores


def random(blocks: Blocks, witness: Witness) -> dict[str, float]:
    """Return random scores, as a control."""
    return dict(zip(blocks, torch.rand(len(blocks), generator=witness.generator).tolist(), strict=True))


BLOCK_IMPORTANCE: Mapping[BlockImportance, Callable[[Blocks, Witness], dict[str, float]]] = {
    "influence": block_influence,
    "magnitude": magnitude,
    "trial": trial,
    "random": random,
}
