from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcomp import plugins
from mcomp.errors import RecipeError
from mcomp.plan import make_plan
from mcomp.recipe.build import load_recipe
from mcomp.starter import write
from mcomp.starter.text import USUAL_STAGES
from mcomp.starter.write import Wanted, write_starter
from tests.mcomp.cli.conftest import Command
from tests.stages.data.pictures import digits_folder
from tests.stages.data.words import SENTENCES, word_tokenizer

NAMES = tuple(USUAL_STAGES)
ORDERS = [order for length in range(1, len(NAMES) + 1) for order in itertools.combinations(NAMES, length)]
TRAINED_FIRST = [order for order in ORDERS if order[0] in ("train", "distill")]
NEED_TORCHVISION = ("timm", "torchvision")
NEED_A_FILE = ("exported",)
MODELS, DATA = (
    ("resnet", "lenet5", "mobilenet_v2", "efficientnet_lite", "vgg_bn", "vit", "transformers"),
    ("digits", "image_folder", "arrays", "mnist5k"),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return where the data of each type is that reads some."""
    folder = tmp_path_factory.mktemp("files")
    images, targets = np.zeros((40, 1, 16, 16), np.float32), np.arange(40) % 4
    np.savez(folder / "arrays.npz", image=images, target=targets)
    return {"image_folder": digits_folder(folder / "images", 60), "arrays": folder / "arrays.npz"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written() -> list[str]:
    """Return the names of all files in the folder, hidden ones too."""
    return sorted(path.name for path in Path().iterdir())


def test_every_model_and_data_set_is_offered_here() -> None:
    assert {*MODELS, *NEED_TORCHVISION, *NEED_A_FILE} == plugins.installed("models").keys()
    assert {*DATA, "sentences", "elpv", "huggingface"} == plugins.installed("data").keys()


@pytest.mark.parametrize("order", ORDERS, ids=",".join)
def test_stages_in_their_order_make_a_recipe_that_passes_check_or_nothing(
    order: tuple[str, ...], mcomp: Command
) -> None:
    answer = mcomp("init", "my.yaml", "--model", "lenet5", "--data", "digits", "--stages", ",".join(order))
    if order not in TRAINED_FIRST:
        assert answer.code == 2
        assert "needs trained weights" in answer.err
        assert written() == []
        return
    teacher = ["my_teacher.yaml"] if "distill" in order else []
    assert (answer.code, answer.err) == (0, "")
    assert written() == ["my.yaml", *teacher]
    assert load_recipe(Path("my.yaml")).recipe.order() == order
    assert make_plan(load_recipe(Path("my.yaml"))).pipeline.keys() == set(order)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_goes_with_all_data(
    model: str, data: str, mcomp: Command, files: dict[str, Path]
) -> None:
    path = ["--data-path", files[data]] if data in files else []
    stages = "distill,prune,qat,export"
    answer = mcomp(
        "init", "my.yaml", "--model", model, "--data", data, *path, "--stages", stages, "--speedup", 5
    )
    assert (answer.code, answer.err) == (0, "")
    loaded = load_recipe(Path("my.yaml"))
    assert (loaded.recipe.model.type, loaded.recipe.data.type) == (model, data)
    assert [bound.min for bound in loaded.recipe.require.speedup] == [5.0]
    assert loaded.recipe.baseline is not None
    assert loaded.recipe.baseline.recipe == "my_teacher.yaml"


def test_data_without_labels_is_told_from_the_start(mcomp: Command, tmp_path: Path) -> None:
    (tmp_path / "sentences.txt").write_text("\n".join(SENTENCES))
    word_tokenizer(tmp_path / "tokenizer")
    answer = mcomp(
        "init",
        "my.yaml",
        *("--model", "resnet", "--stages", "train,export"),
        *("--data", "sentences", "--data-path", "sentences.txt"),
    )
    assert answer.code == 2
    assert "sentences has no labels, which classification needs; write task: {type: fidelity}" in answer.err


def test_each_field_is_explained_by_its_schema() -> None:
    write_starter(Path("my.yaml"), Wanted("resnet", "digits", ("train", "prune", "export")))
    text = Path("my.yaml").read_text()
    prune = plugins.load("stages", "prune.channels").model_fields
    assert f"    importance: l2  # {prune['importance'].description}\n" in text
    assert f"    # round_to: 8  # {prune['round_to'].description}\n" in text
    assert "  type: resnet  # A residual network" in text


def test_what_is_commented_out_is_right_once_it_is_switched_on() -> None:
    write_starter(Path("my.yaml"), Wanted("resnet", "digits", ("train", "prune", "qat", "export")))
    text = Path("my.yaml").read_text()
    Path("on.yaml").write_text(uncommented(text))
    assert uncommented(text).count("#") < text.count("#")
    before, after = (load_recipe(Path(name)).recipe for name in ("my.yaml", "on.yaml"))
    assert after == before


def uncommented(text: str) -> str:
    """Return a recipe with the fields that are shown commented out switched on."""
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(indent + line.lstrip().removeprefix("# ") if indent else line)
    return "\n".join(lines) + "\n"


def test_a_first_quantization_is_the_ordinary_one_of_8_bits() -> None:
    write_starter(Path("my.yaml"), Wanted("resnet", "digits", ("train", "qat")))
    said = load_recipe(Path("my.yaml")).recipe.stages["qat"].model_dump(exclude_unset=True)
    assert said.keys() == {"type", "training"}


def test_a_first_cut_is_one_that_a_small_network_can_bear(mcomp: Command) -> None:
    model = ["--model", "lenet5", "--data", "digits"]
    assert mcomp("init", "my.yaml", *model, "--stages", "train,prune").code == 0
    assert mcomp("check", "my.yaml").err == ""


def test_the_commands_name_the_modules_of_a_persons_own(mcomp: Command) -> None:
    model = ["--model", "lenet5", "--data", "digits", "--stages", "train", "--import", "tests.mcomp.toys"]
    answer = mcomp("init", "my.yaml", *model)
    check, run = (f"mcomp {name} my.yaml --import tests.mcomp.toys" for name in ("check", "run"))
    assert answer.out.endswith(f"next: {check}\n"), answer.err
    assert Path("my.yaml").read_text().startswith(f"# {check}, then {run}\n")


def test_files_are_named_relative_to_the_recipe_whatever_they_are_called(
    mcomp: Command, files: dict[str, Path]
) -> None:
    Path("sub").mkdir()
    odd = Path("im: a#ges 'x'")
    odd.symlink_to(files["image_folder"])
    arguments = ["--model", "lenet5", "--data", "image_folder", "--stages", "train"]
    answer = mcomp("init", "sub/a b-(1).yaml", *arguments, "--data-path", odd)
    assert (answer.code, answer.err) == (0, "")
    recipe = load_recipe(Path("sub/a b-(1).yaml")).recipe
    assert recipe.name == "a_b-_1_"
    assert recipe.data.model_dump(mode="json")["path"] == str(odd.absolute())


def test_trained_weights_may_be_pruned_at_once(mcomp: Command) -> None:
    Path("w").mkdir()
    Path("w/a.pt").write_bytes(b"weights")
    Path("sub").mkdir()
    answer = mcomp(
        "init",
        "sub/my.yaml",
        "--model",
        "lenet5",
        "--data",
        "digits",
        "--stages",
        "prune",
        "--checkpoint",
        "w/a.pt",
    )
    assert (answer.code, answer.err) == (0, "")
    assert load_recipe(Path("sub/my.yaml")).recipe.model.model_dump()["checkpoint"] == "../w/a.pt"


def test_a_teacher_that_there_is_already_is_used(mcomp: Command) -> None:
    write_starter(Path("known.yaml"), Wanted("resnet", "digits", ("train",)))
    arguments = ["--model", "lenet5", "--data", "digits", "--stages", "distill"]
    answer = mcomp("init", "my.yaml", *arguments, "--teacher", "known.yaml")
    assert (answer.code, answer.err) == (0, "")
    assert written() == ["known.yaml", "my.yaml"]
    assert [step.label for step in make_plan(load_recipe(Path("my.yaml"))).steps] == [
        "known/train",
        "my/distill",
    ]


def test_bounds_are_required_of_the_export(mcomp: Command) -> None:
    arguments = ["--model", "lenet5", "--data", "digits", "--speedup", 5, "--size-ratio", 4]
    bounds = ["--accuracy-drop", 0.01]
    assert mcomp("init", "my.yaml", *arguments, *bounds, "--stages", "train,export").code == 0
    require = load_recipe(Path("my.yaml")).recipe.require
    assert (require.speedup[0].min, require.size_ratio[0].min, require.accuracy_drop[0].max) == (5, 4, 0.01)
    refused = mcomp("init", "other.yaml", *arguments, "--stages", "train")
    assert refused.code == 2
    assert "no stage of the pipeline exports one" in refused.err


def test_a_stage_may_be_asked_for_twice_and_by_its_type(mcomp: Command) -> None:
    arguments = ["--model", "lenet5", "--data", "digits"]
    assert mcomp("init", "my.yaml", *arguments, "--stages", "train, prune.channels ,train").code == 0
    assert load_recipe(Path("my.yaml")).recipe.order() == ("train", "prune", "train_2")


WRONG: dict[str, tuple[list[str], str]] = {
    "model": (["--model", "resnt", "--data", "digits", "--stages", "train"], "did you mean 'resnet'?"),
    "data": (["--model", "lenet5", "--data", "digit", "--stages", "train"], "did you mean 'digits'?"),
    "stage": (
        ["--model", "lenet5", "--data", "digits", "--stages", "train,prune.chanels"],
        "'prune.channels'",
    ),
    "no stage": (["--model", "lenet5", "--data", "digits", "--stages", ","], "name stages with --stages"),
    "no path": (["--model", "lenet5", "--data", "arrays", "--stages", "train"], "name them with --data-path"),
    "a path": (
        ["--model", "lenet5", "--data", "digits", "--data-path", "x", "--stages", "train"],
        "digits reads no files of yours",
    ),
    "no such path": (
        ["--model", "lenet5", "--data", "arrays", "--data-path", "none.npz", "--stages", "train"],
        "data.path: there is no",
    ),
    "no model": (["--data", "digits", "--stages", "train"], "give --model; one of '"),
    "no such teacher": (
        ["--model", "lenet5", "--data", "digits", "--stages", "distill", "--teacher", "none.yaml"],
        "there is no file",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_told_and_nothing_is_written(what: str, mcomp: Command) -> None:
    arguments, told = WRONG[what]
    answer = mcomp("init", "my.yaml", *arguments)
    assert answer.code == 2
    assert told in answer.err
    assert ".my-" not in answer.err
    assert written() == []


@pytest.mark.parametrize("there", ["my.yaml", "my_teacher.yaml"])
@pytest.mark.parametrize("link", [True, False])
def test_nothing_is_overwritten(there: str, link: bool, mcomp: Command) -> None:
    if link:
        Path(there).symlink_to("nowhere")
    else:
        Path(there).write_text("mine")
    answer = mcomp("init", "my.yaml", "--model", "lenet5", "--data", "digits", "--stages", "distill")
    assert answer.code == 2
    assert f"{there}: is there already; remove it, or name another file" in answer.err
    assert written() == [there]
    assert link or Path(there).read_text() == "mine"


def test_what_somebody_writes_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = write.check

    def slow(path: Path) -> None:
        checked(path)
        if not path.name.startswith(".my_teacher"):
            Path("my.yaml").write_text("mine")

    monkeypatch.setattr(write, "check", slow)
    with pytest.raises(RecipeError, match=r"my\.yaml: is there already"):
        write_starter(Path("my.yaml"), Wanted("lenet5", "digits", ("distill",)))
    assert written() == ["my.yaml"]
    assert Path("my.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my.yml", "a recipe's name ends in .yaml"),
        ("no/my.yaml", "there is no folder no"),
        ("x" * 300 + ".yaml", "cannot write"),
    ],
)
def test_a_name_that_no_recipe_can_have_is_refused(name: str, told: str, mcomp: Command) -> None:
    answer = mcomp("init", name, "--model", "lenet5", "--data", "digits", "--stages", "train")
    assert answer.code == 2
    assert told in answer.err


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_what_is_missing_is_asked_for(
    mcomp: Command, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: list[Any] = ["resnt", "resnet", "arrays", files["arrays"], ""]
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{answer}\n" for answer in typed)))
    answer = mcomp("init", "my.yaml")
    assert answer.code == 0, answer.err
    recipe = load_recipe(Path("my.yaml")).recipe
    assert (recipe.model.type, recipe.data.type) == ("resnet", "arrays")
    assert recipe.order() == ("train", "prune", "qat", "export")


def test_editors_find_a_schema_that_lies_beside_the_recipe() -> None:
    write_starter(Path("a.yaml"), Wanted("lenet5", "digits", ("train",)))
    Path(".schema.json").write_text("{}")
    write_starter(Path("b.yaml"), Wanted("lenet5", "digits", ("train",)))
    header = "# yaml-language-server: $schema=.schema.json\n"
    assert not Path("a.yaml").read_text().startswith(header)
    assert Path("b.yaml").read_text().startswith(header)
