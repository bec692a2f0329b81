"""What a store remembers of files that are not its own: only time may depend on it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mcomp.data import digests
from mcomp.data.digests import content_digest
from mcomp.fingerprint import file_digest
from mcomp.store.clean import Rules, removals, remove
from mcomp.store.digests import digests_in
from mcomp.store.store import Store
from mcomp.store.verify import examined, items
from tests.mcomp.data.test_digests import LATER_NS
from tests.mcomp.store.example import flip

NAMES = ("a.bin", "b.bin", "with a\nline.bin")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with files that nobody has written to lately."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(name)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + LATER_NS)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", on_problem=pytest.fail)
    store.prepare()
    return store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    read: list[str] = []

    def reading(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", reading)
    return read


def command(store: Store, folder: Path) -> dict[str, str]:
    """Ask for the digest of every file as a command in a new process does."""
    with digests_in(Store(store.root, store.disk, store.on_problem)):
        found = {path.name: content_digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
    assert found == {name: file_digest(folder / name) for name in found}
    return found


def remembered(store: Store) -> list[Path]:
    return sorted((store.root / "digests").iterdir())


def test_files_are_read_by_the_first_command_only(store: Store, data: Path, reads: list[str]) -> None:
    command(store, data)
    command(store, data)
    assert sorted(reads) == sorted(NAMES)


def test_a_changed_file_is_read_again_and_no_other(store: Store, data: Path, reads: list[str]) -> None:
    command(store, data)
    time.sleep(0.02)
    before = (data / "a.bin").stat()
    (data / "a.bin").write_text("A.bin")
    os.utime(data / "a.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    command(store, data)
    assert reads[len(NAMES) :] == ["a.bin"]
    command(store, data)
    assert len(reads) == len(NAMES) + 1


def test_where_there_is_no_store_none_is_made(tmp_path: Path, data: Path) -> None:
    command(Store(tmp_path / "none"), data)
    assert not (tmp_path / "none").exists()


def test_a_store_of_before_there_were_digests_gets_them(store: Store, data: Path, reads: list[str]) -> None:
    (store.root / "digests").rmdir()
    command(store, data)
    command(store, data)
    assert len(reads) == len(NAMES)


def test_nothing_is_written_when_nothing_is_new(store: Store, data: Path) -> None:
    command(store, data)
    before = [path.stat().st_ino for path in remembered(store)]
    command(store, data)
    assert [path.stat().st_ino for path in remembered(store)] == before


def test_a_file_that_is_gone_is_forgotten(store: Store, data: Path) -> None:
    command(store, data)
    (data / "a.bin").unlink()
    (data / "new.bin").write_text("new")
    command(store, data)
    (path,) = remembered(store)
    assert b"a.bin" not in path.read_bytes()
    assert b"new.bin" in path.read_bytes()


def test_names_that_are_no_text_are_read_each_time(store: Store, data: Path, reads: list[str]) -> None:
    raw = os.fsdecode(b"\xff.bin")
    (data / raw).write_text("raw")
    (data / os.fsdecode(b"\xff")).mkdir()
    (data / os.fsdecode(b"\xff") / "inner.bin").write_text("inner")
    for _ in range(2):
        command(store, data)
        command(store, data / os.fsdecode(b"\xff"))
    assert sorted(reads) == sorted([*NAMES, raw, raw, "inner.bin", "inner.bin"])


def test_what_is_broken_is_told_and_not_believed(store: Store, data: Path, reads: list[str]) -> None:
    command(store, data)
    told: list[str] = []
    flip(remembered(store)[0])
    command(Store(store.root, on_problem=told.append), data)
    assert len(told) == 1
    assert "is broken" in told[0]
    assert len(reads) == 2 * len(NAMES)
    command(store, data)


def test_digests_of_another_folder_are_not_believed(store: Store, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in NAMES:  # the same files, so that nothing but the folder tells
        (other / name).hardlink_to(data / name)
    command(store, data)
    command(store, other)
    one, two = remembered(store)
    one.rename(store.root / "third")
    two.rename(one)
    (store.root / "third").rename(two)
    told: list[str] = []
    command(Store(store.root, on_problem=told.append), data)
    assert "it is that of another folder" in told[0]
    findings = [examined(store, item) for item in items(store)]
    assert sorted(each.state for each in findings) == ["broken", "ok"]
    (moved,) = [each.moved for each in findings if each.moved]
    assert [path.suffix for path in moved.iterdir()] == [".json"]


def test_a_store_that_cannot_be_written_costs_only_time(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.mcomp.store.faults import FaultyDisk

    counting = FaultyDisk()
    command(Store(store.root, counting), data)
    for path in remembered(store):
        path.unlink()
    for fault in ("full", "io", "forbidden"):
        for position in range(len(counting.effects)):
            command(Store(store.root, FaultyDisk(fault, position), on_problem=lambda text: None), data)
    assert list((store.root / "work").iterdir()) == []


def test_a_clean_forgets_folders_that_are_gone(store: Store, data: Path) -> None:
    command(store, data)
    now = datetime.now(UTC)
    assert removals(store, Rules(), [], now) == []
    data.rename(data.with_name("moved"))
    (going,) = removals(store, Rules(), [], now)
    assert (going.kind, remove(store, going, [])) == ("digests", "")
    assert remembered(store) == []
