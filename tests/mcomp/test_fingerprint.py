from __future__ import annotations

import math
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcomp import fingerprint as fingerprints
from mcomp.config import Config, no_effect
from mcomp.fingerprint import (
    canonical,
    effective,
    file_digest,
    fingerprint,
    makers,
    source_files,
    sources,
    sub_seed,
    tree_digest,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def forget_digests() -> Iterator[None]:
    """What was read of a module is kept for the process."""
    yield
    source_files.cache_clear()
    tree_digest.cache_clear()


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    turned = dict(reversed(list(value.items())))
    assert fingerprint(turned) == fingerprint(value)


@given(JSON, JSON)
def test_different_texts_have_different_fingerprints(left: Any, right: Any) -> None:
    assert (fingerprint(left) == fingerprint(right)) == (canonical(left) == canonical(right))


def test_numbers_that_are_equal_in_python_are_not_mixed_up() -> None:
    assert len({fingerprint(value) for value in (1, 1.0, True, "1", [1])}) == 5


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_a_value_that_is_no_json_has_no_fingerprint(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint(value)


def test_a_fingerprint_is_the_sha256_of_the_canonical_text() -> None:
    assert canonical({"b": [1, "é"], "a": None}) == b'{"a":null,"b":[1,"\\u00e9"]}'
    digest = "a44633ba036df25280e4fd9ef09da6f54dfe6d3611c755e31f993ab16f108f34"
    assert fingerprint({"b": [1, "é"], "a": None}) == digest


def test_sub_seeds_depend_on_seed_and_purpose_and_fit_torch() -> None:
    seeds = {sub_seed(seed, purpose) for seed in (0, 1, 2**32 - 1) for purpose in ("a", "b", "1/a")}
    assert len(seeds) == 9
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_makers_are_the_installed_versions() -> None:
    import numpy
    import torch

    assert makers()["numpy"] == numpy.__version__
    assert makers()["torch"] == torch.__version__


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    for name, content in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c


# What of a configuration counts


class Inner(Config):
    rate: float = 0.5
    shown: bool = no_effect(default=True)


class Outer(Config):
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    workers: int = no_effect(default=2)


def test_fields_without_effect_are_left_out_at_every_depth() -> None:
    assert effective(Outer(workers=3, inner=Inner(shown=False))) == {"inner": {"rate": 0.5}, "several": []}


# Sources


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def kind_of(module: str) -> type:
    return type("Kind", (), {"__module__": module})


def digest_of(folder: Path, files: dict[str, str], module: str) -> dict[str, str]:
    """Return the digest of a class of `module` when `files` lie on the path."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source_files.cache_clear()
    tree_digest.cache_clear()
    return sources(kind_of(module))


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("fp_single.py", "fp_single"),
        ("fp_package/__init__.py", "fp_package"),
        ("fp_package/deep/net.py", "fp_package.deep.other"),
        ("fp_namespace/net.py", "fp_namespace.net"),
    ],
)
def test_a_change_of_the_source_is_a_change_of_the_digest(file: str, module: str, on_path: Path) -> None:
    if module.startswith("fp_package"):
        (on_path / "fp_package").mkdir()
        (on_path / "fp_package" / "__init__.py").touch()
    first = digest_of(on_path, {file: "width = 1"}, module)
    assert digest_of(on_path, {file: "width = 2"}, module) != first
    assert digest_of(on_path, {file: "width = 1"}, module) == first


def test_a_file_that_comes_to_a_package_is_a_change(on_path: Path) -> None:
    first = digest_of(on_path, {"fp_grows/__init__.py": ""}, "fp_grows")
    assert digest_of(on_path, {"fp_grows/more.py": ""}, "fp_grows") != first


def test_what_lies_beside_a_module_does_not_matter(on_path: Path) -> None:
    first = digest_of(on_path, {"fp_alone.py": ""}, "fp_alone")
    assert digest_of(on_path, {"fp_beside.py": "x = 1", "fp_alone.txt": ""}, "fp_alone") == first


def test_an_installed_distribution_is_fixed() -> None:
    assert tree_digest("pydantic") == tree_digest("json") == ""


@pytest.mark.parametrize("part", fingerprints.FRAMEWORK_MAKERS)
def test_our_own_code_that_makes_results_is_in_every_digest(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sources(kind_of("json"))
    known = tree_digest
    monkeypatch.setattr(fingerprints, "tree_digest", lambda name: "other" if name == part else known(name))
    assert sources(kind_of("json")) != before


def test_a_class_without_a_source_is_known_as_long_as_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook `__main__` has no file."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    first, second = kind_of("__main__"), kind_of("__main__")
    assert sources(first) == sources(first)
    assert sources(first) != sources(second)


def test_the_classes_of_a_script_are_known_by_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = types.ModuleType("__main__")
    script.__file__ = str(tmp_path / "train.py")
    monkeypatch.setitem(sys.modules, "__main__", script)
    (tmp_path / "train.py").write_text("a = 1")
    assert sources(kind_of("__main__")) == sources(kind_of("__main__"))
