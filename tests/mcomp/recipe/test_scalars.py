from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from mcomp.recipe.scalars import AmbiguousScalar, read_plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("true", True), ("False", False),
        ("0", 0), ("-7", -7), ("+7", 7), ("0x1F", 31), ("123456789012345678901", 123456789012345678901),
        ("1e-3", 1e-3), ("1.5e3", 1500.0), ("1E5", 1e5),
        (".5", 0.5), ("-.5", -0.5), ("1.", 1.0), ("00.5", 0.5),
        ("l2", "l2"), ("1.2.3", "1.2.3"), ("1,000", "1,000"), ("nullable", "nullable"), ("e3", "e3"),
        ("inf", "inf"),
        ("layer*.conv1", "layer*.conv1"), ("16-mixed", "16-mixed"), ("Yess", "Yess"),
    ],
)  # fmt: skip
def test_the_core_schema(text: str, value: object) -> None:
    read = read_plain(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "yes", "No", "ON", "off", "y", "N", "010", "-010", "09", "00", "0o10", "0b11",
        "1_000", "0x_1", "1_0.5",
        "1:30", "1:30:15", "1:30.5", "2001-12-14", "2001-12-14 21:59:43", "=", "<<", "+0x1F",
        ".inf", "-.Inf", ".nan", "1e999", "9" * 101,
    ],
)  # fmt: skip
def test_what_readers_disagree_about_is_refused(text: str) -> None:
    with pytest.raises(AmbiguousScalar) as caught:
        read_plain(text)
    assert caught.value.next_step


@given(st.text("0123456789+-._:eExobTNynul~=", max_size=8))
def test_what_is_accepted_means_the_same_in_yaml_1_1(text: str) -> None:
    try:
        value = read_plain(text)
    except AmbiguousScalar:
        assume(False)
    # Written so that YAML 1.1 wants it: a dot, and a sign in the exponent.
    if isinstance(value, float):
        text = repr(value) if "." in repr(value) else repr(value).replace("e", ".0e")
    tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))
    constructor = yaml.SafeLoader("")
    earlier = constructor.construct_object(yaml.ScalarNode(tag, text))
    assert type(earlier) is type(value)
    assert earlier == value or math.isclose(earlier, value)
