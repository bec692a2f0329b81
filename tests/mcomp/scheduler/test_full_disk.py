from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcomp.errors import StageError, StoreFull
from mcomp.store.store import Store
from mcomp.store.verify import examined, items
from tests.mcomp.scheduler.runs import MakePlan, execute, files_below_names, last_ledger, statuses
from tests.mcomp.store.faults import FaultyDisk
from tests.mcomp.voices import Quiet
from tests.tiny import unfinished

GROWS = ("write", "append", "mkdir", "rename")


def test_a_full_disk_at_any_moment_is_said_and_the_next_run_finishes(plan: MakePlan, tmp_path: Path) -> None:
    planned, counting = plan(), FaultyDisk()
    whole = files_below_names(execute(planned, Store(tmp_path / "whole", counting)))
    growing = [at for at, name in enumerate(counting.effects) if name in GROWS]
    for position in growing[:: len(growing) // 12]:
        root = tmp_path / f"full-{position}"
        with pytest.raises(StoreFull, match="disk is full"):
            execute(planned, Store(root, FaultyDisk("full", position)))
        assert unfinished(root) == [], position
        earlier = Store(root)
        assert {examined(earlier, item, move=False).state for item in items(earlier)} <= {"ok"}, position
        assert files_below_names(execute(planned, earlier)) == whole, position


def test_a_step_without_room_for_its_result_is_not_started_and_the_others_are_kept(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.disk, "free_bytes", lambda folder: 100)
    reporter = Quiet()
    with pytest.raises(StoreFull, match=r"toy/more was not started: it needs about [\d,]+ bytes for the res"):
        execute(plan(), store, reporter)
    assert statuses(last_ledger(store)) == ["fit computed", "more failed"]
    assert unfinished(store.root) == []
    monkeypatch.undo()
    assert statuses(execute(plan(), store).ledger)[:2] == ["fit hit", "more computed"]


def test_a_model_that_is_made_anew_is_counted_when_it_is_made(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.disk, "free_bytes", lambda folder: 35)
    with pytest.raises(StoreFull, match="toy/fit was not started: it needs about 36 bytes for the result"):
        execute(plan(), store)
    assert unfinished(store.root) == []


def test_a_disk_that_stays_full_does_not_hide_what_filled_it(
    plan: MakePlan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the event nor the ledger can be written then."""
    planned = plan("more: {type: toy.fit, by: 0.5}", "more: {type: toy.broken, error: stage}")

    def full(path: Path, *rest: Any) -> None:
        raise StoreFull(f"cannot write {path}: the disk is full")

    class Filling(Quiet):
        def step_started(self, step: Any, number: int, total: int) -> None:
            if number == 2:
                monkeypatch.setattr(store.disk, "put", full)

    append = store.disk.append

    def full_after_the_start(path: Path, data: bytes) -> None:
        if b"step failed" in data:
            full(path)
        append(path, data)

    monkeypatch.setattr(store.disk, "append", full_after_the_start)
    with pytest.raises(StageError, match="toy/more: fc: cannot do it"):
        execute(planned, store, Filling())
