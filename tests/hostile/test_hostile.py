"""Hostile files are refused at once, and nothing outside is run, opened or changed for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.attack import Attack
from tests.hostile.corpus import ATTACKS, SECRET
from tests.hostile.pickles import FAKED
from tests.hostile.sources import SOURCES
from tests.hostile.watch import Tripwire, Watch
from tests.mcomp.store.protocols import in_memory

Result = dict[str, Any]
Results = dict[str, Result]
Event = tuple[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def results() -> Results:
    """Attack in one process of its own."""
    with in_memory() as folder:
        program = [sys.executable, str(Path(__file__).with_name("attacked.py")), str(folder)]
        process = subprocess.run(program, capture_output=True, text=True, timeout=1200, check=False)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found.keys() == ATTACKS.keys()
    return dict(found)


def those(results: Results, is_bad: Callable[[Attack, Result], bool]) -> Results:
    """Return the attacks of which something bad is true, with what came of them."""
    return {name: result for name, result in results.items() if is_bad(ATTACKS[name], result)}


def test_every_attack_ends_with_its_code_and_is_told(results: Results) -> None:
    assert not those(results, lambda attack, result: result["code"] != attack.code)
    assert not those(results, lambda attack, result: attack.told not in result["printed"])
    assert not those(results, lambda attack, result: bool(attack.error) and result["error"] != attack.error)
    assert not those(results, lambda attack, result: "Traceback" in result["printed"])


def test_no_attack_runs_opens_or_changes_anything_outside(results: Results) -> None:
    assert not those(results, lambda attack, result: bool(result["seen"]) or result["evil"])


def test_every_attack_is_answered_at_once_and_without_much_memory(results: Results) -> None:
    assert not those(results, lambda attack, result: result["seconds"] >= attack.seconds)
    assert not those(results, lambda attack, result: result["megabytes"] >= attack.megabytes)


def test_what_is_printed_can_neither_steer_the_terminal_nor_fake_a_line(results: Results) -> None:
    assert not those(results, lambda attack, result: not result["printed"].replace("\n", "").isprintable())
    # What is shown in a table is broken into lines.
    assert not those(results, lambda attack, result: attack.code != 0 and FAKED in result["printed"])


def test_what_is_printed_does_not_tell_the_environment(results: Results) -> None:
    assert not those(results, lambda attack, result: SECRET in result["printed"])


def test_every_attack_has_a_source() -> None:
    assert {attack.source for attack in ATTACKS.values()} == SOURCES.keys()


def test_the_watch_notices_what_leaves_the_folder(tmp_path: Path) -> None:
    watch = Watch()
    watch.folder = tmp_path
    inside, outside = str(tmp_path / "r.yaml"), str(tmp_path.parent / "outside.yaml")
    watch("open", (inside, "r", 0))
    assert watch.seen == []
    changes: list[Event] = [
        ("open", (inside, "w", 0o1101)),
        ("os.mkdir", (inside, 511)),
    ]
    bad: list[Event] = [
        ("open", (outside, "r", 0)),
        ("open", (f"{tmp_path}-beside", "r", 0)),
        ("subprocess.Popen", ("ls",)),
        ("socket.connect", ()),
        ("os.rename", (inside, outside)),
        ("pickle.find_class", ("os", "system")),
    ]
    for event, arguments in changes + bad:
        watch.seen.clear()
        watch(event, arguments)
        assert len(watch.seen) == 1, event
    watch.writes = True
    watch.seen.clear()
    for event, arguments in changes:
        watch(event, arguments)
    assert watch.seen == []
    for number, (event, arguments) in enumerate(bad, start=1):
        watch(event, arguments)
        assert len(watch.seen) == number, event


def test_the_tripwire_notices_what_is_opened_by_whatever_code(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "secret").write_bytes(b"x")
    tripwire = Tripwire(tmp_path)
    (tmp_path / "in" / "secret").stat()
    assert tripwire.seen() == []
    os.close(os.open(tmp_path / "in" / "secret", os.O_RDONLY))
    assert tripwire.seen() == [str(tmp_path / "in" / "secret")]
    assert tripwire.seen() == []
    (tmp_path / "in" / "new").write_bytes(b"")
    assert str(tmp_path / "in" / "new") in tripwire.seen()
