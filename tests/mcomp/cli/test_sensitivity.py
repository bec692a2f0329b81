"""`mcomp sensitivity` on the toy stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.mcomp.cli.conftest import Command
from tests.mcomp.sensitivity.toys import RECIPE


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MCOMP_STORE", str(tmp_path / "store"))
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    return path


def test_the_table_has_bars_and_the_patch_passes_check(recipe: Path, mcomp: Command) -> None:
    answer = mcomp("sensitivity", recipe, "shift", "--metric", "sqnr", "--limit", "-80", "--levels", "1,100")
    assert answer.code == 0
    assert "█" in answer.out
    patch = yaml.safe_load(answer.out.partition("Put into the recipe:")[2])
    assert patch == {"stages": {"shift": {"classes": [0, 1, 2]}}}
    patched = yaml.safe_load(RECIPE)
    patched["stages"]["shift"].update(patch["stages"]["shift"])
    recipe.write_text(yaml.safe_dump(patched))
    assert mcomp("check", "--quick", recipe).code == 0


def test_json_has_every_figure_and_nothing_else_is_printed(recipe: Path, mcomp: Command) -> None:
    found = json.loads(mcomp("sensitivity", recipe, "shift", "--json").out)
    assert [(each["part"], each["level"]) for each in found["costs"]] == [
        (f"class {number}", level) for number in range(3) for level in (0.0, 100.0)
    ]
    assert (found["stage"], found["figure"], found["samples"]) == ("shift", "task", 12)


def test_the_page_is_written(
    recipe: Path, mcomp: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "var Plotly = {};")
    answer = mcomp("sensitivity", recipe, "shift", "--html", tmp_path / "page.html")
    assert answer.out == f"wrote {tmp_path / 'page.html'}\n"
    page = (tmp_path / "page.html").read_text()
    assert page.count('type="application/json"') == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("fit",), 2, "choose shift"),
        (("shft",), 2, "did you mean 'shift'"),
        (("shift", "--levels", "a"), 2, "write it like 8,4"),
        (("shift", "--samples", "1"), 2, "--samples"),
        (("shift", "--metric", "latency"), 5, "are not timed one by one"),
        (("shift", "--metric", "loss"), 2, "'task', 'sqnr', 'latency'"),
        (("shift", "stages.shift.classs=1"), 2, "did you mean 'classes'"),
    ],
)
def test_bad_input_is_told_without_a_traceback(
    recipe: Path, mcomp: Command, arguments: tuple[str, ...], code: int, said: str
) -> None:
    answer = mcomp("sensitivity", recipe, *arguments)
    assert (answer.code, said in answer.err, "Traceback" in answer.err) == (code, True, False), answer.err
