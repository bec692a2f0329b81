"""Tensors of labels.

Labels that are constant along an axis are kept with stride 0 there, so a feature map costs as much as its
channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Labels: TypeAlias = Tensor

FROZEN = 0


def unlabelled(shape: Sequence[int]) -> Labels:
    """Return the labels of data that is no channel of anything."""
    return torch.full((), FROZEN, dtype=torch.int64).expand(tuple(shape))


def broadcast(first: Labels, second: Labels) -> tuple[Labels, Labels]:
    """Return two tensors of labels expanded to their common shape."""
    shape = np.broadcast_shapes(first.shape, second.shape)
    return first.expand(shape), second.expand(shape)


def constant_axes(labels: Labels) -> list[int]:
    """Return the axes along which the labels are known to be constant from their layout."""
    return [axis for axis, size in enumerate(labels.shape) if size == 1 or labels.stride(axis) == 0]


def narrowed(labels: Labels, axes: Iterable[int]) -> Labels:
    """Return the labels at the first index of each of the axes, which stay as axes of size 1."""
    for axis in axes:
        labels = labels.narrow(axis, 0, 1)
    return labels


def split(labels: Labels, axis: int, size: int) -> Labels:
    """Return the labels with one axis split into parts of `size`: (..., n, ...) -> (..., n / size, size,
    ...).
    """
    return labels.reshape(*labels.shape[:axis], -1, size, *labels.shape[axis + 1 :])


def core(labels: Labels) -> Labels:
    """Return the labels without their repetitions."""
    return narrowed(labels, constant_axes(labels))


def compressed(labels: Labels) -> Labels:
    """Return equal labels with stride 0 along every axis where nothing changes."""
    for axis in range(labels.ndim):
        first = labels.narrow(axis, 0, 1)
        if labels.stride(axis) and labels.shape[axis] > 1 and bool((labels == first).all()):
            labels = first.expand(labels.shape)
    return labels
