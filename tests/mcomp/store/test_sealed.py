from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp.store.sealed import DIGEST, sealed, unsealed

VALUE = {"recipe": "é", "rows": [{"loss": 0.1, "parameters": None}], "nested": {"8": [1, 1.0, True]}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text().filter(lambda name: name != DIGEST), JSON, max_size=4))
def test_what_is_sealed_comes_back(value: dict[str, Any]) -> None:
    assert unsealed(sealed(value)) == value


def test_a_person_reads_it_as_json_of_one_line_a_field() -> None:
    text = sealed(VALUE).decode()
    assert {**VALUE, DIGEST: json.loads(text)[DIGEST]} == json.loads(text)
    assert text.splitlines()[1] == '  "recipe": "\\u00e9",'


def test_every_flipped_bit_and_every_cut_shows() -> None:
    data = sealed(VALUE)
    changed = [data[:at] for at in range(len(data))]
    changed += [
        data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        for at in range(len(data))
        for bit in range(8)
    ]
    for each in changed:
        with pytest.raises(ValueError, match="not the ones"):
            unsealed(each)


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"{}", b"[" * 100_000, b'{"sha256": 1}'])
def test_what_was_never_sealed_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not the ones"):
        unsealed(data)
