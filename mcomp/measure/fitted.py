"""A file that takes inputs of fixed sizes, given inputs of any. Free of torch and of the runtimes."""

# N = samples of an input, B = samples that the file takes
from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from mcomp.errors import StageError
from mcomp.measure.latency import TimesItself
from mcomp.measure.runtime import Session, Sizes


def fitted(session: Session) -> Session:
    """Return a session that takes any sizes; itself if the file does."""
    fixed = any(size is not None for sizes in session.input_sizes.values() for size in sizes)
    if not fixed:
        return session
    return TimedFitted(session) if isinstance(session, TimesItself) else Fitted(session)


class Fitted:
    """Fills inputs up to the sizes of a file: batches with their last sample, other axes with zeros.

    Zeros at the end of a text are told from it by its mask. Raises StageError for what is larger than the
    file takes.
    """

    def __init__(self, session: Session) -> None:
        self.path, self.input_sizes, self.input_types = session.path, session.input_sizes, session.input_types
        self._session = session

    def run(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the first output, of the samples that were given."""
        full = {name: self._filled(name, value) for name, value in inputs.items()}
        num_samples = len(next(iter(inputs.values())))
        outputs = [self._session.run(part) for part in self._batches(full, num_samples)]
        return np.concatenate(outputs)[:num_samples]

    def _filled(self, name: str, value: np.ndarray) -> np.ndarray:
        sizes = self.input_sizes.get(name, ())
        if len(sizes) != value.ndim:
            return value  # the runtime says what is wrong
        missing = [(0, 0), *((0, lacking(self, name, sizes, value, axis)) for axis in range(1, value.ndim))]
        return np.pad(value, missing) if any(after for _, after in missing) else value

    def _batches(
        self, inputs: Mapping[str, np.ndarray], num_samples: int
    ) -> Iterator[Mapping[str, np.ndarray]]:
        size = next((sizes[0] for sizes in self.input_sizes.values() if sizes and sizes[0]), None)
        if size is None or size == num_samples:
            yield inputs
            return
        for start in range(0, num_samples, size):
            at_B = np.minimum(np.arange(start, start + size), num_samples - 1)
            yield {name: value[at_B] for name, value in inputs.items()}


class TimedFitted(Fitted):
    """The same of a session that times itself."""

    def mean_seconds(self, inputs: Mapping[str, np.ndarray], num_calls: int) -> float:
        """Return the mean seconds of one call, the filling up not among them."""
        assert isinstance(self._session, TimesItself)
        full = {name: self._filled(name, value) for name, value in inputs.items()}
        num_samples = len(next(iter(inputs.values())))
        return sum(self._session.mean_seconds(part, num_calls) for part in self._batches(full, num_samples))


def lacking(session: Session, name: str, sizes: Sizes, value: np.ndarray, axis: int) -> int:
    """Return how many numbers an axis of an input lacks. Raises StageError if it has too many."""
    wanted, found = sizes[axis], int(value.shape[axis])
    if wanted is None or wanted == found:
        return 0
    if found > wanted:
        what = f"{session.path.name} takes {name} with at most {wanted} along axis {axis}, not {found}"
        raise StageError(f"{what}; fix a larger size, or leave it free")
    return wanted - found
