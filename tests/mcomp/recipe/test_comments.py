from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mcomp.recipe.build import load_recipe
from mcomp.recipe.comments import comments, with_comments
from mcomp.recipe.dump import as_yaml
from mcomp.recipe.load import Reader, load
from mcomp.recipe.places import Places
from mcomp.recipe.resolved import resolved, resolved_text
from tests.mcomp.recipe.conftest import RECIPE

Write = Callable[..., Path]

COMMENTED = """\
# yaml-language-server: $schema=.schema.json
# a small one
# for tests

version: 1
name: small   # as ever
description: "no # comment"
# twenty are enough
model: {type: lab.net,
  depth: 20}   # of 20 and 56
data: {type: lab.images}
task: {type: lab.sorting}
stages:
  # first
  learn:
    type: lab.train
    training: {epochs: 2, optimizer: {type: sgd, lr: 1e-3}}  # slow
    teachers:
      - {recipe: one.yaml}  # the large one
      - recipe: two.yaml
        # another seed
        overrides: [seed=1]
"""


def body(text: str) -> str:
    """Return a stored recipe without its header."""
    return text.partition("\n\n")[2]


def test_comments_stay_beside_their_keys(write: Write) -> None:
    write(name="one.yaml")
    write(name="two.yaml")
    loaded = load_recipe(write(text=COMMENTED), ["model.depth=56"])
    folder = Path.cwd()
    assert (
        body(resolved_text(loaded, "id", "now"))
        == f"""\
# a small one
# for tests
version: 1
# as ever
name: small
description: 'no # comment'
# twenty are enough
# of 20 and 56
model: {{type: lab.net, depth: 56, num_classes: 7}}
data: {{type: lab.images}}
task: {{type: lab.sorting}}
stages:
  # first
  learn:
    type: lab.train
    # slow
    training:
      epochs: 2
      optimizer: {{type: sgd, lr: 0.001}}
    teachers:
    # the large one
    - {{recipe: {folder}/one.yaml}}
    - recipe: {folder}/two.yaml
      # another seed
      overrides: [seed=1]
"""
    )


def test_comments_of_bases_stay_and_so_does_what_stands_above_the_defaults(write: Write) -> None:
    write(name="base.yaml", text=RECIPE.replace("    importance: l2", "    importance: l2  # by size"))
    path = write(
        text="# mine\ndefaults: [base, _self_]\nseed: 7  # lucky\nsweep:  # six\n  parameters: {seed: [1]}\n"
    )
    text = body(resolved_text(load_recipe(path), "id", "now"))
    assert text.startswith("# mine\nversion: 1\n")
    assert "    # by size\n    importance: l2\n" in text
    assert "# lucky\nseed: 7\n" in text
    assert "six" not in text


def test_a_comment_cannot_break_out_of_its_line(write: Write) -> None:
    loaded = load_recipe(write("version: 1", "version: 1  # a\N{RIGHT-TO-LEFT OVERRIDE}b\tc"))
    assert "# a\N{REPLACEMENT CHARACTER}b c\nversion: 1\n" in resolved_text(loaded, "id", "now")


def test_what_is_in_a_text_is_no_comment() -> None:
    text = "a: 'x # y'\nb: |\n  # z\nc: x#y\nd: \"1 #\n  2 # 3\"  # four\n"
    assert comments(text) == {6: ["# four"]}


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.recursive(
            st.integers() | st.text("a #'\"\n:-", max_size=120),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
            ),
        ),
        min_size=1,
    ),
    st.data(),
)
def test_comments_change_nothing_that_is_read(value: dict[str, object], data: st.DataObject) -> None:
    plain = as_yaml(value)
    reader = Reader("r.yaml", plain)
    assert reader.document() == value
    noisy = data.draw(st.lists(st.sampled_from(["", "# x", "# 'y'"]), min_size=1, max_size=9))
    text = "".join(f"{noisy[at % len(noisy)]}\n{line}\n" for at, line in enumerate(plain.splitlines()))
    places = Places("r.yaml", reader.keys, reader.values, texts={"r.yaml": text})
    again = Reader("again.yaml", with_comments(plain, places))
    assert again.document() == value


def test_the_recipe_of_a_run_is_read_as_it_was_resolved(write: Write, tmp_path: Path) -> None:
    write(name="one.yaml")
    write(name="two.yaml")
    loaded = load_recipe(write(text=COMMENTED))
    (tmp_path / "again.yaml").write_text(resolved_text(loaded, "id", "now"), encoding="utf-8")
    assert load(tmp_path / "again.yaml").data == resolved(loaded)
