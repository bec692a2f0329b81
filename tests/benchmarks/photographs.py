"""What each way to quantize EfficientNet-Lite0 after training keeps of its answers, without labels.

    python recipes/make_photographs.py
    python tests/benchmarks/photographs.py --out cells.jsonl

`quantize.static` with the fields of `recipes/efficientnet_lite0_int8.yaml`, but for what a row says; and a
training without labels. Each is asked about the photographs of validation and of train, on which choices are
made: how often its class is that of the network in float. Each finished row is a line of `--out`; started
again, it goes on behind them. Some two minutes a row on an idle core. The test split is for the recipe.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from mcomp.data.contract import Data, Split
from mcomp.data.splits import Splits, TensorSplit
from mcomp.model.model import Model
from mcomp.stage import Context, StageConfig
from mcomp_stages.data.image_folder import ImageFolderConfig
from mcomp_stages.models.efficientnet_lite import EfficientNetLiteConfig
from mcomp_stages.quantize.qat import QuantizeQat
from mcomp_stages.quantize.static import QuantizeStatic
from mcomp_stages.tasks.fidelity import FidelityConfig
from tests.benchmarks.trained import context_for

RECIPES = Path(__file__).parents[2] / "recipes"
CHUNK = 26  # images at once
SHORT = {"bits": 8, "sums": "int16"}
STATIC: dict[str, dict[str, Any]] = {
    "7 bits": {"weights": {"bits": 7}, "equalize": False},
    "int16": {"equalize": False},
    "int16, extremes": {"equalize": False, "observer": {"type": "minmax"}},
    "int16, percentile": {"equalize": False, "observer": {"type": "percentile"}},
    "int16, KL": {"equalize": False, "observer": {"type": "kl"}},
    "int16, biases as they are": {"equalize": False, "bias_correction": False},
    "int16, AdaRound": {"equalize": False, "adaround": {"steps": 200, "batch_size": 16}},
    "int16, equalised": {},
    "8 bits, slow sums": {"equalize": False, "weights": {"bits": 8}},
    "8 bits, slow sums, activations of 16": {
        "equalize": False,
        "weights": {"bits": 8},
        "activations": {"bits": 16},
    },
}
TRAINED = {"SGD at 0.0001": 0.0001, "SGD at 0.001": 0.001}


def stages() -> dict[str, StageConfig]:
    """Return the rows."""
    asked = yaml.safe_load((RECIPES / "efficientnet_lite0_int8.yaml").read_text())["stages"]["static"]
    static = {name: QuantizeStatic.model_validate({**asked, **other}) for name, other in STATIC.items()}
    return {**static, **{name: trained(rate) for name, rate in TRAINED.items()}}


def trained(rate: float) -> QuantizeQat:
    """Return two epochs on the answers of the network in float."""
    optimizer, schedule = {"type": "sgd", "lr": rate}, {"type": "cosine"}
    return QuantizeQat.model_validate(
        {
            "weights": SHORT,
            "observer": {"type": "mse"},
            "moving_statistics": 0.0,
            "moving_ranges": 0.0,
            "training": {"epochs": 2, "optimizer": optimizer, "schedule": schedule},
        }
    )


def network() -> Model:
    spec = EfficientNetLiteConfig(variant="lite0", num_classes=1000, in_channels=3)
    module = spec.build()
    weights = torch.load(RECIPES / "photographs" / "efficientnet_lite0.pth", weights_only=True)
    module.load_state_dict(weights)
    return Model(module.eval(), spec)


def images(split: Split) -> Tensor:
    return split.batch(torch.arange(len(split))).inputs["image"]


def answers(module: nn.Module, image: Tensor) -> Tensor:
    """Return the scores (N, classes)."""
    with torch.no_grad():
        return torch.cat([module(each) for each in image.split(CHUNK)])


def with_answers(data: Data, module: nn.Module) -> Splits:
    """Return the splits with what the network in float says as targets; train has mirror images too."""
    found = {name: images(data.split(name)) for name in ("train", "validation", "calibration")}
    found["train"] = torch.cat([found["train"], found["train"].flip(3)])
    return Splits(
        {
            name: TensorSplit(torch.arange(len(image)), {"image": image}, answers(module, image))
            for name, image in found.items()
        }
    )


def cell(name: str, stage: StageConfig, model: Model, context: Context, data: Data) -> dict[str, Any]:
    """Quantize one way; return the number of same answers, and of photographs."""
    result = stage.run(model, context).model
    assert result is not None
    whole, small = (each.inference_module(context.example) for each in (model, result))
    same, asked = {}, 0
    for split in ("validation", "train"):
        image = images(data.split(split))
        equal = answers(small, image).argmax(1) == answers(whole, image).argmax(1)
        same[split], asked = int(equal.sum()), asked + len(equal)
    return {"row": name, **same, "percent": round(100 * sum(same.values()) / asked, 1)}


def main() -> None:
    """Do the rows that are missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each row")
    parser.add_argument("--only", default="", help="rows whose names begin so (default: all)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fields = yaml.safe_load((RECIPES / "efficientnet_lite0_int8.yaml").read_text())["data"]
    data = ImageFolderConfig.model_validate({**fields, "path": RECIPES / fields["path"]}).load()
    model = network()
    context = replace(
        context_for(data, 0, Path("/nonexistent")), task=FidelityConfig(by="agreement"), batch_size=16
    )
    context = replace(context, data=with_answers(data, model.inference_module(context.example)))
    done = {json.loads(line)["row"] for line in given.out.open()} if given.out.exists() else set()
    for name, stage in stages().items():
        if name.startswith(given.only) and name not in done:
            found = json.dumps(cell(name, stage, model, context, data))
            print(found, flush=True)
            with given.out.open("a") as file:
                file.write(found + "\n")


if __name__ == "__main__":
    main()
