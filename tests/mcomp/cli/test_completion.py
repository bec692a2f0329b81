from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp import plugins
from tests.mcomp.cli.conftest import Command, Runs
from tests.tiny import STAGES, write_recipes

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(tmp_path: Path) -> Complete:
    """Return what bash would offer for the last of the words, in a folder of recipes."""
    (tmp_path / "recipes").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("first.yaml", "recipes/small.yaml", "recipes/big.yaml", ".hidden/no.yaml", "notes.txt"):
        (tmp_path / name).touch()

    def complete(*words: str, **environment: str) -> list[str]:
        asked = {
            "COMP_WORDS": " ".join(("mcomp", *words)),
            "COMP_CWORD": str(len(words)),
            "_MCOMP_COMPLETE": "bash_complete",
        }
        answer = subprocess.run(
            [sys.executable, "-m", "mcomp"],
            cwd=tmp_path,
            env={**os.environ, **asked, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stderr == ""
        return [line for line in answer.stdout.splitlines() if line]

    return complete


def test_commands_and_options_are_offered(complete: Complete) -> None:
    assert complete("re") == ["plain,report"]
    assert "plain,--html" in complete("report", "--")


@pytest.mark.parametrize("command", ["run", "check", "plan"])
def test_recipes_are_offered_of_this_folder_and_those_in_it(command: str, complete: Complete) -> None:
    assert complete(command, "") == ["plain,first.yaml", "plain,recipes/big.yaml", "plain,recipes/small.yaml"]
    assert complete(command, "recipes/s") == ["plain,recipes/small.yaml"]


def test_where_there_is_no_recipe_the_shell_offers_its_files(complete: Complete) -> None:
    assert complete("plan", "notes") == ["file,notes"]


def test_installed_stages_are_offered(complete: Complete) -> None:
    names = sorted(plugins.installed("stages"))
    assert complete("stages", "") == [f"plain,{name}" for name in names]
    assert complete("stages", "prune.c") == ["plain,prune.channels"]


def test_the_stages_of_the_recipe_that_is_typed_are_offered(complete: Complete, tmp_path: Path) -> None:
    write_recipes(tmp_path)
    assert complete("sensitivity", "tiny.yaml", "") == [f"plain,{stage}" for stage in STAGES]
    assert complete("sensitivity", "tiny.yaml", "q") == ["plain,qat"]
    assert complete("sensitivity", "notes.txt", "") == []


def test_runs_are_offered_newest_first_from_the_store_that_is_meant(complete: Complete, runs: Runs) -> None:
    ids = [f"plain,{run}" for run in (runs.failed, runs.changed, runs.first)]
    assert complete("explain", "--store", str(runs.store), "") == ids
    assert complete("explain", "", MCOMP_STORE=str(runs.store)) == ids
    assert complete("diff", runs.first, "2", MCOMP_STORE=str(runs.store))[:3] == ids
    assert complete("explain", "") == []


def test_a_store_that_cannot_be_read_offers_nothing(complete: Complete, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text("{}")
    assert complete("explain", "--store", str(tmp_path / "store"), "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_mcomp_and_says_where_to_put_it(shell: str, mcomp: Command) -> None:
    answer = mcomp("completion", shell)
    assert answer.code == 0
    assert f"_MCOMP_COMPLETE={shell}_complete" in answer.out
    assert f"mcomp completion {shell} > " in answer.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_reads_its_script(mcomp: Command) -> None:
    script = mcomp("completion", "bash").out
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_an_unknown_shell_is_answered_with_the_known_ones(mcomp: Command) -> None:
    answer = mcomp("completion", "csh")
    assert answer.code == 2
    assert "'bash', 'zsh', 'fish'" in answer.err
