"""The served folder: what lies in it, that it answers without mcomp, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from mcomp.cli import exit_code
from mcomp.data.contract import DataConfig
from mcomp.data.splits import Splits
from mcomp.errors import RecipeError, StageError, StoreError
from mcomp.measure.runtime import Exported
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.plan import make_plan
from mcomp.recipe.build import load_recipe
from mcomp.serve.answer import answer
from mcomp.serve.card import model_card
from mcomp.serve.predict import array_inputs, image_inputs, text_inputs
from mcomp.serve.run import licences
from mcomp.serve.write import write_served
from mcomp_stages.data.arrays import ArraysConfig
from mcomp_stages.data.digits import DigitsConfig
from mcomp_stages.data.elpv import ElpvConfig
from mcomp_stages.data.huggingface import HuggingFaceConfig
from mcomp_stages.data.image_file import read_image
from mcomp_stages.data.mnist5k import Mnist5kConfig, mnist_file, read_mnist
from mcomp_stages.data.sentences import SentencesConfig
from tests.mcomp.measure.files import float_classifier
from tests.mcomp.report.ledgers import HOSTILE, hostile, main_job
from tests.stages.data.words import SENTENCES, word_tokenizer
from tests.tiny import TEACHER

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


def picture(path: Path, mode: str = "L", seed: int = 0) -> Path:
    colors = np.random.default_rng(seed).integers(0, 255, (11, 16, 4), dtype=np.uint8)
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
    ledger = hostile()
    assert HOSTILE not in model_card(ledger.rows[-1], ledger, {})
    assert "\x1b" not in model_card(ledger.rows[-1], ledger, {})


def test_a_licence_that_is_known_stands_on_the_card(tmp_path: Path) -> None:
    folder = served(tmp_path / "served", licence="data elpv: CC BY-NC-SA 4.0")
    assert "data elpv: CC BY-NC-SA 4.0." in (folder / "model_card.md").read_text()
    other = served(tmp_path / "other", tmp_path)
    assert "Not recorded: the recipe says none" in (other / "model_card.md").read_text()


RECIPE = """\
version: 1
name: said
model: {type: lenet5, licence: MIT}
data: {type: digits, image_size: 12, licence: CC BY 4.0}
baseline: {recipe: teacher.yaml}
stages:
  distill: {type: distill.offline, teachers: [{recipe: teacher.yaml}], training: {epochs: 1}}
  export: {type: export.onnx}
