"""The ways that `solar_cells.py` compares: a stage, the network that it begins with, and its control."""

from __future__ import annotations

from typing import Any, NamedTuple

from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import StageConfig
from mcomp_stages.distill.itself import DistillSelf
from mcomp_stages.distill.offline import DistillOffline
from mcomp_stages.distill.online import DistillOnline
from mcomp_stages.models.lenet5 import LeNet5Config
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.prune.channels import PruneChannels
from mcomp_stages.prune.hessian import PruneHessian
from mcomp_stages.prune.learned import PruneLearned
from mcomp_stages.prune.nm import PruneNm
from mcomp_stages.prune.unstructured import PruneUnstructured
from mcomp_stages.quantize.binary import QuantizeBinary
from mcomp_stages.quantize.mixed import QuantizeMixed
from mcomp_stages.quantize.qat import QuantizeQat
from mcomp_stages.quantize.static import QuantizeStatic
from mcomp_stages.train.supervised import Train
from tests.benchmarks.quantization_in_training import uniform_mean_bits

SHAPE: dict[str, Any] = {"in_channels": 1, "num_classes": 2}
NETWORKS: dict[str, ModelConfig] = {
    "student": LeNet5Config(image_size=32, **SHAPE),
    "float": ResNetConfig(depth=20, width=8, **SHAPE),
    "scratch": ResNetConfig(depth=20, width=8, **SHAPE),
    "teacher": ResNetConfig(depth=20, width=16, **SHAPE),
}
SCRATCH: dict[str, Any] = {
    "epochs": 20,
    "optimizer": {"type": "sgd", "lr": 0.05},
    "schedule": {"type": "one_cycle"},
}
STUDENT = {**SCRATCH, "optimizer": {"type": "adamw", "lr": 0.004}}
TWICE = {**STUDENT, "epochs": 40}
FINE: dict[str, Any] = {"epochs": 4, "optimizer": {"type": "sgd", "lr": 0.01}}
TEACHERS = [RecipeRef(recipe=f"teacher {number}") for number in range(3)]
ENDS = [{"layer": end, "weights": {"bits": 8}, "activations": {"bits": 8}} for end in ("first", "last")]
EIGHT = {"bits": 8}
KD = {"type": "kd", "temperature": 4.0, "weight": 0.7}
MIDDLE = [{"student": "conv2", "teacher": "layer2"}]
LAST = [{"student": "fc2", "teacher": "layer3"}]


class Row(NamedTuple):
    """A stage, the network that it begins with (`float` is trained, others are fresh), and its control."""

    stage: StageConfig
    start: str
    control: str


def learning(stage: StageConfig, control: str = "student, labels alone") -> Row:
    return Row(stage, "student", control)


def following(*terms: dict[str, Any], **fields: Any) -> Row:
    said = {"teachers": TEACHERS[:1], "loss": list(terms), "training": STUDENT, **fields}
    return learning(DistillOffline.model_validate(said))


def peers(method: dict[str, Any]) -> Row:
    said = {"method": method, "peers": 2, "training": STUDENT}
    return learning(DistillOnline.model_validate(said), "student, best of two")


def itself(method: str, control: str = "student, labels alone") -> Row:
    return learning(DistillSelf.model_validate({"method": {"type": method}, "training": STUDENT}), control)


def few_bits(bits: int, method: str) -> Row:
    widths = {"weights": {"bits": bits}, "activations": {"bits": bits}}
    said = {**widths, "method": {"type": method}, "overrides": ENDS, "training": FINE}
    return Row(QuantizeQat.model_validate(said), "float", f"{bits} bits, minmax")


def one_bit(control: str, **fields: Any) -> Row:
    said = {"training": STUDENT | {"epochs": 10}, "first_step": {"epochs": 5}, **fields}
    return Row(QuantizeBinary.model_validate(said), "float", control)


def gradients(bits: int, rounding: str, control: str) -> Row:
    said = {"training": {**SCRATCH, "gradients": {"bits": bits, "rounding": rounding}}}
    return Row(Train.model_validate(said), "scratch", control)


def channels(importance: str) -> Row:
    said = {
        "importance": importance,
        "target": {"macs": 0.5},
        "round_to": 2,
        "min_channels": 2,
        "recover": FINE,
    }
    return Row(PruneChannels.model_validate(said), "float", "half the MACs, random")


def learned(penalty: str, strength: float, importance: str) -> Row:
    said = {
        "penalty": {"type": penalty, "strength": strength},
        "importance": importance,
        "training": {**FINE, "epochs": 6},
        "target": {"macs": 0.5},
        "round_to": 2,
        "min_channels": 2,
        "recover": {**FINE, "epochs": 2},
    }
    return Row(PruneLearned.model_validate(said), "float", "half the MACs after training alone")


