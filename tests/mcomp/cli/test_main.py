from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp.cli import cli, main
from mcomp.cli import run as run_command
from mcomp.errors import (
    CheckpointError,
    CorruptArtifact,
    McompError,
    PluginError,
    RecipeError,
    StageError,
    StoreError,
    StoreFull,
)
from mcomp.signals import Interrupted
from tests.mcomp.cli.conftest import Answer, Runs

Command = Callable[..., Answer]


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `mcomp run` raise."""

    def callback(**arguments: object) -> None:
        raise error

    monkeypatch.setattr(run_command, "callback", callback)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError("what"), 2),
        (CheckpointError("what"), 2),
        (PluginError("what"), 4),
        (StageError("what"), 5),
        (StoreError("what"), 6),
        (CorruptArtifact("what"), 6),
        (StoreFull("what"), 6),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_shows_its_text_alone(
    error: McompError, code: int, mcomp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(error, monkeypatch)
    assert mcomp("run", "tiny.yaml") == Answer(code, "", "what\n")


def test_a_bug_shows_its_traceback_and_is_exit_code_1(
    mcomp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(ZeroDivisionError("ours"), monkeypatch)
    answer = mcomp("run", "tiny.yaml")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith("Traceback (most recent call last):")
    assert "ZeroDivisionError: ours" in answer.err
    assert answer.err.endswith("this is a bug in mcomp; please report it with the lines above\n")


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (KeyboardInterrupt(), 130, "SIGINT"),
        (Interrupted(signal.SIGINT), 130, "SIGINT"),
        (Interrupted(signal.SIGTERM), 143, "SIGTERM"),
    ],
)
def test_a_signal_is_128_and_its_number(
    error: BaseException, code: int, name: str, mcomp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(error, monkeypatch)
    answer = mcomp("run", "tiny.yaml")
    assert answer.code == code
    assert answer.err.endswith(f"stopped by {name}\n")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("run", "--help"), ("stages", "-h")])
def test_help_is_no_error(arguments: tuple[str, ...], mcomp: Command) -> None:
    answer = mcomp(*arguments)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("Usage: mcomp")


def test_the_help_lists_every_command(mcomp: Command) -> None:
    listed = mcomp("--help").out.partition("Commands:\n")[2]
    assert {line.split()[0] for line in listed.splitlines()} >= set(cli.commands)
    assert all(command.help for command in cli.commands.values())


def test_the_version_is_that_of_the_distribution(mcomp: Command) -> None:
    from importlib.metadata import version

    assert mcomp("--version").out == f"mcomp {version('mcomp')}\n"


@pytest.mark.parametrize(
    ("option", "told"), [("--stages.prune.target.macs=0.4", True), ("--seed=1", True), ("--sotre=x", False)]
)
def test_an_override_with_dashes_is_told_to_be_without(option: str, told: bool, mcomp: Command) -> None:
    answer = mcomp("plan", "small.yaml", option)
    assert answer.code == 2
    assert ("Values of a recipe are written without dashes" in answer.err) is told


def test_no_command_is_a_mistake_that_shows_the_help(mcomp: Command) -> None:
    answer = mcomp()
    assert answer.code == 2
    assert "Usage: mcomp" in answer.err


def test_the_process_ends_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(StageError("what"), monkeypatch)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(SystemExit) as ended:
        main(["run", "tiny.yaml"])
    assert ended.value.code == 5
    assert handlers == {number: signal.getsignal(number) for number in handlers}


# run


def test_a_run_prints_its_table_and_the_address_of_its_file(
    mcomp: Command, runs: Runs, tmp_path: Path
) -> None:
    answer = mcomp("run", runs.recipe, "--store", shutil.copytree(runs.store, tmp_path / "store"))
    assert answer.code == 0
    assert "toy/export" in answer.out
    path = Path(answer.out.splitlines()[-1].removeprefix("export: "))
    assert path.name == "model.onnx"
    assert path.is_file()
    assert answer.err.count(" hit ") == 4


def test_the_store_can_be_named_by_the_environment(
    mcomp: Command, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCOMP_STORE", str(runs.store))
    assert "4 steps, 0 to do" in mcomp("plan", runs.recipe).out
    elsewhere = mcomp("plan", runs.recipe, "--store", tmp_path / "other")
    assert "4 steps, 4 to do" in elsewhere.out
    assert not (tmp_path / "other").exists()


def test_a_fresh_run_makes_everything_again(mcomp: Command, runs: Runs, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = mcomp("run", runs.recipe, "--store", store)
    again = mcomp("run", runs.recipe, "--store", store, "--fresh")
    assert first.code == again.code == 0
    assert " hit " not in again.err
    assert "measuring the exported file" in again.err
    assert len(list((store / "replaced").iterdir())) == 4


def test_a_module_of_the_current_folder_can_be_imported(
    mcomp: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    (tmp_path / "mine_of_here.py").write_text("raise RuntimeError('it was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    answer = mcomp("stages", "--import", "mine_of_here")
    assert answer.code == 4
    assert answer.err == "module mine_of_here cannot be imported: RuntimeError: it was imported\n"


# report


def test_the_last_run_is_reported_by_default_and_another_by_its_id(mcomp: Command, runs: Runs) -> None:
    assert runs.failed in mcomp("report", "--store", runs.store).out
    answer = mcomp("report", runs.changed, "--store", runs.store)
    assert runs.changed in answer.out
    assert "stages.more.by=0.75" in answer.out


def test_a_run_that_left_no_ledger_is_said_to(mcomp: Command, tmp_path: Path) -> None:
    from mcomp.store.store import Store

    store = Store(tmp_path / "store")
    store.new_run("tiny")
    answer = mcomp("report", "--store", store.root)
    assert answer.code == 6
    assert "has no ledger: it ended before its first step did" in answer.err
