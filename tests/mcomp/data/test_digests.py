from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcomp.data import digests
from mcomp.data.digests import content_digest
from mcomp.errors import RecipeError
from mcomp.fingerprint import file_digest


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    first = content_digest(file)
    assert first == file_digest(file)
    monkeypatch.setattr(digests, "file_digest", lambda path: "read again")
    assert content_digest(file) == first


@pytest.mark.parametrize("content", [b"changed", b"longer content"], ids=["same size", "another size"])
def test_a_changed_file_is_read_again(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    first = content_digest(file)
    file.write_bytes(content)
    os.utime(file, ns=(0, 10**9))
    assert content_digest(file) != first


def test_a_file_put_in_its_place_is_read(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    for path, content in ((file, b"content"), (other, b"changed")):
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
    first = content_digest(file)
    other.replace(file)
    assert content_digest(file) != first


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="gone cannot be read: No such file"):
        content_digest(tmp_path / "gone")
