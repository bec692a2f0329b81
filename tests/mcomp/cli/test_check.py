"""`mcomp check`: mistakes that only the real model and data show, through the command line; nothing is kept."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mcomp.data.splits import TensorSplit
from tests.mcomp import toys
from tests.mcomp.cli.conftest import Command
from tests.tiny import TEACHER, TINY, started, write_recipes

PRUNE, QAT = "    min_channels: 1\n", "  qat: {type: quantize.qat, "

# ruff: noqa: E501 -- a table: what is replaced in the recipe, and what is said
MISTAKES = [
    (PRUNE, PRUNE + "    skip: [conf1]\n", "tiny.yaml:18:12: stages.prune.skip.0: no module matches 'conf1'; did you mean 'conv1'?"),
    (QAT, QAT + "keep_float: [fc3, fc9], ", "tiny.yaml:19:47: stages.qat.keep_float.1: no module matches 'fc9'; did you mean 'fc3'?"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: [{recipe: teacher.yaml}, {recipe: teacher.yaml, overrides: [model.num_classes=12]}]",
     "tiny.yaml:10:40: stages.distill.teachers.1: the teacher teacher.yaml gives (12,) for a sample, the student (10,); they must have the same classes"),
    ("{type: lenet5}", "{type: lenet5, image_size: 28}", "tiny.yaml:3:1: model: lenet5 cannot take the samples of the data: RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x16 and 400x120); the data gives image (1, 12, 12)"),
    ("{type: lenet5}", "{type: lenet5, checkpoint: w.safetensors}", "tiny.yaml:3:35: model.checkpoint: w.safetensors does not fit the model: of its 10 tensors it has 0 as they should be"),
    ("quantize.qat, training: {epochs: 1}", "quantize.static, samples: 9000", "tiny.yaml:19:41: stages.qat.samples: 9000 calibration samples are asked for and there are "),
    ("{macs: 0.6}", "{macs: 0.01}", "tiny.yaml:12:3: stages.prune: cannot keep only 1.0% of the multiply-adds:"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recipes, and another one that temporary files go to."""
    monkeypatch.chdir(tmp_path)
    write_recipes(tmp_path)
    (tmp_path / "toy.yaml").write_text(toys.RECIPE)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_is_left(folder: Path) -> Iterator[None]:
    yield
    assert list((folder / "scratch").glob("mcomp*")) == []  # torch keeps a folder of its own there
    assert not (folder / ".mcomp").exists()


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES)
def test_what_does_not_fit_model_or_data_is_told_at_its_place(
    old: str, new: str, said: str, folder: Path, mcomp: Command
) -> None:
    save_file({"w": torch.zeros(2)}, folder / "w.safetensors")
    assert old in TINY
    (folder / "tiny.yaml").write_text(TINY.replace(old, new, 1))
    answer = mcomp("check", "tiny.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(said)
    assert mcomp("check", "--quick", "tiny.yaml").code == 0


def test_the_jobs_of_the_recipes_own_sweep_are_checked(folder: Path, mcomp: Command) -> None:
    sweep = "sweep: {parameters: {stages.prune.target.macs: [0.6, 1.6], sed: [0, 1]}}\n"
    (folder / "tiny.yaml").write_text(TINY + sweep)
    answer = mcomp("check", "--quick", "tiny.yaml")
    line = len(TINY.splitlines()) + 1
    assert (answer.code, answer.out) == (2, "")
    assert [told.partition("; ")[0] for told in answer.err.splitlines()] == [
        f"tiny.yaml:{line}:54: sweep.parameters.stages.prune.target.macs.1: must be below 1.0, not 1.6",
        f"tiny.yaml:{line}:60: sweep.parameters.sed: unknown key",
    ]
    (folder / "tiny.yaml").write_text(TINY + sweep.replace("1.6", "0.7").replace("sed", "seed"))
    assert "sweep: 4 jobs, by run -m" in mcomp("check", "--quick", "tiny.yaml").out


def test_what_does_not_fit_is_told_at_once_also_in_the_recipes_that_are_referred_to(
    folder: Path, mcomp: Command
) -> None:
    cut = "  cut: {type: prune.channels, target: {macs: 0.9}, skip: [fc7]}\n"
    (folder / "teacher.yaml").write_text(TEACHER + cut)
    (folder / "tiny.yaml").write_text(TINY.replace(PRUNE, PRUNE + "    skip: [conf1, conv*, 'fc?x']\n"))
    answer = mcomp("check", "tiny.yaml", "stages.qat.keep_float=[pol]")
    assert answer.err.splitlines() == [
        "teacher.yaml:7:59: stages.cut.skip.0: no module matches 'fc7'; did you mean 'fc3'?",
        "tiny.yaml:18:12: stages.prune.skip.0: no module matches 'conf1'; did you mean 'conv1'?",
        "tiny.yaml:18:26: stages.prune.skip.2: no module matches 'fc?x'",
        "command line: stages.qat.keep_float=[pol]: 0: no module matches 'pol'",
    ]


def test_a_recipe_that_passes_runs_and_the_report_says_what_was_seen(
    folder: Path, mcomp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tiny.yaml").write_text(TINY.replace(PRUNE, PRUNE + "    skip: ['conv*']\n"))
    with monkeypatch.context() as patched:
        # An agreement that no file has: weights of two batches are not held against it.
        patched.setattr("mcomp_stages.methods.export.proof.SMALLEST_AGREEMENT", 1.1)
        checked = mcomp("check", "tiny.yaml", "stages.prune.target.macs=0.99")
    assert (checked.code, checked.err) == (0, "")
    lines = [" ".join(line.split()) for line in checked.out.splitlines()]
    assert lines[0] == "tiny.yaml: no mistakes; 6 steps"
    assert "data train 1,097, calibration 256, validation 200, test 500 samples" in lines
    assert "model tiny: lenet5, 15.6 k parameters, image 1×12×12 to 10" in lines
    assert "pattern stages.prune.skip.0: 'conv*' chooses 2: conv1, conv2" in lines
    assert "open the work of teacher/train: fresh models stood in for their results" in lines
    table = lines.index("") + 2
    assert [line.split()[0] for line in lines[table : table + 4]] == ["distill", "prune", "qat", "export"]
    ran = mcomp("run", "tiny.yaml", "stages.prune.target.macs=0.99", "--store", "kept")
    assert ran.code == 0, ran.err


def test_an_error_that_nobody_foresaw_says_where_it_was_raised(folder: Path, mcomp: Command) -> None:
    broken = toys.RECIPE.replace("more: {type: toy.fit, by: 0.5}", "more: {type: toy.broken}")
    (folder / "toy.yaml").write_text(broken)
    answer = mcomp("check", "toy.yaml")
    assert answer.code == 2
    assert answer.err.startswith(
        f"toy.yaml:7:3: stages.more: ZeroDivisionError: half way; raised in {toys.__file__}:"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("toy.net", "toy.net, breaks: true", "toy.yaml:3:1: model: toy.net cannot be built: ZeroDivisionError: no network; raised in "),
        ("toy.points", "toy.points, breaks: true", "toy.yaml:4:1: data: cannot be loaded: KeyError: 'no points'; raised in "),
    ],
)  # fmt: skip
def test_models_and_data_that_raise_are_told_at_their_place(
    old: str, new: str, said: str, folder: Path, mcomp: Command
) -> None:
    (folder / "toy.yaml").write_text(toys.RECIPE.replace(old, new))
    answer = mcomp("check", "toy.yaml")
    assert answer.code == 2
    assert answer.err.startswith(said)
    assert len(answer.err.splitlines()) == 1


def test_a_split_of_one_sample_is_refused(mcomp: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorSplit, "__len__", lambda split: 1)
    answer = mcomp("check", "toy.yaml")
    assert answer.code == 2
    assert "data: the split train holds 1 samples; 2 are the fewest" in answer.err


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    mcomp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, real, here = namedtuple("usage", "total used free"), shutil.disk_usage, Path.cwd()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 0, 10) if path == here else real(path))
    answer = mcomp("check", "toy.yaml", "--store", "some/where")
    assert answer.code == 2
    assert answer.err.startswith("command line: --store some/where: the run needs about ")
    assert answer.err.endswith(" and the disk has 10 B left; make room, or choose another store\n")


