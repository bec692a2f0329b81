"""The seam: which runtimes there are, and what is said when one is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.errors import StageError
from mcomp.measure import runtime
from mcomp.measure.runtime import Exported, Known, find_runtime, main_file, not_installed, runtime_of


@pytest.mark.parametrize("name", runtime.RUNTIMES)
def test_every_runtime_says_its_own_name(name: str) -> None:
    assert find_runtime(name).name == name
    assert runtime_of(Path(f"m{runtime.RUNTIMES[name].suffix}")) == name


def test_a_runtime_that_is_not_there_is_answered_with_the_list() -> None:
    with pytest.raises(StageError, match=r"no runtime 'tvm'; it must be one of 'onnxruntime', 'openvino'"):
        find_runtime("tvm")


def test_a_runtime_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runtime.RUNTIMES, "far", Known("mcomp.far:Far", "no-such-runtime", ".far"))
    with pytest.raises(StageError, match=r"package no-such-runtime, .*pip install 'mcomp\[no-such-"):
        find_runtime("far")
    assert not_installed(["numpy"]) == ""


def test_a_file_that_nothing_serves_is_refused() -> None:
    with pytest.raises(StageError, match=r"m\.txt is no exported file: its name must end with one of"):
        runtime_of(Path("m.txt"))


def test_the_file_a_runtime_is_given_is_told_from_those_beside_it() -> None:
    assert main_file(["model.bin", "model.xml"], "openvino") == "model.xml"
    assert main_file(["model.onnx.data", "model.onnx"], "onnxruntime") == "model.onnx"
    assert main_file(["odd"], "onnxruntime") == "odd"


def test_the_bytes_of_an_export_are_those_of_all_its_files(tmp_path: Path) -> None:
    for name, size in (("model.xml", 3), ("model.bin", 5)):
        (tmp_path / name).write_bytes(bytes(size))
    assert Exported(tmp_path / "model.xml", (tmp_path / "model.bin",)).size_bytes == 8
