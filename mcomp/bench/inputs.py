"""Inputs to time files with: random numbers of the sizes and types that a file takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mcomp.measure.runtime import Session

SEED = 0


def inputs_for(session: Session, batch_size: int, length: int) -> dict[str, np.ndarray]:
    """Return inputs by name: floats from a normal distribution, integers all 1 (a known token, no padding).

    `length` is for free sizes other than the batch.
    """
    draw = np.random.default_rng(SEED)
    shapes: Mapping[str, tuple[int, ...]] = {
        name: tuple(
            (batch_size if axis == 0 else length) if size is None else size for axis, size in enumerate(sizes)
        )
        for name, sizes in session.input_sizes.items()
    }
    return {
        name: draw.normal(size=shape).astype(session.input_types[name])
        if np.issubdtype(session.input_types[name], np.floating)
        else np.ones(shape, session.input_types[name])
        for name, shape in shapes.items()
    }


def takes_batch(session: Session, batch_size: int) -> bool:
    """Whether a file takes batches of this size as they are."""
    return all(not sizes or sizes[0] in (None, batch_size) for sizes in session.input_sizes.values())
