from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp_stages.data import array_files
from mcomp_stages.data.array_files import open_arrays
from mcomp_stages.data.arrays import ArraysConfig

Save = Callable[[Path, dict[str, np.ndarray]], Path]
NUM_SAMPLES = 100
SPLITS = ("train", "validation", "test")


def save_npz(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def save_compressed(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(folder / "packed.npz", **arrays)
    return folder / "packed.npz"


def save_folder(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    (folder / "arrays").mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / "arrays" / f"{name}.npy", array)
    return folder / "arrays"


def samples(count: int = NUM_SAMPLES) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    return {"image": image, "target": np.arange(count) % 3}


def each_split(**changes: np.ndarray) -> dict[str, np.ndarray]:
    whole = {f"{split}_{name}": array for split in SPLITS for name, array in samples(6).items()}
    return {**whole, **changes}


def problems(arrays: dict[str, np.ndarray], folder: Path, **fields: Any) -> list[str]:
    path = save_npz(folder, arrays)
    with pytest.raises(RecipeError) as caught:
        ArraysConfig(path=path, **fields).load()
    return [str(problem).replace(str(path), "FILE") for problem in caught.value.problems]


@pytest.mark.parametrize("save", [save_npz, save_compressed, save_folder])
def test_a_batch_holds_the_rows_of_its_arrays(save: Save, tmp_path: Path) -> None:
    arrays = samples()
    data = ArraysConfig(path=save(tmp_path, arrays), scale={"image": 255}).load()
    seen = []
    for name in SPLITS:
        split = data.split(name)
        batch = split.batch(torch.arange(len(split)).flip(0))
        rows = batch.indices.numpy()
        expected = torch.from_numpy(arrays["image"][rows]).float() / 255
        assert torch.equal(batch.inputs["image"], expected)
        assert batch.target.tolist() == arrays["target"][rows].tolist()
        seen += rows.tolist()
    assert sorted(seen) == list(range(NUM_SAMPLES))


@given(
    array=numpy_strategies.arrays(
        st.sampled_from(["<f8", ">f4", "<f2", "u1", ">i2", "<i8", "?"]),
        numpy_strategies.array_shapes(min_dims=1, max_dims=3, max_side=4),
    ),
    fortran=st.booleans(),
)
def test_numbers_are_read_as_they_were_saved(
    array: np.ndarray, fortran: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    saved = np.asfortranarray(array) if fortran else array
    folder = tmp_path_factory.getbasetemp()
    for save in (save_npz, save_compressed, save_folder):
        found = open_arrays(save(folder, {"x": saved}))["x"]
        assert found.dtype == array.dtype
        assert np.array_equal(found, array, equal_nan=array.dtype.kind == "f")


def test_what_is_not_compressed_stays_on_the_disk(tmp_path: Path) -> None:
    for save, mapped in ((save_npz, True), (save_folder, True), (save_compressed, False)):
        found = open_arrays(save(tmp_path, samples()))
        assert {isinstance(array, np.memmap) for array in found.values()} == {mapped}


def test_floats_become_32_bits_and_integers_stay_integers(tmp_path: Path) -> None:
    tokens = np.arange(200, dtype=np.uint16).reshape(100, 2)
    arrays = {"tokens": tokens, "weight": np.linspace(0, 1, 100), "target": np.arange(100) % 2}
    batch = ArraysConfig(path=save_npz(tmp_path, arrays)).load().split("train").batch(torch.arange(3))
    assert batch.inputs["tokens"].dtype == torch.int64
    assert batch.inputs["weight"].dtype == torch.float32


def test_arrays_of_each_split_are_its_own_and_indices_do_not_meet(tmp_path: Path) -> None:
    config = ArraysConfig(path=save_npz(tmp_path, each_split()))
    data = config.load()
    indices = [data.split(name).batch(torch.arange(6)).indices for name in SPLITS]
    assert torch.equal(torch.cat(indices), torch.arange(18))
    assert config.facts() == DataFacts(channels=1, image_size=4, num_classes=3)


def test_a_split_without_arrays_takes_its_share_of_train(tmp_path: Path) -> None:
    arrays = {f"train_{name}": array for name, array in samples().items()}
    arrays |= {f"test_{name}": array for name, array in samples(7).items()}
    data = ArraysConfig(path=save_npz(tmp_path, arrays)).load()
    lengths = {name: len(data.split(name)) for name in SPLITS}
    assert lengths["test"] == 7
    assert lengths["train"] + lengths["validation"] == NUM_SAMPLES
    assert 5 <= lengths["validation"] <= 25


def test_facts_say_nothing_that_is_not_so(tmp_path: Path) -> None:
    two = {"a": np.zeros((9, 3, 4, 4)), "b": np.zeros((9, 2)), "target": np.linspace(0, 1, 9)}
    assert ArraysConfig(path=save_npz(tmp_path, two)).facts() == DataFacts()
    oblong = {"image": np.zeros((9, 3, 4, 5)), "target": np.arange(9) % 2}
    assert ArraysConfig(path=save_npz(tmp_path, oblong)).facts() == DataFacts(channels=3, num_classes=2)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (
            {"image": np.zeros((3, 1))},
            "path: train has no array `target`; there are image; rename what holds",
        ),
        ({"targets": np.zeros(3, int)}, "path: train has no array `target`; did you mean 'targets'?"),
        (
            {"target": np.zeros(3, int)},
            "path: train has no inputs; add an array named as the model's argument",
        ),
        (
            {"image": np.zeros((4, 1)), "target": np.arange(3)},
            "path: train: image has 4 samples, and target has 3; each must have one row a sample",
        ),
        ({"image": np.zeros(()), "target": np.arange(3)}, "path: train: image is a single number; its first"),
        ({"image": np.zeros((0, 1)), "target": np.zeros(0, int)}, "path: train: image is empty; add samples"),
        (
            {"image": np.zeros((3, 1)), "target": np.array([-1, 0, 1])},
            "path: train has the label -1; classes",
        ),
        ({"image": np.zeros((3, 1)), "target": np.array([1, 2, 3])}, "path: no label of train is 0; classes"),
        (
            {"image": np.zeros((3, 1)), "target": np.zeros(3, int)},
            "path: every label of train is 0; it takes",
        ),
        (each_split(test_target=np.full(6, 3)), "path: test has the label 3, and train none above 2; train"),
        (
            each_split(test_image=np.zeros((6, 1, 5, 4), np.uint8)),
            "path: image has samples of shape (1, 5, 4) in test and (1, 4, 4) in train; make them alike",
        ),
        (
            each_split(test_image=np.zeros((6, 1, 4, 4))),
            "path: image holds float64 in test and uint8 in train",
        ),
        (
            each_split(test_mask=np.zeros(6)),
            "path: test and train do not both have mask; add what is missing",
        ),
        (
            each_split(image=np.zeros(6)),
            "path: the array image belongs to no split; its name must start with",
        ),
        ({"test_image": np.zeros(3), "test_target": np.arange(3)}, "path: there is no array for train; add"),
        (
            {"image": np.array([[0.0], [np.nan], [0.0]]), "target": np.arange(3)},
            "path: train: image holds a number that is not finite, first in row 1; remove the sample",
        ),
        (
            {"image": np.array([[0.0], [1e300], [0.0]]), "target": np.arange(3)},
            "path: train: image holds a num",
        ),
        ({"image": np.zeros((3, 1)), "target": np.array(["a", "b", "c"])}, "path: FILE/target.npy holds <U1"),
        (each_split(test_image=np.zeros((6, 1), complex)), "path: FILE/test_image.npy holds complex128"),
    ],
    ids=lambda value: value[6:50] if isinstance(value, str) else "",
)
def test_arrays_that_do_not_fit_are_said(arrays: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert problems(arrays, tmp_path)[0].startswith(expected)


def test_fields_that_do_nothing_are_refused(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"scale": {"imag": 2.0}, "splits": {"test": 0.3}}
    assert problems(each_split(), tmp_path, **fields) == [
        "scale.imag: is no input; did you mean 'image'?",
        "splits.test: does nothing: test has arrays of its own; remove it",
    ]


def test_too_few_samples_for_a_split_are_said(tmp_path: Path) -> None:
    (said,) = problems({"image": np.zeros((2, 1)), "target": np.arange(2)}, tmp_path)
    assert "gets too few samples" in said


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return (open, ("exploded", "w"))


def test_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = np.array([Bomb(), Bomb()], dtype=object)
    arrays = {"image": objects, "target": np.arange(2)}
    assert "holds object" in problems(arrays, tmp_path)[0]
    with pytest.raises(RecipeError, match="holds object"):
        open_arrays(save_folder(tmp_path, arrays))
    assert not (tmp_path / "exploded").exists()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_files, "UNPACKED_BYTES", 10_000)
    path = save_compressed(tmp_path, {"image": np.zeros((4000, 1)), "target": np.arange(4000)})
    with pytest.raises(RecipeError, match="more than 2 GiB unpacked"):
        open_arrays(path)


@given(cut=st.floats(0, 0.999))
def test_a_truncated_file_is_one_error_that_names_it(
    cut: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for path in (save_npz(folder, samples()), save_folder(folder, samples()) / "image.npy"):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(cut * len(whole))])
        with pytest.raises(RecipeError, match=path.name):
            open_arrays(path if path.suffix == ".npz" else path.parent)


