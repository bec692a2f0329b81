from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError, model_validator

from mcomp.config import Config


class Colour(StrEnum):
    RED = "red"


class Foreign(BaseModel):
    number: int = 0


class Inner(Config):
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def fits(self) -> Inner:
        return self


class Fields(Config):
    count: int = 1
    rate: float = 1.0
    flag: bool = False
    maybe: int | None = None
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    named: dict[str, int] = {}
    inner: Inner = Inner()
    either: bool | Annotated[float, Field(ge=0)] = False
    path: Path = Path("x")
    colour: Colour = Colour.RED
    foreign: Foreign = Foreign()
    bits: Literal[1, 8] = 8


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", "4"), ("count", True), ("count", 4.0), ("rate", "0.5"), ("rate", True),
        ("flag", "true"), ("flag", 1), ("maybe", "3"), ("pair", ["0", 1]), ("many", [1, True]),
        ("named", {"a": "1"}), ("inner", {"share": "0.5"}), ("either", "0.5"), ("bits", 8.0),
        ("bits", True), ("bits", "8"),
    ],
)  # fmt: skip
def test_a_number_is_never_read_out_of_a_text_or_a_boolean(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Fields.model_validate({field: value})


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("rate", 2, 2.0), ("pair", [1, 2], (1.0, 2.0)), ("many", [1, 2], (1, 2)), ("maybe", None, None),
        ("inner", {"share": 0.25}, Inner(share=0.25)),
        ("path", "a/b", Path("a/b")), ("colour", "red", Colour.RED),
    ],
)  # fmt: skip
def test_what_means_the_same_is_accepted(field: str, value: Any, read: Any) -> None:
    found = getattr(Fields.model_validate({field: value}), field)
    assert found == read
    assert type(found) is type(read)


def test_a_class_that_is_no_config_keeps_its_own_rules() -> None:
    assert Fields.model_validate({"foreign": {"number": "4"}}).foreign.number == 4
    assert Foreign.model_validate({"number": "4"}).number == 4


def test_what_was_written_as_json_comes_back() -> None:
    fields = Fields(count=3, pair=(1, 2), many=(1,), named={"a": 1}, path=Path("y"))
    assert Fields.model_validate_json(fields.model_dump_json()) == fields
