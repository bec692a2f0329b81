"""One file with packed weights: the same weights to the last bit, read with numpy alone, in few bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from mcomp import plugins
from mcomp.errors import StageError
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.model.one_file import read_one_file
from mcomp.model.unpack import read_weights
from mcomp_stages.methods.half.choice import half_weights
from mcomp_stages.methods.half.edit import HalfWeights
from mcomp_stages.methods.one_file.write import all_packed, require_same_weights, write
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.weights.grid import Grid, Width, on_grid
from mcomp_stages.methods.quantization.weights.record import StoredWeight
from mcomp_stages.methods.quantization.weights.stored import numbers, stored_tensors
from mcomp_stages.methods.sparsity.masks import with_masks
from mcomp_stages.quantize.weights import QuantizeWeights
from tests.mcomp.training.setting import SmallConfig, make_context, small_model
from tests.stages.methods.quantization.nets import NetConfig, float_model, pictures, quantized_model

EXAMPLE = Example({name: value[:2] for name, value in pictures().items()})


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The architectures `net` and `small`, registered for one test."""
    monkeypatch.setattr(plugins, "decorated", {})
    plugins.model("net")(NetConfig)
    plugins.model("small")(SmallConfig)


def scheme(**weights: object) -> Scheme:
    return Scheme.model_validate({"weights": weights})


def masked(model: Model, share: float = 0.9) -> Model:
    draw = torch.Generator().manual_seed(0)
    weights = {name: each for name, each in model.module.named_parameters() if each.ndim > 1}
    return with_masks(
        model, {name: torch.rand(each.shape, generator=draw) > share for name, each in weights.items()}
    )


def half(model: Model, dtype: str) -> Model:
    weights, _ = half_weights(model.module, ())
    return model.edited(HalfWeights.model_validate({"dtype": dtype, "weights": weights}))


MODELS = {
    "float": float_model,
    "8 bits": lambda: quantized_model(float_model()),
    "4 bits": lambda: quantized_model(float_model(), scheme=scheme(bits=4)),
    "3 bits, one scale": lambda: quantized_model(float_model(), scheme=scheme(bits=3, per="tensor")),
    "5 bits, affine": lambda: quantized_model(float_model(), scheme=scheme(bits=5, symmetric=False)),
    "zeros": lambda: masked(float_model()),
    "zeros in 8 bits": lambda: quantized_model(masked(float_model())),
    "zeros in 5 bits, affine": lambda: quantized_model(
        masked(float_model()), scheme=scheme(bits=5, symmetric=False)
    ),
    "few zeros in 2 bits": lambda: quantized_model(masked(float_model(), 0.2), scheme=scheme(bits=2)),
    "float16": lambda: half(float_model(), "float16"),
    "zeros in bfloat16": lambda: half(masked(float_model()), "bfloat16"),
}


def written(model: Model, folder: Path, example: Example = EXAMPLE) -> tuple[Path, Model, dict[str, int]]:
    packed = all_packed(model, example)
    path = folder / "model.safetensors"
    return path, packed, write(packed, example, path, {"mcomp.key": "ab"})


