"""Whether an exported file computes what the model it came from computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mcomp.config import Config
from mcomp.errors import StageError
from mcomp.measure.runtime import Session


class Parity(Config):
    """How far the runtime's outputs are from the module's on the same inputs.

    Errors are absolute, over all values; `size` is the root mean square of the expected ones. `max_error` of
    an integer model means little: one rounding that flips moves a value by a whole step. `mean_cosine` is
    over samples. `agreement` is the share of equal argmax over axis 1, None where there are no classes to
    choose from.
    """

    samples: int
    size: float
    median_error: float
    max_error: float
    mean_cosine: float
    agreement: float | None


def compare(
    session: Session, module: nn.Module, batches: Iterable[Mapping[str, Tensor]], *, classes: bool = True
) -> Parity:
    """Run a file in its runtime and `module`, as it is, on the same inputs by name.

    The module should be in inference mode. `classes`: whether axis 1 of its output has a score for each
    class. Batches may differ in the shape of what they give. Raises StageError if the file cannot run, gives
    another shape than the module, or values that are not finite.
    """
    pairs = [both_outputs(session, module, inputs) for inputs in batches]
    if not pairs:
        raise ValueError("parity needs at least one batch")
    if not all(np.isfinite(served).all() for served, _ in pairs):
        raise StageError(f"{session.path.name} gives values that are not finite")
    errors = np.concatenate([np.abs(served - expected).ravel() for served, expected in pairs])
    squares = np.concatenate([np.square(expected).ravel() for _, expected in pairs])
    cosine_N = np.concatenate([cosines(*pair) for pair in pairs])
    agreed = np.concatenate([same_choice(*pair) if classes else np.array([]) for pair in pairs])
    return Parity(
        samples=len(cosine_N),
        size=float(np.sqrt(squares.mean())),
        median_error=float(np.median(errors)),
        max_error=float(errors.max()),
        mean_cosine=float(cosine_N.mean()),
        agreement=float(agreed.mean()) if agreed.size else None,
    )


def both_outputs(
    session: Session, module: nn.Module, inputs: Mapping[str, Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the outputs of the file and of the module, as float64."""
    with torch.no_grad():
        output = module(**inputs)
    expected = output.double().cpu().numpy()
    served = session.run({name: value.cpu().numpy() for name, value in inputs.items()}).astype(np.float64)
    if served.shape != expected.shape:
        raise StageError(f"{session.path.name} gives shape {served.shape}, the model {expected.shape}")
    return served, expected


def cosines(left_NO: np.ndarray, right_NO: np.ndarray) -> np.ndarray:
    """Return the cosine of the angle between the outputs for each sample; 1 where both are zero."""
    left, right = left_NO.reshape(len(left_NO), -1), right_NO.reshape(len(right_NO), -1)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    equal_zeros = ~left.any(axis=1) & ~right.any(axis=1)
    return np.where(equal_zeros, 1.0, (left * right).sum(axis=1) / np.where(norms > 0, norms, 1.0))


def same_choice(served_NC: np.ndarray, expected_NC: np.ndarray) -> np.ndarray:
    """Return where the argmax over axis 1 is equal; nothing if that axis does not choose among classes."""
    if served_NC.ndim < 2 or served_NC.shape[1] < 2:
        return np.array([])
    return np.ravel(served_NC.argmax(axis=1) == expected_NC.argmax(axis=1))
