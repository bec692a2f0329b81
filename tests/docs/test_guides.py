"""What the guides and the tutorial tell people to do, done."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mcomp
from tests.docs.conftest import Open
from tests.docs.pages import ROOT, blocks

GUIDES = ROOT / "docs" / "guides"
TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.mark.parametrize(
    ("guide", "recipe"),
    [("own_model", "my_net"), ("own_data", "stripes"), ("own_stage", "clipped")],
)
def test_the_example_of_a_guide_runs(guide: str, recipe: str, open_page: Open) -> None:
    folder = open_page(GUIDES / f"{guide}.md")
    outcome = mcomp.run(folder / f"{recipe}.yaml", store=folder / "store")
    assert outcome.ledger.status == "done"


def test_the_tutorial_works_by_its_own_commands(tmp_path: Path) -> None:
    for block in blocks(TUTORIAL):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
    commands = [
        line for block in blocks(TUTORIAL) if block.language == "bash" for line in block.text.splitlines()
    ]
    said = [in_folder(tmp_path, command) for command in ("python make_images.py", *commands)]
    assert "next: mcomp check small.yaml --import my_cnn" in said[1]
    assert "no mistakes" in said[2]
    assert "✓" in said[3]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "</html>" in page
    ledger = json.loads(in_folder(tmp_path, "python -m mcomp report --json"))
    about = ledger["rows"][-1]["facts"]["data"]
    assert about["classes"] == [str(digit) for digit in range(10)]
    assert len(about["mean"]) == len(about["std"]) == 1


def in_folder(folder: Path, command: str) -> str:
    """Run one line of the documentation; return what it printed."""
    program, *arguments = shlex.split(command)
    assert program == "python"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
