from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim

from mcomp.errors import StageError
from mcomp.measure.runtimes.torch_program import TorchProgram, num_threads


@pytest.fixture
def program(tmp_path: Path) -> Path:
    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    example = {"x": torch.ones(2, 3)}
    exported = torch.export.export(Twice(), (), example, dynamic_shapes={"x": {0: Dim("batch")}})
    torch.export.save(exported, tmp_path / "m.pt2")
    return tmp_path / "m.pt2"


def test_it_runs_any_number_of_samples(program: Path) -> None:
    session = TorchProgram().session(program)
    assert session.input_sizes == {"x": (None, 3)}
    for samples in (1, 5):
        x = np.full((samples, 3), 1.5, np.float32)
        np.testing.assert_array_equal(session.run({"x": x}), 2 * x)


def test_the_threads_are_those_of_the_session_and_only_while_it_runs() -> None:
    before = torch.get_num_threads()
    with num_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_what_it_refuses_is_a_stage_error(program: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no such file"):
        TorchProgram().load(tmp_path / "missing.pt2")
    (tmp_path / "broken.pt2").write_bytes(b"PK")
    with pytest.raises(StageError, match=r"PyTorch cannot load broken\.pt2"):
        TorchProgram().load(tmp_path / "broken.pt2")
    session = TorchProgram().load(program)
    with pytest.raises(StageError, match=r"m\.pt2 takes x, but was given y"):
        session.run({"y": np.zeros((1, 3), np.float32)})
    with pytest.raises(StageError, match=r"PyTorch cannot run m\.pt2"):
        session.run({"x": np.zeros((1, 4), np.float32)})
