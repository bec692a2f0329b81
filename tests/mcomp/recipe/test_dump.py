from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp.recipe.dump import as_yaml
from mcomp.recipe.load import load

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0$")) | st.sampled_from(
    ["yes", "n", "010", "1:30", "1e-3", "0o17", "~", "<<", "2026-01-31", "- a", "# no", "a: b", "!!str", "&a"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def read_back(value: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_text(as_yaml({"value": value}), encoding="utf-8")
        return load(path).data["value"]


@given(VALUES)
def test_what_is_written_is_read_back_by_the_strict_reader(value: Any) -> None:
    read = read_back(value)
    assert read == value
    assert repr(read) == repr(value)  # 1 is not 1.0, and not True


def test_the_same_list_in_two_places_is_written_twice() -> None:
    shared = [{"a": 1}]
    assert read_back({"x": shared, "y": shared}) == {"x": shared, "y": shared}


@pytest.mark.parametrize("text", ["yes", "n", "010", "1:30", "1e-3", "0o17", "null", "2026-01-31"])
def test_text_that_some_reader_takes_for_something_else_is_quoted(text: str) -> None:
    assert as_yaml({"a": text}) == f'a: "{text}"\n'
