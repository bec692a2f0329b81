from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp.errors import StageError
from mcomp.measure.fitted import Fitted, fitted


class Sums:
    """Takes batches of fixed sizes and gives the sum over each sample, and its length."""

    path = Path("sums.onnx")

    def __init__(self, batch: int | None, length: int | None) -> None:
        self.input_sizes = {"text": (batch, length), "mask": (batch, length)}
        self.input_types = dict.fromkeys(self.input_sizes, np.dtype("int64"))
        self.seen: list[tuple[int, ...]] = []

    def run(self, inputs):
        self.seen.append(inputs["text"].shape)
        return (inputs["text"] * inputs["mask"]).sum(1)


def of(num_samples: int, length: int) -> dict[str, np.ndarray]:
    text = np.random.default_rng(0).integers(1, 9, (num_samples, length))
    return {"text": text, "mask": np.ones_like(text)}


@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 4))
def test_every_sample_gets_its_own_answer(num_samples: int, length: int, batch: int) -> None:
    session, inputs = Sums(batch, 6), of(num_samples, length)
    np.testing.assert_array_equal(Fitted(session).run(inputs), inputs["text"].sum(1))
    assert set(session.seen) == {(batch, 6)}


def test_free_sizes_are_left_alone() -> None:
    session = Sums(None, None)
    assert fitted(session) is session
    lengths_only = Sums(None, 6)
    Fitted(lengths_only).run(of(5, 3))
    assert lengths_only.seen == [(5, 6)]


def test_what_is_longer_than_the_file_takes_is_refused() -> None:
    with pytest.raises(StageError, match=r"sums\.onnx takes text with at most 6 along axis 1, not 7"):
        Fitted(Sums(None, 6)).run(of(2, 7))
