"""Folders as the Hugging Face hub has them: code beside the weights, parts elsewhere, lies in config.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.hostile.attack import Attack, Prepare, both, files, hole, link, pipe
from tests.hostile.headers import encoded
from tests.hostile.pickle_code import PAYLOAD, archive, call, text
from tests.hostile.pickles import ESCAPES
from tests.hostile.recipes import LONGEST

BERT = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}
INDEX = "model.safetensors.index.json"
CODE = archive(call("os", "system", text(PAYLOAD)))
EVIL = f"import os\nos.system('{PAYLOAD}')\nclass Evil: pass\n"


def plan(folder: Path) -> None:
    """Look at the folder as the plan of a recipe does, and digest its weights."""
    from mcomp.data.contract import DataFacts
    from mcomp.model.shards import weights_digest

    fitted = config_of(folder).fitted_to(DataFacts())
    weights_digest(Path(str(fitted.checkpoint)))


def build(folder: Path) -> None:
    """Build the model and fill it."""
    from mcomp.data.contract import DataFacts

    fitted = config_of(folder).fitted_to(DataFacts())
    fitted.fill(fitted.build(), Path(str(fitted.checkpoint)))


def config_of(folder: Path) -> Any:
    """Return what a recipe says of such a model."""
    from mcomp_stages.models.huggingface import TransformersConfig

    return TransformersConfig(path=folder / "hub")


def save(folder: Path) -> None:
    """Save a small model without its weights, as transformers does."""
    files({"hub/config.json": json.dumps(BERT), "hub/model.safetensors": encoded(b"{}", b"")})(folder)


def laid(
    prepare: Prepare,
    told: str,
    source: str = "own",
    act: Callable[[Path], object] = plan,
    error: str = "RecipeError",
    seconds: float = 0.1,
) -> Attack:
    """Return an attack by what lies in the folder."""
    return Attack(source, both(save, prepare), act, told, error=error, seconds=seconds)


def said(changes: Mapping[str, Any], told: str, source: str = "own") -> Attack:
    """Return an attack by the configuration; what is built for it takes a little longer."""
    written = files({"hub/config.json": json.dumps({**BERT, **changes}), "hub/modeling_evil.py": EVIL})
    error = "CheckpointError" if "lacks" in told else "RecipeError"
    return laid(written, told, source, build, error, LONGEST)


def index(weight_map: Any, told: str, source: str = "cwe-22") -> Attack:
    """Return an attack by the list of the parts."""

    def write(folder: Path) -> None:
        (folder / "hub" / "model.safetensors").unlink()
        (folder / "hub" / INDEX).write_text(json.dumps({"weight_map": weight_map}))

    return laid(write, told, source, error="CheckpointError")


def instead(name: str, make: Callable[[str], Prepare]) -> Prepare:
    """Return what puts something else in the place of a file."""
    return both(lambda folder: (folder / "hub" / name).unlink(), make(f"hub/{name}"))


OUTSIDE = "../../../outside/secret.safetensors"
AUTO_MAP = {"AutoConfig": "modeling_evil.Evil", "AutoModel": "modeling_evil.Evil"}
ATTACKS: dict[str, Attack] = {
    # code of others
    "code for a known model": said({"auto_map": AUTO_MAP}, "lacks", "hub-code"),
    "code for a model of its own": said(
        {"model_type": "evil", "auto_map": AUTO_MAP}, "has no evil", "hub-code"
    ),
    "code, and the wish to trust it": said(
        {"auto_map": AUTO_MAP, "trust_remote_code": True}, "lacks", "hub-code"
    ),
    "a kernel of the hub for attention": said(
        {"attn_implementation": "evil/kernels", "_attn_implementation": "evil/kernels"}, "lacks", "hub-code"
    ),
    "another place to load from": said({"_name_or_path": "evil/model", "base_model": "evil/model"}, "lacks"),
    "a class of Python": said({"architectures": ["os.system"], "model_type": "os"}, "has no os"),
    "quantized weights": said({"quantization_config": {"quant_method": "evil"}}, "are quantized already"),
    "a backbone of the hub": said(
        {"model_type": "dpt", "backbone": "evil/model"}, "is not fetched", "hub-code"
    ),
    "a backbone of the hub, with its weights": said(
        {"model_type": "detr", "backbone": "evil/model", "use_pretrained_backbone": True},
        "is not fetched",
        "hub-code",
    ),
    "a backbone in a folder": said(
        {"model_type": "upernet", "backbone": "../../outside"}, "is not fetched", "cwe-22"
    ),
    "a backbone with escapes": said({"backbone": ESCAPES}, r"\x1b[2J", "cwe-150"),
    "a backbone further in": said({"text_config": {"backbone": "evil/model"}}, "is not fetched", "hub-code"),
    "quantized weights further in": said(
        {"text_config": {"quantization_config": {"quant_method": "evil"}}}, "are quantized already"
    ),
    "a billion classes": said({"num_labels": 10**9}, "num_labels is more than", "cwe-770"),
    "more tokens than bytes": said({"vocab_size": 2**60}, "cannot build bert", "cwe-770"),
    "tokens below zero": said({"vocab_size": -1}, "cannot build bert"),
    "no heads": said({"num_attention_heads": 0}, "cannot build bert"),
    "an activation that does not exist": said(
        {"hidden_act": "evil/kernels:gelu"}, "cannot build bert", "hub-code"
    ),
    "a token of padding beyond": said({"pad_token_id": 99}, "cannot build bert"),
    "experts of the hub": said({"experts_implementation": "evil/kernels"}, "cannot build bert", "hub-code"),
    "the class of a configuration": said({"__class__": "evil.Evil"}, "with these fields"),
    "a type of numbers that is a module": said({"dtype": "os", "torch_dtype": "os"}, "lacks"),
    "an adapter of another model": said({"peft_type": "LORA", "base_model_name_or_path": "evil/x"}, "lacks"),
    "a size of another kind": said({"hidden_size": "8"}, "with these fields"),
    "pickled weights that run code": laid(
        instead("model.safetensors", lambda name: files({"hub/pytorch_model.bin": CODE})),
        "would call os.system",
        "python-pickle",
        build,
        "CheckpointError",
        LONGEST,
    ),
    # parts
    "a part above": index({"w": OUTSIDE}, "no safetensors file beside it"),
    "a part under an absolute name": index({"w": "/etc/passwd"}, "no safetensors file beside it"),
    "a part that is a pickle": index({"w": "evil.bin"}, "no safetensors file beside it", "picklescan-769v"),
    "a part that is a module": index({"w": "evil.py"}, "no safetensors file beside it", "hub-code"),
    "a part with escapes": index({"w": f"{ESCAPES}.bin"}, "no safetensors file beside it", "cwe-150"),
    "parts that are a list": index(["x"], "it has no weight_map", "own"),
    "an index nested too deep": laid(
        both(
            lambda folder: (folder / "hub" / "model.safetensors").unlink(),
            files({f"hub/{INDEX}": "[" * 200_000}),
        ),
        "is no index of a checkpoint",
        "cwe-674",
        error="CheckpointError",
    ),
    "an index of a terabyte": laid(
        instead("model.safetensors", lambda name: hole(f"hub/{INDEX}")),
        "it is larger than",
        "cwe-770",
        error="CheckpointError",
    ),
    # config.json
    "a configuration nested too deep": laid(
        files({"hub/config.json": "[" * 200_000}), "is no JSON", "cwe-674"
    ),
    "a configuration of a terabyte": laid(instead("config.json", hole), "it is larger than", "cwe-770"),
    "a configuration of infinities": laid(files({"hub/config.json": '{"a": 1e999}'}), "no finite number"),
    "a configuration with escapes": laid(files({"hub/config.json": '"\x1b[2J'}), "is no JSON", "cwe-150"),
    "a configuration that is a list": laid(files({"hub/config.json": "[]"}), "says no model_type"),
    "a configuration that is a pipe": laid(instead("config.json", pipe), "no plain file", "cwe-67"),
    "a configuration that is a device": laid(
        instead("config.json", lambda name: link(name, "/dev/zero")), "no plain file", "cwe-67"
    ),
    "weights that are a device": laid(
        instead("model.safetensors", lambda name: link(name, "/dev/zero")), "holds no weights", "cwe-67"
    ),
    "no weights": laid(lambda folder: (folder / "hub/model.safetensors").unlink(), "holds no weights"),
}
