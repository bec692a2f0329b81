"""Hostile files are refused at once, and nothing outside is run, opened or changed for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.corpus import ATTACKS
from tests.hostile.pickles import FAKED
from tests.hostile.sources import SOURCES
from tests.hostile.watch import Tripwire, Watch

Results = dict[str, dict[str, Any]]
Event = tuple[str, tuple[Any, ...]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Attack in one process of its own."""
    program = [
        sys.executable,
        str(Path(__file__).with_name("attacked.py")),
        str(tmp_path_factory.mktemp("attacked")),
    ]
    process = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_as_a_mistake_that_is_told(name: str, results: Results) -> None:
    attack, result = ATTACKS[name], results[name]
    assert result["code"] == attack.code, result["printed"]
    assert attack.told in result["printed"]
    assert not attack.error or result["error"] == attack.error
    assert "Traceback" not in result["printed"]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_runs_opens_and_changes_nothing_outside(name: str, results: Results) -> None:
    assert results[name]["seen"] == []
    assert not results[name]["evil"]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_answered_at_once_and_without_much_memory(name: str, results: Results) -> None:
    assert results[name]["seconds"] < ATTACKS[name].seconds
    assert results[name]["megabytes"] < ATTACKS[name].megabytes


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_printed_can_neither_move_the_cursor_nor_tell_the_environment(
    name: str, results: Results
) -> None:
    printed = results[name]["printed"]
    assert printed.replace("\n", "").isprintable()
    assert FAKED not in printed
    assert "hunter2" not in printed


def test_every_attack_has_a_source() -> None:
    assert {attack.source for attack in ATTACKS.values()} <= SOURCES.keys()


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
