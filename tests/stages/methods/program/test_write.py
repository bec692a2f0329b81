"""Programs of torch.export: in plain operators, with nothing in them of where they were made."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mcomp.measure.divergence import layer_values
from mcomp.measure.runtimes.torch_program import TorchProgram
from mcomp.model.model import Model
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.translate import TRANSLATIONS
from mcomp_stages.methods.onnx.weights import TRANSLATIONS as WEIGHT_TRANSLATIONS
from mcomp_stages.methods.program.plain import PLAIN
from mcomp_stages.methods.program.write import exported_program, write_program
from tests.stages.methods.quantization.nets import float_model, pictures, quantized_model

EXAMPLE = pictures(2)
MODELS = {"float": float_model, "integers": lambda: quantized_model(float_model())}
LOAD = """
import sys, torch
module = torch.export.load(sys.argv[1]).module()
torch.save(module(**torch.load(sys.argv[2])), sys.argv[3])
assert not any(name.startswith("mcomp") for name in sys.modules)
"""


def written(model: Model, folder: Path) -> tuple[torch.fx.GraphModule, Path]:
    served = served_graph(model, EXAMPLE)
    folder.mkdir(exist_ok=True)
    return served, write_program(exported_program(served, EXAMPLE), folder / "model.pt2", {"mcomp.key": "ab"})


@pytest.mark.parametrize("kind", MODELS)
def test_a_program_gives_what_the_graph_gives_site_by_site(kind: str, tmp_path: Path) -> None:
    served, path = written(MODELS[kind](), tmp_path)
    inputs = {name: value.numpy() for name, value in pictures().items()}
    with torch.no_grad():
        assert torch.equal(torch.from_numpy(TorchProgram().session(path).run(inputs)), served(**pictures()))
    here, there = TorchProgram().layer_values(path, inputs), layer_values(served, pictures())
    assert list(here) == list(there) == ["stem", "conv", "shortcut", "fc"]
    assert all(torch.equal(torch.from_numpy(here[name]), value) for name, value in there.items())


def test_torch_alone_runs_it(tmp_path: Path) -> None:
    served, path = written(quantized_model(float_model()), tmp_path)
    torch.save(pictures(3), tmp_path / "inputs.pt")
    command = [sys.executable, "-c", LOAD, path, tmp_path / "inputs.pt", tmp_path / "outputs.pt"]
    subprocess.run(list(map(str, command)), cwd=tmp_path, check=True, timeout=120)
    output: Tensor = torch.load(tmp_path / "outputs.pt")
    with torch.no_grad():
        assert torch.equal(output, served(**pictures(3)))


def test_the_same_graph_gives_the_same_bytes_and_tells_nothing_of_this_machine(tmp_path: Path) -> None:
    first, second = (written(float_model(), tmp_path / name)[1] for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(__file__).parents[4]).encode() not in content
    assert b"float_model" not in content
    assert b"nets.py" not in content


def test_checks_of_what_a_program_says_anyhow_are_left_out() -> None:
    program = exported_program(served_graph(quantized_model(float_model()), EXAMPLE), EXAMPLE)
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.to.dtype" in called
    assert not any("_assert" in name for name in called)


def test_every_operator_that_onnx_files_have_is_written_out() -> None:
    assert set(PLAIN) == set(TRANSLATIONS) | set(WEIGHT_TRANSLATIONS)
