from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.fx import GraphModule

from mcomp.data.contract import DataFacts, VaryingSize
from mcomp.errors import CheckpointError, RecipeError, StageError
from mcomp.model.checkpoint import load_model, save_model
from mcomp.model.example import Example
from mcomp.model.graph import capture
from mcomp.model.model import Model
from mcomp_stages.models import huggingface
from mcomp_stages.models.huggingface import TransformersConfig
from mcomp_stages.models.huggingface_folder import require_positions
from tests.stages.models.tiny_transformers import BERT, DISTILBERT, GPT2, VIT, saved, sentences

FACTS = DataFacts()


def config(**fields: Any) -> TransformersConfig:
    return TransformersConfig.model_validate({"type": "transformers", **fields}).fitted_to(FACTS)


def built(**fields: Any) -> nn.Module:
    """Return a model, with the weights of its folder if it has one."""
    fitted = config(**fields)
    module = fitted.build()
    if isinstance(fitted.checkpoint, str):
        fitted.fill(module, Path(fitted.checkpoint))
    return module.eval()


def output(module: nn.Module, **inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        answer = module(**inputs)
    assert isinstance(answer, torch.Tensor)
    return answer


@pytest.mark.parametrize("architecture", [BERT, DISTILBERT, GPT2], ids=lambda each: each["model_type"])
def test_a_folder_gives_what_transformers_gives(architecture: dict[str, Any], tmp_path: Path) -> None:
    theirs = saved(tmp_path, architecture)
    with torch.no_grad():
        expected = theirs(**sentences()).last_hidden_state
    found = output(built(path=tmp_path, output="last_hidden_state"), **sentences())
    kept = sentences()["attention_mask"].bool()
    assert torch.allclose(found[kept], expected[kept], atol=1e-5)


def test_an_embedding_is_the_mean_over_the_tokens_of_a_sentence(tmp_path: Path) -> None:
    theirs = saved(tmp_path, BERT)
    inputs = sentences()
    for normalize in (False, True):
        found = output(built(path=tmp_path, normalize=normalize), **inputs)
        for row, mask in enumerate(inputs["attention_mask"]):
            alone = inputs["input_ids"][row : row + 1, : int(mask.sum())]
            with torch.no_grad():
                mean = theirs(alone).last_hidden_state[0].mean(0)
            assert torch.allclose(found[row], mean / mean.norm() if normalize else mean, atol=1e-5)


def test_padding_does_not_change_an_embedding(tmp_path: Path) -> None:
    saved(tmp_path, BERT)
    module, inputs = built(path=tmp_path), sentences()
    longer = {name: nn.functional.pad(value, (0, 6)) for name, value in inputs.items()}
    assert torch.allclose(output(module, **longer), output(module, **inputs), atol=1e-6)


def test_the_first_token_can_stand_for_the_sentence(tmp_path: Path) -> None:
    theirs = saved(tmp_path, BERT)
    with torch.no_grad():
        expected = theirs(**sentences()).last_hidden_state[:, 0]
    assert torch.allclose(output(built(path=tmp_path, pooling="first"), **sentences()), expected, atol=1e-5)


def test_a_pooler_is_there_only_where_it_is_used(tmp_path: Path) -> None:
    theirs = saved(tmp_path, BERT)
    assert not any("pooler" in name for name in built(path=tmp_path).state_dict())
    with torch.no_grad():
        expected = theirs(**sentences()).pooler_output
    found = output(built(path=tmp_path, output="pooler_output"), **sentences())
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("layout", ["shards", "half", "pickle", "other head"])
def test_usual_layouts_of_weights_are_read(layout: str, tmp_path: Path) -> None:
    if layout == "other head":
        theirs = saved(tmp_path, BERT, "AutoModelForMaskedLM").bert
    else:
        theirs = saved(tmp_path, BERT, max_shard_size="4KB" if layout == "shards" else "1GB")
    if layout == "half":
        theirs.half().save_pretrained(tmp_path)
        theirs.float()
    if layout == "pickle":
        (tmp_path / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (layout == "shards")
    with torch.no_grad():
        expected = theirs(**sentences()).last_hidden_state
    found = output(built(path=tmp_path, output="last_hidden_state"), **sentences())
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)


def test_weights_without_the_head_that_is_asked_for_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, BERT)
    with pytest.raises(CheckpointError, match=r"lacks 2 of the \d+ tensors.*choose the family") as caught:
        built(path=tmp_path, family="sequence_classification", num_classes=3)
    assert caught.value.problems[0].more == ("classifier.bias", "classifier.weight")


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, BERT)
    fitted = config(path=tmp_path, architecture={"intermediate_size": 64})
    with pytest.raises(CheckpointError, match="does not fit"):
        fitted.fill(fitted.build(), tmp_path / "model.safetensors")