def outputs(model: Model, inputs: dict[str, Tensor], example: Example = EXAMPLE) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.inference_module(example)(**inputs)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_outputs_come_back_to_the_last_bit(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    path, packed, _ = written(model, tmp_path)
    assert require_same_weights(path, packed) == len(model.module.state_dict())
    rebuilt, example = read_one_file(path)
    assert torch.equal(outputs(rebuilt, pictures(), example), outputs(model, pictures()))


@pytest.mark.parametrize("method", ["rtn", "hqq", "awq"])
def test_weights_that_were_rounded_without_training_come_back(method: str, tmp_path: Path) -> None:
    config = QuantizeWeights.model_validate(
        {"method": method, "bits": 3, "group_size": 2, "symmetric": method == "rtn", "samples": 32}
    )
    context = make_context()
    model = config.run(small_model(), context).model
    assert model is not None
    path, packed, kinds = written(model, tmp_path, context.example)
    assert require_same_weights(path, packed) == len(model.module.state_dict())
    assert kinds["3 bit"] == 4 * 4 + 3 * 2


@given(
    bits=st.sampled_from([2, 3, 4, 7, 8, 16]), symmetric=st.booleans(), turned=st.booleans(),
    gain=st.booleans(), group=st.integers(1, 6), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_reader_of_numpy_gives_the_numbers_of_torch(
    bits: int, symmetric: bool, turned: bool, gain: bool, group: int, seed: int
) -> None:
    from mcomp.model.unpack import numbers_of_codes
    from mcomp_stages.methods.one_file.records import of_stored

    symmetric = symmetric or bits == 16
    record = StoredWeight(
        shape=(5, 3) if turned else (3, 5), bits=bits, group_size=group, symmetric=symmetric,
        scaled_inputs=gain, transposed=turned,
    )  # fmt: skip
    draw, width = torch.Generator().manual_seed(seed), Width(bits, group, symmetric)
    groups = -(-5 // group)
    scale = torch.rand(3, groups, generator=draw).half().float() + 0.5
    middle = torch.full((3, groups), float(width.middle))
    zero = middle if symmetric else torch.randint(0, width.largest + 1, (3, groups), generator=draw).float()
    integers = on_grid(torch.randn(3, 5, generator=draw), Grid(scale, zero), width)
    tensors = stored_tensors(record, integers, torch.rand(5, generator=draw) if gain else None)
    named = {f"state:stored.w.{part}": tensor.numpy() for part, tensor in tensors.items()}
    read = numbers_of_codes(of_stored("w", record), named)
    np.testing.assert_array_equal(read, numbers(record, tensors).numpy())


def test_codes_lie_packed_at_their_width_and_floats_do_not_lie_beside_them(tmp_path: Path) -> None:
    for bits in (4, 8):
        path, _, kinds = written(quantized_model(float_model(), scheme=scheme(bits=bits)), tmp_path)
        stored = load_file(path)
        assert "conv.weight" not in stored
        assert stored["state:quantizers.conv.weight.codes"].shape == (16, 72 * bits // 8)
        assert kinds[f"{bits} bit"] == sum(
            value.nbytes for name, value in stored.items() if name.endswith(".codes")
        )
        assert sum(kinds.values()) == path.stat().st_size
        assert "32 bit" not in kinds


def test_of_pruned_codes_only_those_of_the_mask_are_there(tmp_path: Path) -> None:
    _, packed, kinds = written(MODELS["zeros in 8 bits"](), tmp_path)
    kept = [int(mask.sum()) for name, mask in packed.state.items() if name.startswith("masks.")]
    assert kinds["8 bit"] == sum(kept)
    dense = written(MODELS["8 bits"](), tmp_path)[2]
    assert kinds["8 bit"] + kinds["masks"] < 0.25 * dense["8 bit"]


def test_masks_that_would_make_it_larger_are_left_out(tmp_path: Path) -> None:
    path, _, kinds = written(MODELS["few zeros in 2 bits"](), tmp_path)
    assert "masks" not in kinds
    assert not any(name.startswith("bits:") for name in load_file(path))


def test_the_metadata_says_what_a_loader_needs(tmp_path: Path) -> None:
    path, _, _ = written(MODELS["4 bits"](), tmp_path)
    with safe_open(path, framework="np") as file:
        told = file.metadata()
    assert told["mcomp.key"] == "ab"
    assert json.loads(told["mcomp.weights"])["conv.weight"]["bits"] == 4
    grids = json.loads(told["mcomp.activations"])
    assert {grid["bits"] for grid in grids.values()} == {8}
    assert all(grid["scale"] > 0 for grid in grids.values())
    assert json.loads(told["mcomp.inputs"])["image"]["sizes"] == [2, 3, 16, 16]


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    model = MODELS["zeros in 8 bits"]()
    first = written(model, tmp_path)[0].read_bytes()
    assert written(model, tmp_path)[0].read_bytes() == first


def test_a_file_of_other_weights_is_not_taken_for_the_model(tmp_path: Path) -> None:
    path, packed, _ = written(MODELS["4 bits"](), tmp_path)
    with torch.no_grad():
        packed.module.get_parameter("conv.weight")[0, 0, 0, 0] += 1e-6
    with pytest.raises(StageError, match="last bit") as caught:
        require_same_weights(path, packed)
    assert caught.value.module == "conv.weight"


def test_the_reader_needs_nothing_but_numpy(tmp_path: Path) -> None:
    import subprocess
    import sys

    from mcomp.model import unpack

    path, _, _ = written(MODELS["4 bits"](), tmp_path)
    code = (
        "import runpy, sys; sys.argv[1:] = [sys.argv[2]]; sys.path[:] = [p for p in sys.path]\n"
        f"runpy.run_path({unpack.__file__!r}, run_name='__main__')\n"
        "assert not {'torch', 'safetensors', 'mcomp'} & set(sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, "-", str(path)], capture_output=True, text=True, check=True
    )
    assert "conv.weight float32 (16, 8, 3, 3)" in said.stdout
    assert read_weights(path).keys() == float_model().module.state_dict().keys()
