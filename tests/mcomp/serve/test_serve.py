"""The served folder: what lies in it, that it answers without mcomp, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mcomp.cli import exit_code
from mcomp.errors import RecipeError, StageError, StoreError
from mcomp.measure.runtime import Exported
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.serve.answer import answer
from mcomp.serve.predict import image_inputs
from mcomp.serve.write import write_served
from mcomp_stages.data.image_file import read_image
from tests.mcomp.measure.files import float_classifier
from tests.mcomp.report.ledgers import HOSTILE, hostile, main_job

IMAGE = {
    "kind": "image",
    "name": "x",
    "image_size": 8,
    "channels": 1,
    "fit": "crop",
    "mean": [0.5],
    "std": [0.2],
}
LABELS = ["a", "b", "c", "d"]


def served(folder: Path, source: Path | None = None, **more) -> Path:
    """Write the folder of a small classifier, with the figures of the main job."""
    source = (source or folder.parent) / "resnet_int8.onnx"
    ledger = main_job()
    settings = IMAGE | {"labels": LABELS, "chooses": True} | more
    write_served(folder, Exported(float_classifier(source)), ledger.rows[-1], ledger, settings, {})
    return folder


def picture(path: Path, mode: str = "L") -> Path:
    colors = np.random.default_rng(0).integers(0, 255, (11, 16, 4), dtype=np.uint8)
    Image.fromarray(colors, "RGBA").convert(mode).save(path)
    return path


def test_the_folder_holds_model_card_preprocessing_and_labels(tmp_path: Path) -> None:
    folder = served(tmp_path / "served")
    data = {"figures.json", "labels.json", "preprocessing.json"}
    others = {"model_card.md", "predict.py", "resnet_int8.onnx"}
    assert {path.name for path in folder.iterdir()} == data | others
    assert json.loads((folder / "labels.json").read_text()) == LABELS
    card = (folder / "model_card.md").read_text()
    for said in ("# resnet_int8", "## What from", "stage distill", "0.9900", "## Limits", "## Licence"):
        assert said in card


def test_it_answers_with_its_runtime_alone(tmp_path: Path) -> None:
    folder, image = served(tmp_path / "served"), picture(tmp_path / "image.png")
    code = (
        "import runpy, sys; sys.modules['mcomp'] = sys.modules['torch'] = None; "
        f"sys.argv = ['predict.py', {str(image)!r}]; runpy.run_path('predict.py', run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == answer(folder, str(image))
    pixels = read_image(image, 8, 1, "crop").astype(np.float32)[None, None]
    logits = OnnxSession(folder / "resnet_int8.onnx").run({"x": (pixels / 255 - 0.5) / np.float32(0.2)})
    assert answer(folder, str(image))["classes"][0]["label"] == LABELS[int(logits.argmax())]
    assert sum(each["probability"] for each in answer(folder, str(image))["classes"]) == pytest.approx(1)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "1", "LA"])
@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_prepared_as_in_training(mode: str, fit: str, channels: int, tmp_path: Path) -> None:
    path = picture(tmp_path / ("i.tiff" if mode == "CMYK" else "i.png"), mode)
    settings = IMAGE | {"fit": fit, "channels": channels, "mean": [0.5] * channels, "std": [0.2] * channels}
    pixels = read_image(path, 8, channels, fit).reshape(8, 8, channels).transpose(2, 0, 1)
    expected = (pixels.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.2)
    np.testing.assert_allclose(image_inputs(settings, tmp_path, path)["x"], expected[None], rtol=1e-6)


def test_what_chooses_no_class_gives_its_numbers(tmp_path: Path) -> None:
    folder = served(tmp_path / "served", chooses=False, labels=None)
    assert len(answer(folder, str(picture(tmp_path / "image.png")))["output"]) == 4


def test_mistakes_are_told(tmp_path: Path) -> None:
    folder = served(tmp_path / "served")
    with pytest.raises(RecipeError, match=r"has no preprocessing\.json"):
        answer(tmp_path, "image.png")
    with pytest.raises(RecipeError, match=r"there is no file missing\.png"):
        answer(folder, "missing.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(StageError, match=r"broken\.png cannot be answered"):
        answer(folder, str(tmp_path / "broken.png"))
    assert exit_code(["predict", str(tmp_path), "image.png"]) == 2


def test_a_folder_that_holds_something_or_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("")
    with pytest.raises(RecipeError, match="is not empty"):
        served(full)
    with pytest.raises(StoreError, match="cannot be written"):
        served(full / "mine" / "served", tmp_path)
    assert [path.name for path in full.iterdir()] == ["mine"]


def test_a_disk_without_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mcomp.serve.write.shutil.copyfile", no_room)
    with pytest.raises(StoreError, match="there is no room"):
        served(tmp_path / "served")
    assert [path.name for path in tmp_path.iterdir()] == ["resnet_int8.onnx"]


def test_names_from_a_recipe_cannot_steer_who_reads_the_card(tmp_path: Path) -> None:
    from mcomp.serve.card import model_card

    ledger = hostile()
    assert HOSTILE not in model_card(ledger.rows[-1], ledger, {})
    assert "\x1b" not in model_card(ledger.rows[-1], ledger, {})


def test_a_licence_that_is_known_stands_on_the_card(tmp_path: Path) -> None:
    folder = served(tmp_path / "served", licence="data elpv: CC BY-NC-SA 4.0")
    assert "data elpv: CC BY-NC-SA 4.0." in (folder / "model_card.md").read_text()
    other = served(tmp_path / "other", tmp_path)
    assert "Not recorded." in (other / "model_card.md").read_text()


def test_arrays_are_prepared_as_in_training(tmp_path: Path) -> None:
    from mcomp.serve.predict import array_inputs
    from mcomp_stages.data.arrays import ArraysConfig

    draw = np.random.default_rng(0)
    image, size = draw.integers(0, 255, (40, 1, 4, 4)), draw.normal(size=(40, 2))
    np.savez(tmp_path / "d.npz", image=image, size=size, target=np.arange(40) % 2)
    config = ArraysConfig(path=tmp_path / "d.npz", scale={"image": 255})
    split = config.load().split("test")
    serving = config.serving({})
    assert serving is not None
    batch, row = split.batch(torch.arange(1)).inputs, int(split.rows[0])
    np.savez(tmp_path / "one.npz", image=image[row], size=size[row])
    found = array_inputs(json.loads(json.dumps(serving.settings)), tmp_path, tmp_path / "one.npz")
    assert found.keys() == batch.keys()
    for name, value in batch.items():
        np.testing.assert_array_equal(found[name], value.numpy())
        assert found[name].dtype == value.numpy().dtype


def test_an_array_of_another_shape_or_name_is_told(tmp_path: Path) -> None:
    inputs = {"x": {"shape": [1, 8, 8], "scale": None, "kind": "f"}}
    folder = served(tmp_path / "served", kind="array", inputs=inputs)
    np.save(tmp_path / "good.npy", np.zeros((1, 8, 8)))
    assert len(answer(folder, str(tmp_path / "good.npy"))["classes"]) == 4
    np.save(tmp_path / "other.npy", np.zeros((8, 8)))
    with pytest.raises(StageError, match=r"x has shape \[8, 8\], and the model takes \[1, 8, 8\]"):
        answer(folder, str(tmp_path / "other.npy"))
    np.savez(tmp_path / "other.npz", y=np.zeros((1, 8, 8)))
    with pytest.raises(StageError, match="the model takes x, and the file holds y"):
        answer(folder, str(tmp_path / "other.npz"))
