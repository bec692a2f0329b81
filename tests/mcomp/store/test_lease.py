from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcomp.errors import StoreError
from mcomp.store import lease
from mcomp.store.disk import Disk
from mcomp.store.lease import claim, hold, hold_if_free, is_held, is_left_behind, temporary_name
from tests.mcomp.store.faults import FaultyDisk


def silent(text: str) -> None:
    pytest.fail(f"waited: {text}")


def test_looking_for_a_holder_makes_nothing(tmp_path: Path) -> None:
    assert not is_held(tmp_path, "a")
    assert list(tmp_path.iterdir()) == []


def test_a_lease_is_held_until_its_end(tmp_path: Path) -> None:
    with hold(Disk(), tmp_path, "a", silent):
        assert is_held(tmp_path, "a")
        assert not is_held(tmp_path, "b")
        with hold_if_free(Disk(), tmp_path, "a") as is_free:
            assert not is_free
        assert is_held(tmp_path, "a")
    assert not is_held(tmp_path, "a")


def test_a_free_lease_is_taken_and_given_back(tmp_path: Path) -> None:
    with hold_if_free(Disk(), tmp_path, "a") as is_free:
        assert is_free
        assert is_held(tmp_path, "a")
        assert f'"pid": {os.getpid()}' in (tmp_path / "a.json").read_text()
    assert not is_held(tmp_path, "a")


def test_the_files_of_a_lease_may_be_removed_by_its_holder(tmp_path: Path) -> None:
    with hold_if_free(Disk(), tmp_path, "a"):
        for path in tmp_path.iterdir():
            path.unlink()
        with hold_if_free(Disk(), tmp_path, "a") as is_free:
            assert is_free
    with hold(Disk(), tmp_path, "a", silent):
        assert is_held(tmp_path, "a")


def test_a_claim_is_given_back_and_one_that_is_not_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "CLAIM_SECONDS", 0.1)
    with claim(tmp_path) as is_held_now:
        assert is_held_now
        with claim(tmp_path) as is_held_too:
            assert not is_held_too
    with claim(tmp_path) as is_held_again:
        assert is_held_again


def test_a_note_that_cannot_be_written_leaves_no_lease(tmp_path: Path) -> None:
    with pytest.raises(StoreError), hold_if_free(FaultyDisk("full", 0), tmp_path, "a"):
        pytest.fail("held")
    assert not is_held(tmp_path, "a")


def test_what_a_living_process_works_on_is_not_left_behind() -> None:
    assert not is_left_behind(temporary_name("a"))
    assert not is_left_behind("a")


def test_what_a_dead_process_left_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcomp.store.lease.is_alive", lambda pid: False)
    name = temporary_name("20260101-000000-tiny-0000")
    assert is_left_behind(name)
    assert is_left_behind(name, "20260101-000000-tiny-0000")
    assert not is_left_behind(name, "20260101-000000-tiny")


def test_a_process_that_has_the_number_of_a_dead_one_is_another() -> None:
    key, pid, start, chance = temporary_name("a").split("-")
    assert int(start) > 0
    assert is_left_behind(f"{key}-{pid}-{int(start) - 1}-{chance}")


def test_where_the_system_does_not_say_when_a_process_started_its_number_decides() -> None:
    assert not is_left_behind(f"a-{os.getpid()}-0-00000000")
    assert is_left_behind(f"a-{2**22 + 1}-0-00000000")  # no process has such a number
