"""Files timed in turns: what is refused, what is told, and the folder for another machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcomp.bench import run as benching
from mcomp.bench.judge import judged_file, read_figures
from mcomp.bench.portable import write_portable
from mcomp.bench.record import Bench, BenchedFile, Timing
from mcomp.bench.run import Setting, bench, require_sure
from mcomp.cli import exit_code
from mcomp.errors import RecipeError, StageError, StoreError
from mcomp.measure.memory import lifetime_peak_bytes
from mcomp.store.ledger import Latency
from tests.mcomp.measure.files import float_classifier, half_quantized_classifier
from tests.tiny import write_recipes

ANY = Setting(batch_sizes=(1, 2), rounds=3, max_spread=1e9)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [float_classifier(tmp_path / "base.onnx"), half_quantized_classifier(tmp_path / "int8.onnx")]


def quiet(text: str) -> None:
    assert text


def timing(p10: float, median: float, p90: float, **fields) -> Timing:
    plain = {"file": "m.onnx", "runtime": "onnxruntime", "threads": 1, "batch_size": 1}
    latency = Latency(median_ms=median, p10_ms=p10, p90_ms=p90, rounds=3)
    return Timing(**(plain | fields), latency=latency)


def test_files_are_told_beside_the_first(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "peak_memory_bytes", lambda *_: 7)
    found = bench(files, ANY, quiet)
    assert [(each.file, each.batch_size) for each in found.timings] == [
        ("base.onnx", 1), ("int8.onnx", 1), ("base.onnx", 2), ("int8.onnx", 2),
    ]  # fmt: skip
    assert found.timings[0].speedup == 1
    assert found.files[0].size_bytes == files[0].stat().st_size
    assert found.machine["cpu"]
    assert Bench.model_validate_json(found.model_dump_json()) == found


def test_a_file_that_is_slower_says_why_and_the_profile_names_its_layers(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benching, "peak_memory_bytes", lambda *_: 7)
    monkeypatch.setattr(benching, "speedup", lambda first, other: 0.5)
    found = bench(files, Setting(rounds=3, max_spread=1e9, profile=True), quiet)
    assert any("layers stayed in float (fc)" in cause for cause in found.files[1].slower_because)
    assert {"QLinearConv", "Gemm"} <= {layer.operator for layer in found.files[1].layers}


def test_figures_that_are_spread_too_far_are_refused_with_what_to_do() -> None:
    require_sure([timing(0.9, 1.0, 1.1)], 0.3)
    with pytest.raises(StageError, match=r"spread by 60% of their median, and 30% .* --rounds"):
        require_sure([timing(0.9, 1.0, 1.1), timing(0.8, 1.0, 1.4)], 0.3)


def test_the_memory_is_that_of_a_process_of_its_own_and_not_of_who_started_it(files: list[Path]) -> None:
    from mcomp.bench.memory import peak_memory_bytes

    held = np.ones(2**27, np.uint8)  # here, where torch is loaded too

    assert 10e6 < peak_memory_bytes(files[0], "onnxruntime", 1, 1, 1) < lifetime_peak_bytes() - held.nbytes


def test_what_no_runtime_serves_is_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no file"):
        bench([tmp_path / "missing.onnx"], ANY, quiet)
    with pytest.raises(RecipeError, match="served by onnxruntime, which is none of --runtime openvino"):
        bench(files, Setting(runtimes=("openvino",)), quiet)
    other = tmp_path / "folder"
    other.mkdir()
    with pytest.raises(RecipeError, match=r"two files are called base\.onnx"):
        bench([files[0], float_classifier(other / "base.onnx")], ANY, quiet)


def test_the_folder_runs_without_mcomp_and_its_figures_are_judged(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "device"
    assert "pip install numpy onnxruntime" in write_portable(files, folder, ANY)
    code = "import runpy, sys; sys.modules['mcomp'] = None; runpy.run_path('bench.py', run_name='__main__')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == json.loads((folder / "figures.json").read_text())
    figures = read_figures(folder / "figures.json")
    assert [file.file for file in figures.files] == ["base.onnx", "int8.onnx"]
    recipe = write_recipes(tmp_path / "recipes")
    assert exit_code(["bench", str(folder / "figures.json"), "--require", str(recipe)]) == 3
    assert "at least 2.00×: missed" in capsys.readouterr().out


@pytest.mark.parametrize(("speedup", "met"), [(9.0, True), (1.5, False)])
def test_bounds_on_times_are_held_against_the_device(speedup: float, met: bool, tmp_path: Path) -> None:
    files = tuple(BenchedFile(file=name, sha256="ab", size_bytes=9) for name in ("a.onnx", "b.onnx"))
    found = Bench(machine={}, files=files, timings=(timing(1, 1, 1, file="b.onnx", speedup=speedup),))
    (tmp_path / "figures.json").write_text(found.model_dump_json())
    recipe = write_recipes(tmp_path / "recipes", "size_ratio: {min: 2.0}", "speedup: {min: 2.0}")
    (requirement,) = judged_file([tmp_path / "figures.json"], recipe)
    assert (requirement.stage, requirement.value, requirement.met) == ("b.onnx", speedup, met)


def test_what_holds_no_figures_is_refused(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no figures of a bench"):
        read_figures(files[0])
    with pytest.raises(RecipeError, match="cannot be read"):
        read_figures(tmp_path / "missing.json")


def test_a_folder_that_holds_something_or_cannot_be_written_is_refused(
    files: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="is not empty"):
        write_portable(files, tmp_path, ANY)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_portable(files, tmp_path / "file" / "folder", ANY)


@pytest.mark.parametrize("arguments", [[], ["m.onnx", "--threads", "a"], ["m.onnx", "--batch", "0"]])
def test_mistakes_on_the_command_line_exit_with_2(arguments: list[str]) -> None:
    assert exit_code(["bench", *arguments]) == 2
