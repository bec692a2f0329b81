"""The page on reliability names tests that are there, and figures that they have."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.concurrency.workload import NUM_JOBS, NUM_KILLS, NUM_RESULTS, NUM_ROUNDS, NUM_SHARED, NUM_WRITERS
from tests.docs.pages import ROOT
from tests.mcomp.store.damage import SEEN_ON_A_HIT, SEEN_ON_USE
from tests.mcomp.store.test_bitrot import NUM_CASES as BIT_ROT
from tests.mcomp.store.test_faults import NUM_CASES as FAULTS
from tests.mcomp.store.test_mutants import MUTANTS
from tests.repro.test_keys import CHANGES

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@cache
def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_every_test_that_is_named_is_there(path: str, name: str) -> None:
    assert name in names_in(path)


@pytest.mark.parametrize("number", range(1, 11))
def test_every_promise_has_a_test(number: int) -> None:
    (promise,) = re.findall(rf"^\*\*{number}\. .*?(?=^\*\*|^## )", PAGE, re.DOTALL | re.MULTILINE)
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", promise)


def test_figures_are_those_of_the_tests() -> None:
    chosen = len(SEEN_ON_A_HIT) + len(SEEN_ON_USE)
    words = " ".join(PAGE.split())
    assert f"| {FAULTS} | 0 |" in words
    assert f"| {sum(BIT_ROT.values()) + chosen} | 0 used |" in words
    assert f"and {chosen} chosen changes" in words
    assert f"{NUM_WRITERS} writers of one key at once, {NUM_ROUNDS} rounds" in words
    assert f"3 readers while {NUM_RESULTS} results" in words
    assert f"{NUM_JOBS} jobs over {NUM_SHARED} shared steps, {NUM_KILLS} of them killed" in words
    assert f"{len(MUTANTS)} by name" in words
    assert f"Each of {len(CHANGES)} fields" in words


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_named(name: str) -> None:
    assert name in " ".join(PAGE.split())
