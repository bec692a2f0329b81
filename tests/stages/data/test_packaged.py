from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mcomp.errors import RecipeError
from mcomp_stages.data.packaged import packaged


def test_a_file_of_a_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "full_of_data"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "numbers.csv").write_text("1,2")
    monkeypatch.syspath_prepend(tmp_path)
    assert packaged("full_of_data", "numbers.csv", "") == package / "numbers.csv"
    assert "full_of_data" not in sys.modules


def test_without_the_package_the_error_is_the_command_that_installs_it() -> None:
    with pytest.raises(RecipeError, match="package no_such_package, which is not installed; pip install it"):
        packaged("no_such_package", "numbers.csv", "pip install it")


def test_a_package_without_the_file_is_to_be_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "emptied").mkdir()
    (tmp_path / "emptied" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RecipeError, match=r"numbers\.csv is missing; install emptied again"):
        packaged("emptied", "numbers.csv", "")
