"""One real run of the tiny recipe, made once and only read."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcomp.store.ledger import Ledger
from mcomp.store.store import Store
from tests.tiny import files_below, mcomp, write_recipes


@dataclass(frozen=True)
class Finished:
    """`folder` holds the recipes and `kept`, the store; `before` is what was in it before the run."""

    folder: Path
    before: dict[str, bytes]
    done: subprocess.CompletedProcess[str]

    @property
    def store(self) -> Path:
        return self.folder / "kept"

    @property
    def ledger(self) -> Ledger:
        """The ledger of the first run."""
        store = Store(self.store)
        return store.run(store.runs()[-1]).read_ledger()

    @property
    def model(self) -> Path:
        """The exported file."""
        row = next(row for row in self.ledger.rows if row.stage == "export")
        return Store(self.store).artifact_folder(row.key) / "files" / "model.onnx"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    write_recipes(folder)
    before = files_below(folder)
    return Finished(folder, before, mcomp("run", "tiny.yaml", "--store", "kept", cwd=folder))


@pytest.fixture
def workplace(finished: Finished, tmp_path: Path) -> Path:
    """Return a folder with the recipes and a copy of the finished store, to be spoilt."""
    folder = tmp_path / "workplace"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return folder