def test_a_classifier_has_the_classes_of_its_folder_or_of_the_data(tmp_path: Path) -> None:
    saved(tmp_path, {**BERT, "num_labels": 5}, "AutoModelForSequenceClassification")
    assert output(built(path=tmp_path, family="sequence_classification"), **sentences()).shape == (3, 5)
    open_ = {"type": "transformers", "family": "sequence_classification", "architecture": BERT}
    fitted = TransformersConfig.model_validate(open_).fitted_to(DataFacts(num_classes=7))
    assert output(fitted.build(), **sentences()).shape == (3, 7)


def test_an_image_model_takes_images() -> None:
    module = built(architecture=VIT, family="image_classification", num_classes=4)
    assert output(module, image=torch.zeros(2, 3, 16, 16)).shape == (2, 4)
    embedded = built(architecture=VIT, pooling="first", normalize=True)
    assert output(embedded, image=torch.zeros(2, 3, 16, 16)).norm(dim=1).tolist() == pytest.approx([1, 1])


def test_an_output_that_the_model_does_not_give_is_named_with_those_it_gives() -> None:
    with pytest.raises(StageError, match="BertModel gives last_hidden_state, and no logits"):
        output(built(architecture=BERT, output="logits"), **sentences())


def test_saved_as_ours_it_needs_neither_the_folder_nor_its_place(tmp_path: Path) -> None:
    saved(tmp_path / "theirs", BERT)
    fitted = config(path=tmp_path / "theirs")
    model = Model(built(path=tmp_path / "theirs"), fitted)
    save_model(model, tmp_path / "ours")
    shutil.rmtree(tmp_path / "theirs")
    assert str(tmp_path) not in (tmp_path / "ours" / "model.json").read_text()
    again = load_model(tmp_path / "ours").module.eval()
    assert torch.equal(output(again, **sentences()), output(model.module, **sentences()))


@pytest.fixture(scope="module")
def captured() -> tuple[nn.Module, GraphModule]:
    """Return an encoder, and its graph for sentences of any length."""
    module = built(architecture=BERT, normalize=True)
    length = VaryingSize("sequence", 24)
    return module, capture(module, Example(sentences(2, 5), {name: {1: length} for name in sentences()}))


def test_captured_it_takes_sentences_of_other_lengths(captured: tuple[nn.Module, GraphModule]) -> None:
    module, graph = captured
    for inputs in (sentences(2, 24), sentences(4, 7), sentences(1, 1)):
        assert torch.allclose(output(graph, **inputs), output(module, **inputs), atol=1e-6)


def test_the_seed_decides_fresh_weights() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(config(architecture=BERT).build().state_dict())
    assert all(torch.equal(value, drawn[1][name]) for name, value in drawn[0].items())


