from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.store.temporary import temporary_store
from tests.mcomp.store.example import publish
from tests.mcomp.store.protocols import DEAD


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_is_a_store_for_nobody_else_and_gone_afterwards(folder: Path) -> None:
    with temporary_store("mcomp-check") as store, temporary_store("mcomp-check") as other:
        publish(store, "a")
        assert store.root != other.root
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o700}
    assert list(folder.iterdir()) == []


def test_it_is_gone_if_the_block_fails(folder: Path) -> None:
    def fail() -> None:
        with temporary_store("mcomp-check") as store:
            publish(store, "a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(folder.iterdir()) == []


def test_what_killed_processes_left_goes_and_nothing_else(folder: Path) -> None:
    (folder / "outside").mkdir()
    (folder / f"mcomp-check-{DEAD}-00000000" / "store").mkdir(parents=True)
    (folder / f"mcomp-check-{DEAD}-00000001").symlink_to(folder / "outside")
    others = {"outside", f"mcomp-check-{DEAD}-00000001", f"mcomp-checks-{DEAD}-00000000", "mcomp-check-old"}
    for name in others:
        (folder / name).mkdir(exist_ok=True)
    with temporary_store("mcomp-check"):
        pass
    assert {path.name for path in folder.iterdir()} == others
