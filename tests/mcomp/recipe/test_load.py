from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcomp.errors import Problem, RecipeError
from mcomp.recipe.load import MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_PROBLEMS, MAX_SCALAR, load
from mcomp.recipe.places import Place

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(content: str | bytes, name: str = "r.yaml") -> dict[str, Any]:
    path = Path(name)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load(path).data


# ruff: noqa: E501 -- a table: one file and its message on a line
HOSTILE = [
    (b"", "r.yaml:1:1: is empty"),
    (b"# nothing\n", "r.yaml:1:1: is empty"),
    (b"- 1\n", "r.yaml:1:1: is not a mapping"),
    (b"text", "r.yaml:1:1: is not a mapping"),
    (b"a: 1\nb: \xff\n", "r.yaml:2:4: is not UTF-8"),
    (b"a: \x00", "r.yaml:1:4: the character U+0000 is not allowed"),
    (b"a: 1\nbb: x\x07", "r.yaml:2:6: the character U+0007 is not allowed"),
    (b'a: "\\0"', "r.yaml:1:4: a: holds a NUL"),
    (b'a: "\\ud800"', "r.yaml:1:4: a: holds a NUL or half of a surrogate pair"),
    (b'a: "\\UFFFFFFFF"', "r.yaml:1:7: is not YAML: an escape that is no character"),
    (b"a: [1\nb: 2", "r.yaml:1:4: is not YAML: a bracket is not closed, or a comma is missing; close it with ']'"),
    (b"a:\n\tb: 1", "r.yaml:2:1: is not YAML: "),
    (b"a: 1\n---\nb: 2\n", "r.yaml:2:1: a second document starts here"),
    (b"%YAML 1.1\n---\na: 1\n", "r.yaml:1:1: YAML directives are refused"),
    (b"%TAG ! tag:x,1:\n---\na: 1\n", "r.yaml:1:1: YAML directives are refused"),
    (b"a: 1\nb: {a: 1}\na: 2", "r.yaml:3:1: a: is given twice, first in line 1"),
    (b"a: {b: 1, 'b': 2}", "r.yaml:1:11: a.b: is given twice, first in line 1"),
    (b"a: &x 1", "r.yaml:1:4: a: the anchor &x is refused"),
    (b"a: *x", "r.yaml:1:4: a: the alias *x is refused"),
    (b"&x a: 1", "r.yaml:1:1: the anchor &x is refused"),
    (b"a: !!python/object/apply:os.system [ls]", "r.yaml:1:4: a: the tag !!python/object/apply:os.system is refused"),
    (b"a: !!int '3'", "r.yaml:1:4: a: the tag !!int is refused"),
    (b"!x a: 1", "r.yaml:1:1: the tag !x is refused"),
    (b"a: ! 3", "r.yaml:1:4: a: the tag ! is refused"),
    (b"<<: {a: 1}", "r.yaml:1:1: the merge key `<<` is refused"),
    (b"1: a", "r.yaml:1:1: the key `1` is not a string; quote it"),
    (b"null: a", "r.yaml:1:1: the key `null` is not a string; quote it"),
    (b"on: a", "r.yaml:1:1: `on` means different things in YAML 1.1 and 1.2"),
    (b"? [a, b]\n: 1", "r.yaml:1:3: a key must be a single name"),
    (b"a: yes", "r.yaml:1:4: a: `yes` means different things in YAML 1.1 and 1.2; write true or false, or quote it"),
    (b"a: [x, 2001-01-01]", "r.yaml:1:8: a.1: `2001-01-01` means different things"),
    (b"hydra: {callbacks: {}}", "r.yaml:1:1: hydra: a recipe cannot configure Hydra"),
    (b"a: {_target_: os.system}", "r.yaml:1:5: a._target_: keys that start and end with _ are refused"),
    (b"a: ${oc.env:HOME}", "r.yaml:1:4: a: only plain references to another key are allowed"),
    (b"a: x${b.${c}}", "r.yaml:1:4: a: only plain references"),
    (b"a: '${b[0]}'", "r.yaml:1:4: a: only plain references"),
    (b"a: \\${b}", "r.yaml:1:4: a: only plain references"),
    (b"a: ${.b}", "r.yaml:1:4: a: only plain references"),
    (b"'${b}': 1", "r.yaml:1:1: ${b}: a key cannot hold a reference"),
    (b"a: " + b"[" * 50_000, f"r.yaml:1:{MAX_DEPTH + 4}: is nested more than {MAX_DEPTH} deep"),
    (b"a: [" + b"1," * MAX_NODES + b"]", f"r.yaml:1:{4 + 2 * (MAX_NODES - 2) + 1}: has more than {MAX_NODES} values"),
    (b"a: " + b"x" * (MAX_SCALAR + 1), f"r.yaml:1:4: holds a text of more than {MAX_SCALAR} characters"),
    (b"#" * (MAX_BYTES + 1), f"r.yaml: is larger than {MAX_BYTES} bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HOSTILE, ids=[message[:60] for _, message in HOSTILE])
def test_hostile_files_are_refused_at_their_place(content: bytes, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(content)
    assert [str(problem)[: len(message)] for problem in caught.value.problems] == [message]


def test_an_alias_bomb_is_refused_without_being_built() -> None:
    layers = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    with pytest.raises(RecipeError) as caught:
        read("\n".join(["a0: &a0 x", *layers]))
    *refused, last = caught.value.problems
    assert len(refused) == MAX_PROBLEMS
    assert all("is refused" in each.what for each in refused)
    assert str(last) == "r.yaml:11:47: the file was read to here: mend these mistakes first"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recipe.yaml", "recipe.yaml: no such file; did you mean recipes.yaml?"),
        ("gone/r.yaml", "gone/r.yaml: no such file; there is no folder gone"),
        ("recipes.yml", "recipes.yml: no such file; did you mean recipes.yaml?"),
        ("folder.yaml", "folder.yaml: is a folder; name a recipe"),
        ("recipes.yaml/x.yaml", "recipes.yaml/x.yaml: cannot be read: Not a directory"),
        ("a\0b.yaml", "a\\x00b.yaml: cannot be read: embedded null byte"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, message: str) -> None:
    Path("recipes.yaml").touch()
    Path("folder.yaml").mkdir()
    with pytest.raises(RecipeError) as caught:
        load(Path(name))
    assert str(caught.value) == message


def test_every_key_and_value_has_its_place() -> None:
    Path("r.yaml").write_text("a:\n  b: [x, {c: 1}]\n")
    places = load(Path("r.yaml")).places
    assert places.keys[("a", "b")] == Place("r.yaml", 2, 3)
    assert places.values[("a", "b", 0)] == Place("r.yaml", 2, 7)
    assert places.keys[("a", "b", 1, "c")] == Place("r.yaml", 2, 11)
    assert places.values[("a", "b", 1, "c")] == Place("r.yaml", 2, 14)


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert read(b"\xef\xbb\xbfa: 1") == {"a": 1}


def test_quoted_scalars_are_strings() -> None:
    assert read("a: 'yes'\nb: \"010\"\nc: |\n  1:30\n'1': x") == {
        "a": "yes",
        "b": "010",
        "c": "1:30\n",
        "1": "x",
    }


class Quoted(yaml.SafeDumper):
    """Dumps every string between double quotes: what is quoted means the same to every reader."""


Quoted.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0$"), max_size=20)
keys = text.filter(lambda key: not (key.startswith("_") and key.endswith("_")) and key != "hydra")
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)


@one_folder
@given(st.dictionaries(keys, values, max_size=5), st.sampled_from([None, True, False]))
def test_plain_data_comes_back_as_it_was_written(data: dict[str, Any], flow: bool | None) -> None:
    assert read(yaml.dump(data, Dumper=Quoted, default_flow_style=flow, sort_keys=False)) == data


@one_folder
@given(st.binary(max_size=200) | st.text("{}[]:,-?&*!|>'\"%@`#<=~ \n\tab1_$", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        read(content)
    except RecipeError as error:
        problems = error.problems
    assert all(problem.where.startswith("r.yaml:") and problem.what for problem in problems)