def test_a_member_that_promises_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = save_npz(tmp_path, samples())
    content = (save_folder(tmp_path, samples()) / "image.npy").read_bytes()
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("image.npy", content.replace(b"(100, ", b"(999, "))
        with pytest.raises(RecipeError, match="is truncated"):
            open_arrays(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("1,2")
    with pytest.raises(RecipeError, match=r"neither a \.npz file nor a folder"):
        ArraysConfig(path=path).facts()


def test_the_digest_follows_the_numbers(tmp_path: Path) -> None:
    digests = [ArraysConfig(path=save_folder(tmp_path, samples())).digest()]
    digests.append(ArraysConfig(path=save_npz(tmp_path, samples())).digest())
    changed = {**samples(), "target": samples()["target"][::-1]}
    digests.append(ArraysConfig(path=save_folder(tmp_path, changed)).digest())
    digests.append(ArraysConfig(path=save_npz(tmp_path, changed)).digest())
    assert len(set(digests)) == 4


def test_facts_and_digest_import_no_torch(tmp_path: Path) -> None:
    path = save_npz(tmp_path, samples())
    code = (
        "import sys; from mcomp_stages.data.arrays import ArraysConfig;"
        f"config = ArraysConfig(path={str(path)!r}); config.facts(); config.digest();"
        "print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "False"