def test_what_the_store_has_is_not_counted(mcomp: Command) -> None:
    assert "about 0 B of results" not in mcomp("check", "toy.yaml", "--store", "kept").out
    assert mcomp("run", "toy.yaml", "--store", "kept").code == 0
    assert (
        "about 0 B of results, up to 0 B of checkpoints" in mcomp("check", "toy.yaml", "--store", "kept").out
    )


@pytest.mark.parametrize(
    "stage", ["{type: toy.broken, error: stage}", "{type: toy.broken, error: interrupt}"]
)
def test_nothing_is_left_behind_by_what_fails_or_is_interrupted(
    stage: str, folder: Path, mcomp: Command
) -> None:
    (folder / "toy.yaml").write_text(toys.RECIPE.replace("{type: toy.fit, by: 0.5}", stage))
    assert mcomp("check", "toy.yaml").code == (130 if "interrupt" in stage else 2)


def test_a_signal_in_a_rehearsal_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(folder / "scratch"))
    process = started("check", "tiny.yaml", cwd=folder)
    while not list(folder.glob("scratch/mcomp-check-*/store/artifacts/*/*")):
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err


def test_require_is_not_judged_in_a_rehearsal(folder: Path, mcomp: Command) -> None:
    strict = toys.RECIPE + "require: {size_ratio: {min: 1000}, accuracy: {min: 1}}\n"
    (folder / "toy.yaml").write_text(strict)
    assert mcomp("check", "toy.yaml").code == 0
