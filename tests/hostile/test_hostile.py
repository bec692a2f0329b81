"""Hostile recipes are refused as mistakes, at once, and nothing is imported, opened or started for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.attacked import Watch
from tests.hostile.recipes import RECIPES

# Far above what is measured (0.1 s and 2 MB): these only catch what hangs or grows.
MOST_SECONDS, MOST_MEGABYTES = 2.0, 100.0

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Attack in one process of its own."""
    program = [
        sys.executable,
        str(Path(__file__).with_name("attacked.py")),
        str(tmp_path_factory.mktemp("attacked")),
    ]
    process = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_a_hostile_recipe_is_refused_as_a_mistake(name: str, results: Results) -> None:
    result = results[name]
    assert result["code"] == 2, result["printed"]
    assert RECIPES[name].told in result["printed"]
    assert "Traceback" not in result["printed"]
    assert result["seen"] == []
    assert not result["evil"]
    assert result["seconds"] < MOST_SECONDS
    assert result["megabytes"] < MOST_MEGABYTES


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_printed_can_neither_move_the_cursor_nor_tell_the_environment(
    name: str, results: Results
) -> None:
    printed = results[name]["printed"].replace("\n", "")
    assert printed.isprintable()
    assert "hunter2" not in printed


def test_the_watch_notices_what_leaves_the_folder(tmp_path: Path) -> None:
    watch = Watch()
    watch.folder = tmp_path
    inside, outside = str(tmp_path / "r.yaml"), str(tmp_path.parent / "outside.yaml")
    watch("open", (inside, "r", 0))
    assert watch.seen == []
    for event, arguments in [
        ("open", (outside, "r", 0)),
        ("open", (inside, "w", 0o1101)),
        ("open", (f"{tmp_path}-beside", "r", 0)),
        ("subprocess.Popen", ("ls",)),
        ("socket.connect", ()),
        ("os.mkdir", (inside,)),
    ]:
        watch.seen.clear()
        watch(event, arguments)
        assert len(watch.seen) == 1, event