def zeros(schedule: dict[str, Any]) -> Row:
    said = {"sparsity": 0.9, "schedule": schedule, "recover": {**FINE, "epochs": 8}}
    return Row(PruneUnstructured.model_validate(said), "float", "90 % zeros, one shot")


def at_once(share: float, method: str | None = None) -> Row:
    """Zeros without training; without a method by magnitude."""
    control = f"{share:.0%} zeros at once, magnitude"
    if method is None:
        return Row(PruneUnstructured.model_validate({"sparsity": share, "scope": "layer"}), "float", control)
    said = {"sparsity": share, "method": method, "samples": 256, "damping": 0.1}
    return Row(PruneHessian.model_validate(said), "float", control)


def three_bits() -> dict[str, Row]:
    """Weights of three bits on average: each layer, and each layer as many as it needs."""
    name = "weights of 3 bits, each layer"
    even = {"weights": {"bits": 3}, "activations": EIGHT, "overrides": ENDS, "training": FINE}
    uneven = {
        "budget": {"mean_bits": uniform_mean_bits(NETWORKS["float"], 3)},
        "activations": EIGHT,
        "sensitivity": "measured",
        "overrides": ENDS,
        "training": FINE,
    }
    return {
        name: Row(QuantizeQat.model_validate(even), "float", name),
        "weights of 3 bits on average, mixed": Row(QuantizeMixed.model_validate(uneven), "float", name),
    }


ROWS: dict[str, Row] = {
    "student, labels alone": learning(Train.model_validate({"training": STUDENT})),
    "student, twice the epochs": learning(Train.model_validate({"training": TWICE})),
    "student, best of two": learning(Train.model_validate({"training": STUDENT})),
    "student, KD": following(KD),
    "student, KD, no labels": following({**KD, "weight": 1.0}, labels=0),
    "student, KD, three teachers": following(KD, teachers=TEACHERS),
    "student, DKD": following({"type": "dkd", "temperature": 4.0, "weight": 0.7}),
    "student, DIST": following({"type": "dist", "temperature": 1.0, "weight": 0.7}),
    "student, FitNet": following({"type": "fitnet", "taps": MIDDLE}),
    "student, AT": following({"type": "at", "taps": MIDDLE}),
    "student, SP": following({"type": "sp", "taps": LAST}),
    "student, RKD": following({"type": "rkd", "taps": LAST}),
    "student, CRD": following({"type": "crd", "taps": LAST}),
    "student, mutual learning": peers({"type": "dml"}),
    "student, KDCL": peers({"type": "kdcl"}),
    "student, ONE": peers({"type": "one", "branch": ["fc*"]}),
    "student, Be Your Own Teacher": itself("byot"),
    "student, PS-KD": itself("ps_kd"),
    "student, Born-Again": itself("born_again", "student, twice the epochs"),
    "trained on": Row(Train.model_validate({"training": FINE}), "float", "trained on"),
    "8 bits, after training": Row(
        QuantizeStatic.model_validate({"samples": 128}), "float", "8 bits, after training"
    ),
    **{
        f"{bits} bits, {method}": few_bits(bits, method) for bits in (4, 3, 2) for method in ("minmax", "lsq")
    },
    **three_bits(),
    "ternary weights": one_bit("trained on", weights="ternary", activations=8),
    "binary weights": one_bit("trained on", activations=8),
    "binary weights and activations": one_bit("trained on"),
    "gradients of 8 bits": gradients(8, "stochastic", "gradients of 8 bits"),
    "gradients of 4 bits": gradients(4, "stochastic", "gradients of 8 bits"),
    "gradients of 4 bits, to nearest": gradients(4, "nearest", "gradients of 4 bits"),
    **{f"half the MACs, {importance}": channels(importance) for importance in ("random", "l2", "taylor")},
    "half the MACs after training alone": learned("l2", 1e-9, "l2"),
    "half the MACs after L1": learned("l1", 0.01, "l1"),
    "half the MACs after group lasso": learned("group_lasso", 0.01, "l2"),
    "half the MACs after slimming": learned("slimming", 0.1, "bn_scale"),
    "half the MACs after growing": learned("growing", 10.0, "l2"),
    "90 % zeros, one shot": zeros({"type": "one_shot"}),
    "90 % zeros, gradual": zeros({"type": "gradual"}),
    "2 of 4": Row(PruneNm.model_validate({"skip": ["conv1"], "recover": FINE}), "float", "trained on"),
    **{
        f"{share:.0%} zeros at once, {method or 'magnitude'}": at_once(share, method)
        for share in (0.5, 0.6, 0.7)
        for method in (None, "wanda", "obs")
    },
}
