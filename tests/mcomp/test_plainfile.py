from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp import plainfile

NO_PLAIN: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "nothing": lambda path: None,
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("what", NO_PLAIN)
def test_what_is_no_plain_file_is_refused_at_once(what: str, tmp_path: Path) -> None:
    NO_PLAIN[what](tmp_path / "x")
    for read in (lambda path: plainfile.read(path, 10), plainfile.sha256):
        with pytest.raises(OSError, match=r"no plain file|directory|No such file|symbolic links"):
            read(tmp_path / "x")


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert plainfile.read(tmp_path / "x", 5) == b"12345"
    with pytest.raises(OSError, match="it is larger than 4 bytes"):
        plainfile.read(tmp_path / "x", 4)


def test_a_link_is_followed_unless_none_may_be(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    (tmp_path / "l").symlink_to("x")
    assert plainfile.read(tmp_path / "l", 5) == b"12345"
    assert plainfile.sha256(tmp_path / "l") == hashlib.sha256(b"12345").hexdigest()
    for read in (plainfile.read, lambda path, limit, **how: plainfile.sha256(path, **how)):
        with pytest.raises(OSError, match="symbolic links"):
            read(tmp_path / "l", 5, follow_links=False)
