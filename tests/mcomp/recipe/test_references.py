from __future__ import annotations

from typing import Any

import pytest

from mcomp.errors import RecipeError
from mcomp.recipe.places import Places
from mcomp.recipe.references import MAX_NODES, MAX_TEXT, is_plain, resolve

NOWHERE = Places("r.yaml")


def test_a_whole_reference_keeps_the_type_and_one_inside_a_text_is_written_out() -> None:
    data = {
        "a": {"b": [1, 2.5]},
        "whole": "${a.b.1}",
        "inside": "x${a.b.0}-${a.b.1}",
        "all": "${a.b}",
        "on": "${whole}",
    }
    assert resolve(data, NOWHERE) == {
        "a": {"b": [1, 2.5]}, "whole": 2.5, "inside": "x1-2.5", "all": [1, 2.5], "on": 2.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"a": "${b}"}, "${b}: there is no such key"),
        ({"a": "${bc.x}", "bcd": 1}, "${bc.x}: there is no such key; did you mean 'bcd'?"),
        ({"a": "${b.c.d}", "b": {"c": 1}}, "${b.c.d}: there is no such key"),
        ({"a": "${b.5}", "b": [1]}, "${b.5}: there is no such key"),
        ({"a": "${b}", "b": "${c}", "c": {"d": "${b}"}}, "references lead in a circle: b -> c -> b"),
        ({"a": "x${b}", "b": [1]}, "${b} is not a single value"),
        ({"a": "???"}, "has no value yet; set it"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_problem(data: dict[str, Any], what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(data, NOWHERE)
    assert str(caught.value.problems[0]).endswith(what)


def test_references_that_multiply_are_stopped() -> None:
    bomb = {"a0": "x", **{f"a{n}": [f"${{a{n - 1}}}"] * 9 for n in range(1, 30)}}
    with pytest.raises(RecipeError, match=f"more than {MAX_NODES} values"):
        resolve(bomb, NOWHERE)
    texts = {"a0": "x" * 10, **{f"a{n}": f"${{a{n - 1}}}" * 9 for n in range(1, 30)}}
    with pytest.raises(RecipeError, match=f"more than {MAX_TEXT} characters"):
        resolve(texts, NOWHERE)


@pytest.mark.parametrize("text", ["${a.b}", "x ${a} y", "$a", "a{b}", "", "${a-b.0.c_d}"])
def test_plain_references_are_allowed(text: str) -> None:
    assert is_plain(text)


@pytest.mark.parametrize(
    "text", ["${a:b}", "${}", "${ a }", "${a", "${${a}}", "\\${a}", "${.a}", "${a.}", "${a,b}"]
)
def test_everything_else_is_not(text: str) -> None:
    assert not is_plain(text)
