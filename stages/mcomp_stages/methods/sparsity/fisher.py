# B = numbers of a block, N = blocks of a weight
"""Zeros by the curvature of the loss: blocks of the empirical Fisher information, from labelled samples.

Source: Singh & Alistarh 2020, arXiv:2004.14340 (WoodFisher: equations 1 and 2, in blocks of neighbouring
weights). Differs: blocks are summed up and factored as they are, not through Woodbury's identity; all weights
of a block that go are removed jointly and not one by one, so the others make up for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from mcomp.model.model import Model
from mcomp.stage import Checkpoint, Unit
from mcomp_stages.methods.layer_inputs import blamed_on
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.gradients import gradients, single_samples
from mcomp_stages.methods.sparsity.chosen import Chosen
from mcomp_stages.methods.sparsity.masks import with_masks
from mcomp_stages.methods.sparsity.nm import from_lines, lines, nm_mask
from mcomp_stages.methods.sparsity.second_order import Goal, keep_all_but

SIZE = 64
LARGEST_BLOCKS = 2**26  # numbers of all the blocks that are summed up at once: 512 MB


def pruned_by_fisher(
    model: Model, chosen: Sequence[Chosen], evidence: Evidence, goal: Goal, damping: float, unit: Unit
) -> Model:
    """Return a copy with masks. Layers are taken together as far as their blocks have room.

    Raises StageError if there are no samples, a gradient is not finite, or a block is singular.
    """
    masks: dict[str, Tensor] = {}
    result = model.copy()
    for number, together in enumerate(portions(chosen)):
        done = unit(f"layers-{number}", partial(pruned_portion, model, together, evidence, goal, damping))
        for each in together:
            masks[each.name] = done.tensors[f"masks.{each.name}"]
            result.module.get_parameter(each.name).data.copy_(done.tensors[f"weights.{each.name}"])
    return with_masks(result, masks)


def portions(chosen: Sequence[Chosen]) -> Iterator[list[Chosen]]:
    """Yield the layers whose blocks are summed up in one pass over the samples."""
    together: list[Chosen] = []
    room = LARGEST_BLOCKS
    for each in chosen:
        needed = each.parameter.numel() * SIZE
        if together and needed > room:
            yield together
            together, room = [], LARGEST_BLOCKS
        together.append(each)
        room -= needed
    yield together


def pruned_portion(
    model: Model, together: Sequence[Chosen], evidence: Evidence, goal: Goal, damping: float
) -> Checkpoint:
    """Return masks and weights of some layers."""
    blocks = fisher_blocks(evidence, [each.name for each in together])
    tensors: dict[str, Tensor] = {}
    for each in together:
        weight = model.module.get_parameter(each.name).detach()
        held = model.state.get(f"masks.{each.name}", torch.ones_like(weight, dtype=torch.bool))
        with blamed_on(each.path):
            mask, pruned = pruned_weight(weight, blocks[each.name], goal, damping, held)
        tensors |= {f"masks.{each.name}": mask, f"weights.{each.name}": pruned}
    return Checkpoint(tensors)


def fisher_blocks(evidence: Evidence, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the mean of g g^T over single samples by weight, in blocks (N, B, B), the last one padded."""
    sums: dict[str, Tensor] = {}
    count = 0
    for gradient in gradients(evidence, single_samples(evidence.batches())):
        count += 1
        for name in names:
            parts_NB = in_blocks(gradient[name]).double()
            if name not in sums:
                sums[name] = torch.zeros(len(parts_NB), SIZE, SIZE, dtype=torch.float64)
            sums[name].baddbmm_(parts_NB.unsqueeze(2), parts_NB.unsqueeze(1))
    return {name: total / count for name, total in sums.items()}


def in_blocks(values: Tensor) -> Tensor:
    """Return the numbers in blocks (N, B) of neighbours, filled up with zeros."""
    flat = values.detach().cpu().flatten()
    return functional.pad(flat, (0, -len(flat) % SIZE)).view(-1, SIZE)


def pruned_weight(
    weight: Tensor, fisher_NBB: Tensor, goal: Goal, damping: float, held: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mask of what costs least, w^2 / (2 [F^-1]), and the weight with the others changed for it.

    Raises ValueError if a block is singular with this damping.
    """
    damped = with_damping(fisher_NBB, damping)
    inverse, failed = torch.linalg.inv_ex(damped)
    if failed.any():
        raise ValueError("its Fisher information is singular: raise `damping`, or give more samples")
    weight_NB = in_blocks(weight).double()
    score_NB = weight_NB.square() / (2 * inverse.diagonal(dim1=1, dim2=2))
    score = unblocked(score_NB, weight.shape).masked_fill(~held, -1.0)
    mask = chosen_mask(score, goal) & held
    gone_NB = ~in_blocks(mask.to(torch.uint8)).bool()
    return mask, unblocked(removed(weight_NB, damped, gone_NB), weight.shape).to(weight.dtype)


def with_damping(fisher_NBB: Tensor, damping: float) -> Tensor:
    """Return the blocks with `damping` times the mean of the weight's diagonal added to theirs."""
    mean = fisher_NBB.diagonal(dim1=1, dim2=2).mean()
    if mean == 0:
        raise ValueError("the loss does not depend on it on these samples")
    return fisher_NBB + damping * mean * torch.eye(SIZE, dtype=fisher_NBB.dtype)


def chosen_mask(score: Tensor, goal: Goal) -> Tensor:
    """Return the mask of a layer for a share or a pattern along its inputs."""
    if goal.pattern is None:
        return keep_all_but(score, round(goal.share * score.numel()))
    kept = nm_mask(lines(score, "input"), goal.pattern.keep, goal.pattern.of)
    return from_lines(kept, score.shape, "input")


def removed(weight_NB: Tensor, fisher_NBB: Tensor, gone_NB: Tensor) -> Tensor:
    """Return the weights with some removed, and the others as they cost least then.

    Minimizes d^T F d over the changes d that remove them: F_rr d_r = F_rg w_g for those that remain, solved
    as one system in which the equations of those that go are d = 0.
    """
    remain_NB = (~gone_NB).to(fisher_NBB.dtype)
    system = fisher_NBB * remain_NB.unsqueeze(1) * remain_NB.unsqueeze(2)
    system = system + torch.diag_embed(1 - remain_NB)
    lost_NB = (fisher_NBB @ (weight_NB * gone_NB).unsqueeze(2)).squeeze(2) * remain_NB
    change_NB: Tensor = torch.linalg.solve(system, lost_NB)
    return (weight_NB + change_NB) * remain_NB


def unblocked(values_NB: Tensor, shape: torch.Size) -> Tensor:
    """Return numbers in blocks in the shape that they came from."""
    return values_NB.flatten()[: shape.numel()].view(shape)
