"""A file is read again whenever it may have changed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcomp.data import digests
from mcomp.data.digests import DIGESTS, SETTLED_NS, Digests, content_digest
from mcomp.errors import RecipeError
from mcomp.fingerprint import file_digest

LATER_NS = SETTLED_NS + 10**9


@pytest.fixture(autouse=True)
def own_digests() -> Iterator[Digests]:
    own = Digests()
    token = DIGESTS.set(own)
    yield own
    DIGESTS.reset(token)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read."""
    read: list[Path] = []

    def reading(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", reading)
    return read


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is later than when the files were written."""
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + LATER_NS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


@pytest.mark.usefixtures("later")
def test_a_file_is_read_once(file: Path, reads: list[Path]) -> None:
    first = content_digest(file)
    assert first == file_digest(file)
    assert content_digest(file) == first
    assert reads == [file]


def test_a_file_that_was_only_just_written_is_read_each_time(file: Path, reads: list[Path]) -> None:
    """It may be written once more within one tick of the file system's clock."""
    content_digest(file)
    before = file.stat()
    file.write_bytes(b"changed")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert content_digest(file) == file_digest(file)
    assert reads == [file, file]


@pytest.mark.usefixtures("later")
def test_two_seconds_are_counted_from_before_it_was_read(
    file: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([file.stat().st_ctime_ns + SETTLED_NS - 1, file.stat().st_ctime_ns + SETTLED_NS])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    for _ in range(3):
        content_digest(file)
    assert len(reads) == 2


@pytest.mark.usefixtures("later")
def test_a_file_that_is_written_while_it_is_read_is_read_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddled(path: Path) -> str:
        digest = file_digest(path)
        path.write_bytes(b"changed")
        return digest

    monkeypatch.setattr(digests, "file_digest", meddled)
    first = content_digest(file)
    monkeypatch.undo()
    assert content_digest(file) == file_digest(file) != first


def write_in_place(file: Path) -> None:
    file.write_bytes(b"changed")


def write_as_long_ago(file: Path) -> None:
    """As a copy does that keeps the times."""
    before = file.stat()
    file.write_bytes(b"changed")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def write_through_a_link(file: Path) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    other.write_bytes(b"changed")


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"changed")
    shutil.copystat(file, other)
    other.replace(file)


def link_elsewhere(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"changed")
    file.unlink()
    file.symlink_to(other)


def write_more(file: Path) -> None:
    file.write_bytes(b"longer content")


CHANGES: tuple[Callable[[Path], None], ...] = (
    write_in_place, write_as_long_ago, write_through_a_link, replace, link_elsewhere, write_more
)  # fmt: skip


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_file_is_read_again(change: Callable[[Path], None], file: Path) -> None:
    first = content_digest(file)
    time.sleep(0.02)  # a tick of the file system's clock
    change(file)
    assert content_digest(file) == file_digest(file) != first


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="gone cannot be read: No such file"):
        content_digest(tmp_path / "gone")
