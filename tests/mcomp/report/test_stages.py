from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from rich.console import Console, RenderableType

from mcomp import plugins
from mcomp.config import Config
from mcomp.errors import RecipeError
from mcomp.report.stages import field_rows, in_paragraphs, stage_list, stage_manual
from mcomp.stage import Form, StageConfig


class Near(Config):
    """One kind."""

    type: Literal["near"] = "near"
    reach: Annotated[float, Field(gt=0, le=2, description="how far")] = 0.5


class Far(Config):
    type: Literal["far"] = "far"


class Lab(StageConfig):
    """Tries every kind of field."""

    forms = {Form.FLOAT: Form.FLOAT}
    type: Literal["lab.fields"] = "lab.fields"
    needed: Annotated[int, Field(ge=1, description="it must be given")]
    choice: Literal["a", "b"] = "a"
    maybe: float | None = None
    several: tuple[str, ...] = ("x",)
    one: Annotated[Near | Far, Field(discriminator="type")] = Near()
    some: tuple[Near, ...] = ()
    flag: bool = False


def shown(renderable: RenderableType) -> str:
    console = Console(width=300, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def rows(model: type[Config]) -> dict[str, tuple[str, str, str]]:
    schema = model.model_json_schema()
    return {row[0]: row[1:] for row in field_rows(schema, schema.get("$defs", {}))}


def test_each_field_has_its_kind_its_default_and_its_meaning() -> None:
    found = rows(Lab)
    assert found["needed"] == ("integer >= 1", "required", "it must be given")
    assert found["choice"] == ("a | b", "a", "")
    assert found["maybe"] == ("number or null", "null", "")
    assert found["several"] == ("list of string", '["x"]', "")
    assert found["flag"] == ("boolean", "false", "")
    assert found["type"] == ("lab.fields", "lab.fields", "")


def test_the_fields_of_mappings_stand_below_them() -> None:
    listed = [row[0] for row in field_rows(Lab.model_json_schema(), Lab.model_json_schema()["$defs"])]
    at = listed.index("one")
    assert listed[at : at + 4] == ["one", "  type", "  reach", "  type"]
    assert listed[listed.index("some") :][:3] == ["some", "  type", "  reach"]
    assert rows(Lab)["  reach"] == ("number > 0 <= 2", "0.5", "how far")


@pytest.mark.parametrize(
    "name", ["train", "distill.offline", "prune.channels", "quantize.qat", "export.onnx"]
)
def test_the_manual_of_a_stage_has_its_sample_and_every_field(name: str) -> None:
    manual = shown(stage_manual(name))
    assert f"type: {name}" in manual
    for field in plugins.load("stages", name).model_fields:
        assert any(line.split()[:1] == [field] for line in manual.splitlines()), field


def test_paragraphs_are_broken_by_the_terminal_and_samples_stay_as_they_are() -> None:
    manual = "Cut what\nis there.\n\n    a:\n      b: 1\n\nWords go\non here.\n\n- one\n- two"
    told = "Cut what is there.\n\n    a:\n      b: 1\n\nWords go on here.\n\n- one\n- two"
    assert in_paragraphs(manual) == told


def test_an_unknown_stage_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"unknown type 'prune.chanels'; did you mean 'prune.channels'\?"):
        stage_manual("prune.chanels")


def test_the_list_has_every_stage_with_a_sentence_and_its_distribution() -> None:
    listed = shown(stage_list()).splitlines()[1:]
    assert {line.split()[0] for line in listed} >= {"train", "prune.channels"}
    pruning = next(line for line in listed if line.startswith("prune.channels"))
    assert "Cut the least important channels down to a target" in pruning
    assert "mcomp " in pruning


def test_a_plugin_that_cannot_be_used_is_listed_with_its_error_on_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def described(group: str) -> list[Any]:
        return [plugins.Description("zz", "ghost 1.0", "", "RuntimeError: \x1b[2J[red]gone\nagain")]

    monkeypatch.setattr(plugins, "describe", described)
    listed = shown(stage_list())
    assert "zz" in listed
    assert "[red]gone again" in listed
    assert "\x1b" not in listed
