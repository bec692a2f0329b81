from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton

from mcomp.errors import RecipeError
from mcomp.recipe.compose import Reading, compose, composed_by_hydra
from mcomp.recipe.load import load

Write = Callable[..., Path]


def test_without_overrides_hydra_changes_nothing(write: Write) -> None:
    path = write()
    assert compose(path).data == load(path).data == composed_by_hydra(Reading(path), [])


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("stages.cut.round_to=16", "stages.cut.round_to", 16),
        ("compute.threads=2", "compute.threads", 2),
        ("stages.learn.training.optimizer.lr=1e-4", "stages.learn.training.optimizer.lr", 1e-4),
        ("pipeline=[learn,write]", "pipeline", ["learn", "write"]),
        ("pipeline.1=write", "pipeline.1", "write"),
        ("stages.cut.target={params: 0.3}", "stages.cut.target", {"macs": 0.5, "params": 0.3}),
        ("name=${stages.cut.importance}", "name", "l2"),
        ("description='yes: no'", "description", "yes: no"),
        ("description=yes", "description", "yes"),
        ("baseline=null", "baseline", None),
    ],
)
def test_an_override_sets_a_value_anywhere(override: str, path: str, value: object, write: Write) -> None:
    found = compose(write(), [override]).data
    for part in path.split("."):
        found = found[int(part) if part.isdecimal() else part]
    assert found == value


def test_a_stage_can_be_deleted(write: Write) -> None:
    assert list(compose(write(), ["~stages.cut"]).data["stages"]) == ["learn", "write"]


def test_a_reference_sees_overrides(write: Write) -> None:
    path = write("name: small", "name: n${model.depth}")
    assert compose(path, ["model.depth=56"]).data["name"] == "n56"


def test_nothing_is_written_and_a_running_hydra_stays(write: Write, tmp_path: Path) -> None:
    path = write()
    before = sorted(tmp_path.rglob("*"))
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        running = GlobalHydra.instance().hydra
        compose(path, ["seed=1"])
        assert GlobalHydra.instance().hydra is running
    GlobalHydra.instance().clear()
    compose(path)
    assert not GlobalHydra.instance().is_initialized()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["a b.yaml", "a@b.yaml", "a=b.yaml", "a.b.yaml", "é.yaml", "hydra.yaml", "sub/r.yaml"]
)
def test_a_recipe_may_have_any_name(name: str, write: Write) -> None:
    assert compose(write(name=name)).data["name"] == "small"


def test_a_base_is_read_strictly_and_keeps_its_places(write: Write) -> None:
    write(name="base.yaml", text="seed: 3\nname: base\n")
    composed = compose(write(text="defaults: [base, _self_]\nname: top\n"))
    assert composed.data == {"seed": 3, "name": "top"}
    assert composed.places.problem(("seed",), "x").where == "base.yaml:1:7"
    assert composed.places.problem(("name",), "x").where == "r.yaml:2:7"


def test_a_choice_of_group_is_read_strictly(write: Write) -> None:
    write(name="model/big.yaml", text="depth: 56\n")
    write(name="model/evil.yaml", text="# @package hydra\ncallbacks: {x: {_target_: os.system}}\n")
    path = write(text="defaults:\n- model: big\n- _self_\n")
    assert compose(path).data == {"model": {"depth": 56}}
    with pytest.raises(RecipeError, match=r"^model/evil\.yaml:2:17: callbacks\.x\._target_: keys that start"):
        compose(path, ["model=evil"])
    with pytest.raises(RecipeError, match=r"^command line: model=huge: there is no file model/huge\.yaml"):
        compose(path, ["model=huge"])


def test_a_package_in_a_comment_is_only_a_comment(write: Write) -> None:
    assert compose(write(text="# @package hydra.job\nname: x\n")).data == {"name": "x"}


def test_files_are_read_strictly_also_in_the_next_job_of_a_worker(write: Write) -> None:
    write(name="base.yaml", text="seed: 1\n")
    path = write("version: 1", "defaults: [base, _self_]\nversion: 1")
    for _ in range(2):
        Singleton.set_state(Singleton.get_state())  # joblib's launcher does this before each job
        assert compose(path, ["model.depth=56"]).places.problem(("seed",), "").where == "base.yaml:1:7"
