"""What a person can get wrong, through the command line: what is said, the exit code, and that nothing is left."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mcomp.cli import exit_code
from mcomp.store import store as store_module
from mcomp.store.disk import Disk, explained
from tests.end_to_end.conftest import Finished
from tests.tiny import TINY, artifacts, files_below, mcomp, unfinished, write_recipes


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with the recipes in it."""
    folder = tmp_path / "here"
    write_recipes(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "300")
    return folder


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process; whatever it says, it writes nothing but its store."""

    def command(*arguments: str | Path) -> Said:
        before = files_below(folder)
        code = exit_code([str(each) for each in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        left = {name: data for name, data in files_below(folder).items() if not name.startswith("kept/")}
        assert left == {name: data for name, data in before.items() if not name.startswith("kept/")}
        assert unfinished(folder / "kept") == []
        return Said(code, out, err)

    return command


def run(command: Command, *overrides: str) -> Said:
    return command("run", "tiny.yaml", *overrides, "--store", "kept")


@pytest.fixture
def stored(folder: Path, finished: Finished) -> Path:
    """Return a store that has everything but what comes after distillation."""
    shutil.copytree(finished.store, folder / "kept")
    for row in finished.ledger.rows:
        if row.stage in ("prune", "qat", "export"):
            shutil.rmtree(folder / "kept" / "artifacts" / row.key[:2] / row.key)
    return folder / "kept"


# Recipes


# ruff: noqa: E501 -- a table: what is replaced, and what is said
MISTAKES = [
    ("importance: l2", "imporance: l2", "tiny.yaml:14:5: stages.prune.imporance: unknown key; did you mean 'importance'?"),
    ("prune.channels", "prune.chanels", "tiny.yaml:13:11: stages.prune.type: unknown type 'prune.chanels'; did you mean 'prune.channels'?"),
    ("round_to: 1", "round_to: eight", "tiny.yaml:16:15: stages.prune.round_to: must be an integer, not 'eight'; it is: keep a multiple of this many channels"),
    ("macs: 0.6", "macs: 1.6", "tiny.yaml:15:20: stages.prune.target.macs: must be below 1"),
    ("epochs: 1", "epochs: 0", "tiny.yaml:11:24: stages.distill.training.epochs: must be at least 1, not 0"),
    ("name: tiny", "name: tiny\nname: other", "tiny.yaml:3:1: name: is given twice, first in line 2; remove one"),
    ("baseline: {recipe: teacher.yaml}", "baseline: {recipe: teachr.yaml}", "tiny.yaml:5:20: baseline.recipe: there is no file teachr.yaml; did you mean teacher.yaml?"),
    ("{type: lenet5}", "{type: lenet5, checkpoint: w.pt}", "tiny.yaml:3:35: model.checkpoint: there is no file w.pt"),
    ("[distill, prune, qat, export]", "[distill, qat, prune, export]", "tiny.yaml:13:11: stages.prune.type: prune.channels takes a float model, and the stage before it leaves a quantized one; change the order in pipeline, or take one of the two out of it"),
    ("[distill, prune, qat, export]", "[prune, qat, export]", "tiny.yaml:13:11: stages.prune.type: prune.channels needs trained weights, and nothing before it trained or loaded any; set model.checkpoint, or put a train or distill stage before it"),
    ("[distill, prune, qat, export]", "[]", "tiny.yaml:6:11: pipeline: is empty; name the stages to run, or remove it"),
    ("size_ratio: {min: 2.0}", "speedup: {min: 2, batch_size: 4}", "tiny.yaml:23:33: require.speedup.batch_size: batch size 4 is not measured; add it to measure.batch_sizes, which holds 1"),
    ("{recipe: teacher.yaml}]", "{recipe: tiny.yaml}]", "tiny.yaml:10:25: stages.distill.teachers.0.recipe: recipes refer to each other in a circle: tiny.yaml -> tiny.yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES)
def test_a_mistake_in_a_recipe_is_told_at_its_place(
    old: str, new: str, said: str, folder: Path, command: Command
) -> None:
    assert old in TINY
    (folder / "tiny.yaml").write_text(TINY.replace(old, new, 1))
    result = command("run", "tiny.yaml")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(said)
    assert len(result.err.splitlines()) == 1
    assert not (folder / ".mcomp").exists()


def test_all_mistakes_are_told_at_once(folder: Path, command: Command) -> None:
    wrong = TINY.replace("importance", "imporance").replace("opset", "opste").replace("macs: 0.6", "macs: 2")
    (folder / "tiny.yaml").write_text(wrong.replace("size_ratio", "size_ration"))
    result = command("check", "tiny.yaml")
    assert [line.split(": ")[1] for line in result.err.splitlines()] == [
        "stages.prune.imporance",
        "stages.prune.target.macs",
        "require.size_ration",
    ]


OVERRIDES = [
    ("stages.prune.target.mac=0.5", "command line: stages.prune.target.mac=0.5: unknown key; did you mean 'macs'?"),
    ("stages.prune.target.macs=1.5", "command line: stages.prune.target.macs=1.5: must be below 1"),
    ("stages.qat.training.epochs=two", "command line: stages.qat.training.epochs=two: must be an integer, not 'two'"),
    ("seed=1,2", "command line: seed=1,2: gives several values; add -m, or write a list: [a,b]"),
    ("pipeline=[distill,prun,export]", "command line: pipeline=[distill,prun,export]: 1: there is no stage 'prun'; did you mean 'prune'?"),
    ("hydra.run.dir=/tmp", "command line: hydra.run.dir=/tmp: this part of Hydra cannot be configured"),
    ("nonsense", "command line: nonsense: is no override; write key=value"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "said"), OVERRIDES)
def test_a_mistake_in_an_override_is_blamed_on_it(
    override: str, said: str, folder: Path, command: Command
) -> None:
    result = run(command, override)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(said)
    assert not (folder / "kept").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "Missing argument 'RECIPE'"),
        (("run", "tiny.yaml", "--stor", "x"), "No such option '--stor'"),
        (("runn", "tiny.yaml"), "No such command 'runn'"),
        (("run", "tniy.yaml"), "tniy.yaml: no such file; did you mean tiny.yaml?"),
        (("stages", "prune.chanels"), "unknown type 'prune.chanels'; did you mean 'prune.channels'?"),
        (("report",), ".mcomp has no run yet; start one with mcomp run"),
        (("report", "--store", "tiny.yaml"), "tiny.yaml has no run yet"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments: tuple[str, ...], said: str, command: Command) -> None:
    result = command(*arguments)
    assert result.code == 2
    assert said in result.err


# What only shows when a stage runs


def failing(command: Command, stored: Path, *overrides: str) -> Said:
    """Run a recipe that fails, twice: the first failure is not kept."""
    before = artifacts(stored)
    first, second = run(command, *overrides), run(command, *overrides)
    assert artifacts(stored) == before
    assert (first.code, first.out) == (second.code, second.out)
    assert first.err.splitlines()[-1] == second.err.splitlines()[-1]
    return first


def test_a_pattern_that_matches_nothing_is_a_stage_error(stored: Path, command: Command) -> None:
    result = failing(command, stored, "stages.prune.skip=[layer9.*]")
    assert result.code == 5
    assert result.err.splitlines()[-1] == "tiny/prune: no module matches 'layer9.*'"


def test_a_target_that_cannot_be_reached_is_a_stage_error_with_what_could(
    stored: Path, command: Command
) -> None:
    result = failing(command, stored, "stages.prune.target.macs=0.001")
    assert result.code == 5
    said = result.err.splitlines()[-1]
    assert said.startswith("tiny/prune: cannot keep only 0.1% of the multiply-adds: ")
    assert "is the smallest reachable share" in said


def test_a_requirement_that_is_not_met_is_exit_code_3_every_time(
    folder: Path, finished: Finished, command: Command
) -> None:
    shutil.copytree(finished.store, folder / "kept")
    for _ in range(2):
        result = run(command, "require.size_ratio={min: 99.0}")
        assert result.code == 3
        assert "export: kept/artifacts/" in result.out
        assert (folder / result.out.split("export: ")[-1].strip()).read_bytes() == finished.model.read_bytes()


# Checkpoints


class Canary:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("canary"),)


def truncated(path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(6, 1, 5, 5)}, path)
    path.write_bytes(path.read_bytes()[:-100])


def of_another_architecture(path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(8, 8, 3, 3)}, path)


def with_code(path: Path) -> None:
    torch.save({"conv1.weight": Canary()}, path)


def with_code_in_plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"conv1.weight": Canary()}))


@pytest.mark.parametrize(
    ("write", "name", "said"),
    [
        (truncated, "w.safetensors", "w.safetensors"),
        (of_another_architecture, "w.pt", "layer1.0.conv1.weight"),
        (with_code, "w.pt", "w.pt"),
        (with_code_in_plain_pickle, "w.pt", "w.pt"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_told_at_its_place(
    write: Callable[[Path], None], name: str, said: str, folder: Path, command: Command
) -> None:
    write(folder / name)
    start = "[qat, export]"
    text = TINY.replace("{type: lenet5}", f"{{type: lenet5, checkpoint: {name}}}").replace(
        "[distill, prune, qat, export]", start
    )
    (folder / "tiny.yaml").write_text(text.replace("baseline: {recipe: teacher.yaml}\n", ""))
    result = run(command)
    assert result.code == 2
    assert result.err.startswith("tiny.yaml:3:35: model.checkpoint: ")
    assert said in result.err
    assert not (folder / "canary").exists()
    assert artifacts(folder / "kept") == []


# The store


def full_when(condition: Callable[[str, Path], bool]) -> type[Disk]:
    """Return a disk that is full as soon as a condition holds, and stays full."""

    class Full(Disk):
        is_full = False

        def check(self, name: str, path: Path) -> None:
            type(self).is_full = self.is_full or condition(name, path)
            if self.is_full:
                with explained("write", path):
                    raise OSError(28, "No space left on device")

        def write(self, path: Path, data: bytes) -> None:
            self.check("write", path)
            super().write(path, data)

        def append(self, path: Path, data: bytes) -> None:
            self.check("append", path)
            super().append(path, data)

        def sync_file(self, path: Path) -> None:
            self.check("sync_file", path)
            super().sync_file(path)

        def mkdir(self, path: Path) -> None:
            self.check("mkdir", path)
            super().mkdir(path)

    return Full


def test_a_disk_that_is_full_while_a_result_is_published_loses_nothing(
    stored: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = artifacts(stored)
    publishing = full_when(
        lambda name, path: (
            name == "sync_file" and path.name == "weights.safetensors" and "artifacts" in path.parts
        )
    )
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "Disk", publishing)
        result = run(command)
    assert result.code == 6
    said = result.err.splitlines()[-1]
    assert said.startswith("cannot write kept/artifacts/")
    assert "the disk is full" in said
    assert said.endswith("make room and run again: what was published before is intact")
    assert artifacts(stored) == before
    assert run(command, "pipeline=[distill,export]", "~require").code == 0


def test_a_store_that_is_something_else_is_not_touched(folder: Path, command: Command) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "cat.png").write_bytes(b"cat")
    for place, said in (
        ("photos", "photos is not a store and not empty (it has cat.png)"),
        ("teacher.yaml", "teacher.yaml is a file; the store must be a folder"),
    ):
        result = command("run", "tiny.yaml", "--store", place)
        assert result.code == 6
        assert said in result.err
        assert "--store" in result.err


def test_a_page_that_cannot_be_written_is_a_mistake_of_the_command_line(
    folder: Path, finished: Finished, command: Command
) -> None:
    result = command("report", "--store", finished.store, "--html", "no/such/folder.html")
    assert result.code == 2
    assert (
        result.err
        == "cannot write no/such/folder.html: No such file or directory; name another file with --html\n"
    )
    unknown = command("report", "20200101-000000-tiny-0000", "--store", finished.store)
    assert unknown.code == 2
    assert "has no run or sweep 20200101-000000-tiny-0000; the last one is " in unknown.err


# Plugins


def test_a_plugin_that_raises_on_import_breaks_only_the_recipes_that_use_it(
    folder: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    information = site / "ghost-2.1.dist-info"
    information.mkdir(parents=True)
    (site / "ghost.py").write_text("raise RuntimeError('no ghost here')")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: ghost\nVersion: 2.1\n")
    (information / "entry_points.txt").write_text("[mcomp.stages]\nghost.train = ghost:Train\n")
    monkeypatch.syspath_prepend(site)
    broken = TINY.replace("type: quantize.qat", "type: ghost.train")
    (folder / "broken.yaml").write_text(broken)
    result = command("run", "broken.yaml", "--store", "kept")
    assert (result.code, result.out) == (4, "")
    assert (
        result.err
        == "ghost 2.1: mcomp.stages 'ghost.train' (ghost:Train) cannot be imported: RuntimeError: no ghost here\n"
    )
    assert command("check", "--quick", "tiny.yaml").code == 0
    listed = command("stages")
    assert listed.code == 0
    assert "no ghost here" in listed.out
    assert "prune.channels" in listed.out


def test_a_module_that_cannot_be_imported_is_named(folder: Path, command: Command) -> None:
    result = command("check", "tiny.yaml", "--import", "no_such_module_of_mine")
    assert result.code == 4
    assert (
        result.err
        == "there is no module no_such_module_of_mine; it must be installed, or lie in a folder of PYTHONPATH\n"
    )


def test_a_real_process_says_it_too_and_shows_no_traceback(tmp_path: Path) -> None:
    write_recipes(tmp_path, "importance: l2", "imporance: l2")
    done = mcomp("run", "tiny.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tiny.yaml:14:5: stages.prune.imporance: unknown key; did you mean 'importance'?\n"
