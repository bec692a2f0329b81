"""Large data is read by the first command that needs its digest, and by no other as long as it stays."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from mcomp.data import digests
from mcomp.fingerprint import file_digest
from mcomp.store.store import Store
from tests.mcomp.cli.conftest import Command
from tests.mcomp.data.test_digests import LATER_NS

RECIPE = """\
version: 1
name: own
model: {type: lenet5}
data: {type: arrays, path: arrays.npz}
stages:
  train: {type: train, training: {epochs: 1}}
"""
COMMANDS = (
    ("plan", "own.yaml"),
    ("plan", "-m", "own.yaml", "seed=0,1"),
    ("check", "--quick", "own.yaml"),
    ("run", "own.yaml"),
    ("run", "-m", "own.yaml", "seed=0,1"),
)


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read for their digests; the recipe and its data are in this folder."""
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(RECIPE)
    write_data(seed=0)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + LATER_NS)
    read: list[str] = []

    def reading(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", reading)
    return read


def write_data(seed: int) -> None:
    generator = np.random.default_rng(seed)
    image = generator.standard_normal((64, 1, 12, 12), dtype=np.float32)
    np.savez("arrays.npz", image=image, target=np.arange(64) % 4)


def test_only_the_first_command_reads_the_data(mcomp: Command, reads: list[str]) -> None:
    Store(Path(".mcomp")).prepare()
    for command in COMMANDS:
        assert mcomp(*command).code == 0
    assert reads == ["arrays.npz"]


def test_the_command_that_makes_the_store_lets_it_remember(mcomp: Command, reads: list[str]) -> None:
    assert mcomp("run", "own.yaml").code == 0
    assert mcomp("plan", "own.yaml").code == 0
    assert reads == ["arrays.npz"]


def test_a_plan_makes_no_store_to_remember_in(mcomp: Command, reads: list[str]) -> None:
    assert mcomp("plan", "own.yaml").code == 0
    assert not Path(".mcomp").exists()


def test_data_that_changed_and_kept_its_size_gives_other_keys(mcomp: Command, reads: list[str]) -> None:
    assert mcomp("run", "own.yaml").code == 0
    assert "0 to do" in mcomp("plan", "own.yaml").out
    size = Path("arrays.npz").stat().st_size
    time.sleep(0.02)
    write_data(seed=1)
    assert Path("arrays.npz").stat().st_size == size
    assert "1 to do" in mcomp("plan", "own.yaml").out
    assert reads == ["arrays.npz", "arrays.npz"]
