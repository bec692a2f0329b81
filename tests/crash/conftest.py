"""The tiny recipe with states kept every few updates, and a run of it that nobody disturbed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcomp.store.store import Store
from tests.tiny import files_below, mcomp, write_recipes

STORE = "kept"


@pytest.fixture(autouse=True)
def sigint_is_not_ignored() -> Iterator[None]:
    """A shell lets what it starts in the background ignore SIGINT, and so would what we start."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store of a run from the beginning to the end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_long_recipes(folder)
    done = mcomp("run", "tiny.yaml", "--store", STORE, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / STORE


def patience_seconds() -> float:
    """Return how long a process may take to end that was told to: ten seconds, and as many times that as
    there are processes for each core of a busy machine.
    """
    return 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def write_long_recipes(folder: Path) -> None:
    """Write the recipes with a training that takes two epochs of eighteen updates."""
    write_recipes(folder)
    for path in folder.glob("*.yaml"):
        text = path.read_text()
        path.write_text(text.replace("epochs: 1", "epochs: 2, checkpoint: {every_steps: 6}"))


def without(undisturbed: Path, folder: Path, *steps: str) -> Path:
    """Return a copy of the store in which some steps were not done yet."""
    write_long_recipes(folder)
    store = folder / STORE
    shutil.copytree(undisturbed, store)
    kept = Store(store)
    for row in kept.run(kept.runs()[0]).read_ledger().rows:
        if f"{row.recipe}/{row.stage}" in steps:
            shutil.rmtree(kept.artifact_folder(row.key))
            shutil.rmtree(store / "measurements" / row.key)
    return store


def results(store: Path) -> dict[str, bytes]:
    """Return every byte of every result."""
    return files_below(store / "artifacts")
