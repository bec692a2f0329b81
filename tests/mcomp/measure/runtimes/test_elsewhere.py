"""A session in a process of its own: what it answers, how long it takes, and what is said when it ends."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from mcomp.errors import StageError
from mcomp.measure.fitted import fitted
from mcomp.measure.latency import call_seconds, interleaved
from mcomp.measure.runtimes.elsewhere import SessionElsewhere

MODULE = "tests.mcomp.measure.runtimes.twice_process"
X = {"x": np.ones((2, 3), np.float32)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))
    path = tmp_path / "twice"
    path.write_text("good")
    return path


def session(path: Path) -> SessionElsewhere:
    return SessionElsewhere(path, "Twice", MODULE, 1)


def test_it_answers_and_ends_when_nobody_asks_any_more(file: Path) -> None:
    asked = session(file)
    assert asked.input_sizes == {"x": (2, 3)}
    assert asked.input_types == {"x": np.float32}
    np.testing.assert_array_equal(asked.run(X), 2 * X["x"])
    np.testing.assert_array_equal(fitted(asked).run({"x": np.ones((5, 3), np.float32)}), np.full((5, 3), 2))
    number = asked._process.pid
    del asked
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_its_own_clock_counts(file: Path) -> None:
    asked = session(file)
    assert 0.002 < call_seconds(asked, X, 3) < 1
    assert len(interleaved({"a": asked, "b": fitted(asked)}, X, 2)["b"]) == 2


def test_what_it_cannot_do_is_told_in_its_words_and_it_goes_on(file: Path, tmp_path: Path) -> None:
    asked = session(file)
    with pytest.raises(StageError, match="Twice cannot run twice: the middle number is -1"):
        asked.run({"x": np.full((2, 3), -1, np.float32)})
    assert asked.run(X).sum() == 12
    with pytest.raises(StageError, match="twice takes x, but was given y"):
        asked.run({"y": X["x"]})
    file.write_text("bad")
    with pytest.raises(StageError, match="Twice cannot load twice: it is bad"):
        session(file)
    with pytest.raises(StageError, match="no such file"):
        session(tmp_path / "none")


def test_a_process_that_dies_is_told_with_what_to_do(file: Path) -> None:
    asked = session(file)
    for _ in range(2):
        with pytest.raises(
            StageError, match=r"Twice ended with SIGABRT .* when it was to run twice; run again"
        ):
            asked.run({"x": np.full((2, 3), 9, np.float32)})
    file.write_text("abort")
    with pytest.raises(StageError, match=r"Twice ended with SIGABRT .* when it was to load twice"):
        session(file)