def test_what_is_random_in_loading_leaves_the_generator_as_it_was(tmp_path: Path) -> None:
    saved(tmp_path, BERT)
    fitted = config(path=tmp_path)
    module = fitted.build()
    before = torch.random.get_rng_state()
    fitted.fill(module, tmp_path / "model.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_code_of_others_is_refused(tmp_path: Path) -> None:
    own = {"model_type": "my_own", "auto_map": {"AutoModel": "mine.Model"}, "hidden_size": 4}
    (tmp_path / "config.json").write_text(json.dumps(own))
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(RecipeError, match=r"has no my_own.*code of others is never run"):
        config(path=tmp_path, pretrained=False).build()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        ('{"model_type": "bert", "layer_norm_eps": NaN}', "no finite number"),
        ('{"model_type": "bert", "layer_norm_eps": 1e999}', "no finite number"),
        ("[]", "says no model_type"),
        ('{"model_type": 3}', "says no model_type"),
        ("[" * 100_000, "is no JSON"),
        (" " * 2**21, "it is larger than"),
        (json.dumps({**BERT, "quantization_config": {"bits": 4}}), "are quantized already"),
        (json.dumps(BERT), "holds no weights"),
    ],
)
def test_a_folder_that_is_none_is_a_recipe_error(content: str | None, what: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(RecipeError, match=what):
        config(path=tmp_path)


def test_a_hub_that_cannot_be_reached_says_how_to_use_a_local_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str, **_: Any) -> str:
        raise OSError("no route to host\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(RecipeError) as caught:
        config(hub="someone/model")
    (problem,) = caught.value.problems
    assert problem.path == "hub"
    assert problem.what == "someone/model could not be had from the Hugging Face hub: no route to host"
    assert "write path: FOLDER" in problem.next_step


def test_what_the_hub_gave_once_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot(name: str, *, local_files_only: bool = False, **wanted: Any) -> str:
        asked.append((name, wanted["revision"], local_files_only))
        if local_files_only and len(asked) == 1:
            raise FileNotFoundError("not in the cache")
        return str(tmp_path)

    saved(tmp_path, BERT)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    for _ in range(2):
        assert config(hub="someone/model", revision="v1").architecture["model_type"] == "bert"
    name = ("someone/model", "v1")
    assert asked == [(*name, True), (*name, False), (*name, True)]


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"not installed; pip install 'mcomp\[transformers\]'"):
        config(architecture=BERT)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, "needs path, hub, or an architecture"),
        ({"hub": "a/b", "path": "."}, "two places for one model"),
        ({"hub": "a/b", "num_classes": 3}, "num_classes is for"),
        ({"hub": "a/b", "output": "logits", "normalize": True}, "are for output: embedding"),
        ({"hub": "a/b", "family": "masked_lm", "pooling": "mean"}, "are for output: embedding"),
    ],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        TransformersConfig.model_validate({"type": "transformers", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"output": "embedding", "pooling": "first", "normalize": True},
        {"output": "last_hidden_state"},
        {"family": "sequence_classification", "num_classes": 3},
        {"family": "masked_lm"},
    ],
)
def test_what_is_kept_of_a_model_builds_it_again(fields: dict[str, Any], tmp_path: Path) -> None:
    fitted = config(architecture=BERT, **fields)
    save_model(Model(fitted.build().eval(), fitted), tmp_path)
    again = load_model(tmp_path).spec
    assert isinstance(again, TransformersConfig)
    assert again.spec() == fitted.spec()
    assert (again.pooling, again.served_output) == (fitted.pooling, fitted.served_output)


def test_texts_of_more_tokens_than_the_model_has_positions_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, BERT)
    plain = TransformersConfig.model_validate({"type": "transformers", "path": tmp_path})
    most = BERT["max_position_embeddings"]
    fits, too_long = (
        DataFacts(varying={"input_ids": {1: VaryingSize("sequence", longest)}})
        for longest in (most, most + 1)
    )
    assert plain.fitted_to(fits).architecture
    with pytest.raises(RecipeError, match=f"{most + 1} tokens; set max_length of the data to {most} or less"):
        plain.fitted_to(too_long)


def test_positions_that_are_computed_have_no_end() -> None:
    facts = DataFacts(varying={"input_ids": {1: VaryingSize("sequence", 100)}})
    require_positions({"max_position_embeddings": 16, "rope_parameters": {}}, facts)
    require_positions({}, facts)


def test_attention_is_made_of_plain_operators(captured: tuple[nn.Module, GraphModule]) -> None:
    names = {str(node.target) for node in captured[1].graph.nodes}
    assert "aten.softmax.int" in names
    assert not any("scaled_dot_product" in name for name in names)


def test_the_place_of_a_folder_is_in_no_spec(tmp_path: Path) -> None:
    specs = []
    for name in ("one", "two"):
        saved(tmp_path / name, BERT)
        specs.append(config(path=tmp_path / name).spec())
    assert specs[0] == specs[1]
    assert math.isclose(specs[0]["architecture"]["layer_norm_eps"], 1e-12)