"""


def test_the_licences_of_all_that_was_run_are_said_once(tmp_path: Path) -> None:
    (tmp_path / "teacher.yaml").write_text(TEACHER.replace("type: lenet5", "type: lenet5, licence: BSD"))
    (tmp_path / "said.yaml").write_text(RECIPE)
    said = licences(make_plan(load_recipe(tmp_path / "said.yaml", ())))
    assert said == "data digits: CC BY 4.0; model lenet5: BSD; model lenet5: MIT"


def test_what_is_said_of_a_licence_changes_no_key(tmp_path: Path) -> None:
    (tmp_path / "teacher.yaml").write_text(TEACHER)
    keys = []
    others = RECIPE.replace("MIT", "none"), RECIPE.replace(", licence: MIT", "")
    for number, text in enumerate((RECIPE, *others)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        keys.append([step.key for step in make_plan(load_recipe(path, ())).steps])
    assert keys[0] == keys[1] == keys[2]


def test_figures_of_a_first_look_are_said_to_be_none(tmp_path: Path) -> None:
    ledger = main_job()
    assert "its figures are no results" not in model_card(ledger.rows[-1], ledger, {})
    quick = ledger.model_copy(update={"quick": True})
    assert "its figures are no results" in model_card(quick.rows[-1], quick, {})


@pytest.mark.parametrize("size", [8, 20])
def test_digits_are_prepared_as_in_training(size: int, tmp_path: Path) -> None:
    config = DigitsConfig(image_size=size)
    data = config.load()
    batch = data.split("test").batch(torch.arange(3))
    serving = config.serving(data.facts)
    assert serving is not None
    for index, expected in zip(batch.indices.tolist(), batch.inputs["image"].numpy(), strict=True):
        ink = load_digits().images[index] / 16
        Image.fromarray((ink * 255).round().astype(np.uint8)).save(tmp_path / "digit.png")
        found = image_inputs(serving.settings, tmp_path, tmp_path / "digit.png")["image"][0]
        np.testing.assert_allclose(found, expected, atol=0.02)  # 8 bits are rounded


@pytest.mark.parametrize("size", [28, 20])
def test_images_of_mnist_are_prepared_as_in_training(size: int, tmp_path: Path) -> None:
    config = Mnist5kConfig(image_size=size, train=10, calibration=2)
    data = config.load()
    batch = data.split("test").batch(torch.arange(3))
    serving, pixels = config.serving(data.facts), read_mnist(mnist_file())[0]
    assert serving is not None
    for index, expected in zip(batch.indices.tolist(), batch.inputs["image"].numpy(), strict=True):
        Image.fromarray(pixels[index, 0].numpy()).save(tmp_path / "digit.png")
        found = image_inputs(serving.settings, tmp_path, tmp_path / "digit.png")["image"][0]
        np.testing.assert_allclose(found, expected, atol=0.02)  # two libraries resize


def serving_of(config: DataConfig, folder: Path) -> tuple[Splits, dict[str, Any]]:
    """Return what is loaded, and the settings of its inputs as a served folder has them."""
    data = config.load()
    serving = config.serving(data.facts)
    assert isinstance(data, Splits)
    assert serving is not None
    for name, path in serving.files.items():
        shutil.copyfile(path, folder / name)
    return data, json.loads(json.dumps(serving.settings))


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_sentences_are_prepared_as_in_training(padding: Any, tmp_path: Path) -> None:
    word_tokenizer(tmp_path / "tokenizer")
    (tmp_path / "lines.txt").write_text("\n".join(SENTENCES))
    config = SentencesConfig(
        path=tmp_path / "lines.txt",
        tokenizer=tmp_path / "tokenizer",
        max_length=7,
        padding=padding,
        inputs=("input_ids", "attention_mask", "token_type_ids"),
    )
    data, settings = serving_of(config, tmp_path)
    for place in range(4):
        batch = data.split("train").batch(torch.tensor([place]))
        require_equal(text_inputs(settings, tmp_path, SENTENCES[int(batch.indices)]), batch.inputs)


def test_texts_of_hugging_face_are_prepared_as_in_training(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(tmp_path / "tokenizer")
    texts = {"text": list(SENTENCES), "label": ["long" if len(each) > 20 else "short" for each in SENTENCES]}
    datasets.Dataset.from_dict(texts).to_parquet(tmp_path / "train.parquet")
    config = HuggingFaceConfig(
        path=tmp_path / "train.parquet", text="text", label="label", tokenizer=tokenizer, max_length=7
    )
    data, settings = serving_of(config, tmp_path)
    for place in range(4):
        batch = data.split("train").batch(torch.tensor([place]))
        require_equal(text_inputs(settings, tmp_path, SENTENCES[int(batch.indices)]), batch.inputs)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_hugging_face_are_prepared_as_in_training(channels: Any, tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{number}.png", "RGB", number) for number in range(40)]
    cells = {"image": [{"bytes": file.read_bytes(), "path": None} for file in files], "label": [0, 1] * 20}
    datasets.Dataset.from_dict(cells).to_parquet(tmp_path / "train.parquet")
    config = HuggingFaceConfig(
        path=tmp_path / "train.parquet", image="image", label="label", image_size=8, channels=channels
    )
    data, settings = serving_of(config, tmp_path)
    for place in range(4):
        batch = data.split("train").batch(torch.tensor([place]))
        found = image_inputs(settings, tmp_path, files[int(batch.indices)])["image"]
        np.testing.assert_allclose(found, batch.inputs["image"].numpy(), atol=1e-5)


def test_solar_cells_are_prepared_as_in_training(tmp_path: Path) -> None:
    config = ElpvConfig(image_size=16)
    path = picture(tmp_path / "cell.png")
    serving = config.serving({"mean": [0.5], "std": [0.2], "classes": ["intact", "defective"]})
    assert serving is not None
    expected = (config.pixels([path])(torch.tensor([0])).float() / 255 - 0.5) / 0.2
    np.testing.assert_allclose(image_inputs(serving.settings, tmp_path, path)["image"], expected, atol=1e-6)


def require_equal(found: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy())
        assert found[name].dtype == value.numpy().dtype


def test_arrays_are_prepared_as_in_training(tmp_path: Path) -> None:
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
    require_equal(found, batch)


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
    with pytest.raises(StageError, match=r"it is no \.npy and no \.npz file"):
        answer(folder, str(picture(tmp_path / "image.png")))


def test_names_that_are_not_of_these_classes_are_not_said(tmp_path: Path) -> None:
    folder = served(tmp_path / "served", labels=["a", "b"])
    said = answer(folder, str(picture(tmp_path / "image.png")))["classes"]
    assert {each["label"] for each in said} == {"0", "1", "2", "3"}
