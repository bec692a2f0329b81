"""Masked weights on disk: the bits of a mask, and only the numbers that it keeps, in the order of memory.

A weight of float32 with 90 % zeros takes 0.4 + 0.125 bytes a number in place of 4, and 1 for its mask. In the
file `bits:masks.<parameter>` are eight numbers of the mask a byte, the first in the highest bit, and
`kept:<parameter>` is one row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mcomp.errors import CheckpointError, named
from mcomp.model.edits import State

MASKS, BITS, KEPT = "masks.", "bits:", "kept:"


def without_zeros(tensors: Mapping[str, Tensor], state: State) -> tuple[dict[str, Tensor], State]:
    """Return the tensors of a module and of its edits as they are stored.

    A weight that is not zero where its mask says so is stored whole: what is stored is what was given.
    """
    packed, left = dict(tensors), dict(state)
    for name, mask in state.items():
        if name.startswith(MASKS) and mask.dtype == torch.bool and mask.numel():
            packed[BITS + name] = bits_of(left.pop(name))
            parameter = name.removeprefix(MASKS)
            weight = tensors.get(parameter)
            if weight is not None and weight.shape == mask.shape and not weight[~mask].any():
                packed[KEPT + parameter] = packed.pop(parameter)[mask]
    return packed, left


def with_zeros(stored: Mapping[str, Tensor], state: State, source: str) -> tuple[dict[str, Tensor], State]:
    """Return the tensors of a file with its packed weights whole, and its masks.

    `state` has the masks of the replayed edits, whose shapes count. Raises CheckpointError if what is packed
    does not fit them.
    """
    whole = {name: tensor for name, tensor in stored.items() if not name.startswith((BITS, KEPT))}
    masks: State = {}
    for name, bits in stored.items():
        if name.startswith(BITS):
            mask_name = name.removeprefix(BITS)
            if mask_name not in state:
                raise CheckpointError(f"{source} has the mask {named(mask_name)}, which no edit asks for")
            masks[mask_name] = mask_of(bits, state[mask_name].shape, f"{source}: {named(mask_name)}")
    for name, kept in stored.items():
        if name.startswith(KEPT):
            parameter = name.removeprefix(KEPT)
            mask = masks.get(MASKS + parameter)
            if mask is None or kept.ndim != 1 or len(kept) != int(mask.sum()):
                what = (
                    f"{source}: {named(parameter)} has {kept.numel()} numbers, which its mask does not keep"
                )
                raise CheckpointError(what)
            whole[parameter] = kept.new_zeros(mask.shape).masked_scatter_(mask, kept)
    return whole, masks


def bits_of(mask: Tensor) -> Tensor:
    """Return a mask with eight numbers in a byte."""
    padded = torch.nn.functional.pad(mask.cpu().flatten().to(torch.uint8), (0, -mask.numel() % 8))
    return (padded.view(-1, 8) << PLACES).sum(1, dtype=torch.uint8)


def mask_of(bits: Tensor, shape: torch.Size, what: str) -> Tensor:
    """Return the mask of a shape. Raises CheckpointError if there are more or fewer bits."""
    if bits.dtype != torch.uint8 or bits.shape != (-(-shape.numel() // 8),):
        raise CheckpointError(f"{what} has no bits for a mask of {tuple(shape)}")
    numbers = (bits.unsqueeze(1) >> PLACES) & 1
    return numbers.flatten()[: shape.numel()].view(shape).bool()


PLACES = torch.arange(7, -1, -1, dtype=torch.uint8)
