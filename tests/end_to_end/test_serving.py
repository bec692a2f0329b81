"""From data of each kind to an answer: `mcomp serve`, `mcomp predict`, and the script of the folder alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import transformers
from PIL import Image
from sklearn.datasets import load_digits

from tests.stages.data.words import SENTENCES, VOCABULARY, word_tokenizer
from tests.tiny import mcomp, python

TRAINED = "train: {type: train, training: {epochs: 1}}"
RECIPES = {
    "images": (
        "{type: lenet5}",
        "{type: huggingface, path: images.parquet, image: image, label: label, image_size: 28, channels: 1}",
        TRAINED,
    ),
    "texts": (
        "{type: transformers, path: bert, family: sequence_classification}",
        "{type: huggingface, path: texts.parquet, text: text, label: label,"
        " tokenizer: tokenizer, max_length: 16}",
        TRAINED,
    ),
    "cells": ("{type: lenet5}", "{type: elpv, image_size: 32}", TRAINED),
    "arrays": ("{type: lenet5}", "{type: arrays, path: arrays.npz, scale: {image: 16}}", TRAINED),
    "sentences": (
        "{type: transformers, path: bert}",
        "{type: sentences, path: lines.txt, tokenizer: tokenizer, max_length: 16}",
        "dynamic: {type: quantize.dynamic}",
    ),
}
ASKED = {"images": "5.png", "texts": "the cat sees a bird", "cells": "5.png", "arrays": "5.npy"}
ASKED |= {"sentences": "a small dog sleeps"}
CLASSES = {"images": set("0123456789"), "texts": {"long", "short"}, "cells": {"defective", "intact"}}
CLASSES |= {"arrays": set("0123456789")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small data set of each kind, a tokenizer, and an encoder with fresh weights."""
    folder = tmp_path_factory.mktemp("serving")
    known = load_digits()
    ink = np.kron(known.images[:400, None], np.ones((1, 1, 2, 2)))
    np.savez(folder / "arrays.npz", image=ink, target=known.target[:400])
    np.save(folder / "5.npy", ink[5])
    files = [png(known.images[number]) for number in range(200)]
    (folder / "5.png").write_bytes(files[5])
    cells = {"image": [{"bytes": file, "path": None} for file in files]}
    labels = {"label": [str(number) for number in known.target[:200]]}
    datasets.Dataset.from_dict(cells | labels).to_parquet(folder / "images.parquet")
    texts = {"text": list(SENTENCES), "label": ["long" if len(each) > 20 else "short" for each in SENTENCES]}
    datasets.Dataset.from_dict(texts).to_parquet(folder / "texts.parquet")
    (folder / "lines.txt").write_text("\n".join(SENTENCES))
    word_tokenizer(folder / "tokenizer")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    architecture = transformers.BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=16, **sizes)
    transformers.BertForSequenceClassification(architecture).save_pretrained(folder / "bert")
    for name, (model, data, stage) in RECIPES.items():
        task = "\ntask: {type: fidelity, by: cosine}" if name == "sentences" else ""
        (folder / f"{name}.yaml").write_text(
            f"version: 1\nname: {name}\nmodel: {model}\ndata: {data}{task}\n"
            f"stages:\n  {stage}\n  export: {{type: export.onnx}}\nmeasure: {{rounds: 3, batch_sizes: [1]}}\n"
        )
    return folder


def png(ink: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray((ink * 15.9).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_what_was_made_of_any_data_answers_with_and_without_mcomp(name: str, folder: Path) -> None:
    done = mcomp("serve", f"{name}.yaml", f"served_{name}", "--quick", "--store", "kept", cwd=folder)
    assert done.returncode == 0, done.stderr
    asked = mcomp("predict", f"served_{name}", ASKED[name], cwd=folder)
    assert asked.returncode == 0, asked.stderr
    said = json.loads(asked.stdout)
    assert said == json.loads(python("-I", f"served_{name}/predict.py", ASKED[name], cwd=folder).stdout)
    if name in CLASSES:
        assert {each["label"] for each in said["classes"]} <= CLASSES[name]
        assert len(said["classes"]) == min(5, len(CLASSES[name]))
    else:
        assert np.isfinite(said["output"]).all()
