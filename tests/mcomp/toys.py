"""A model of two numbers a class, data of points, and stages that take no time: what a person could write.

Importing this module registers them, as `--import` does.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mcomp import plugins
from mcomp.config import no_effect
from mcomp.data.contract import DataConfig, DataFacts, SplitName
from mcomp.data.splits import Splits, TensorSplit
from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp.task import TaskConfig

NUM_CLASSES, NUM_SAMPLES = 3, 12

RECIPE = """\
version: 1
name: toy
model: {type: toy.net}
data: {type: toy.points}
stages:
  fit: {type: toy.fit, by: 1.0}
  more: {type: toy.fit, by: 0.5}
  export: {type: toy.export}
measure: {rounds: 3, batch_sizes: [1]}
"""


class PointNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, NUM_CLASSES)

    def forward(self, point: Tensor) -> Tensor:
        logits: Tensor = self.fc(point)
        return logits


@plugins.model("toy.net")
class ToyNet(ModelConfig):
    type: Literal["toy.net"] = "toy.net"
    breaks: bool = False

    def build(self) -> nn.Module:
        if self.breaks:
            raise ZeroDivisionError("no network")
        return PointNet()


@plugins.data("toy.points")
class ToyPoints(DataConfig):
    type: Literal["toy.points"] = "toy.points"
    scale: float = 1.0
    breaks: bool = False

    content: ClassVar[str] = "points"
    loaded: ClassVar[int] = 0

    def facts(self) -> DataFacts:
        return DataFacts(num_classes=NUM_CLASSES)

    def digest(self) -> str:
        return self.content

    def load(self) -> Splits:
        if self.breaks:
            raise KeyError("no points")
        type(self).loaded += 1
        names: tuple[SplitName, ...] = ("train", "calibration", "validation", "test")
        return Splits({name: self.split(seed) for seed, name in enumerate(names)})

    def split(self, seed: int) -> TensorSplit:
        points = self.scale * torch.randn(NUM_SAMPLES, 2, generator=torch.Generator().manual_seed(seed))
        at = torch.arange(NUM_SAMPLES)
        return TensorSplit(at + 100 * seed, {"point": points}, at % NUM_CLASSES)


@plugins.task("toy.sorting")
class ToySorting(TaskConfig):
    type: Literal["toy.sorting"] = "toy.sorting"


@plugins.stage("toy.fit")
class ToyFit(StageConfig):
    """Adds a number, and a random one, to every weight."""

    forms = {Form.UNTRAINED: Form.FLOAT, Form.FLOAT: Form.FLOAT}
    type: Literal["toy.fit"] = "toy.fit"
    by: float = 1.0
    note: str = no_effect(default="")
    teachers: tuple[RecipeRef, ...] = ()

    def run(self, model: Model, context: Context) -> StageResult:
        fitted = model.copy()
        noise = torch.rand((), generator=context.generator("noise"))
        with torch.no_grad():
            for parameter in fitted.module.parameters():
                parameter += self.by + noise
        return StageResult(fitted, facts={"by": self.by})


@plugins.stage("toy.idle")
class ToyIdle(StageConfig):
    """Does nothing, with or without a reason."""

    forms = {Form.FLOAT: Form.FLOAT}
    type: Literal["toy.idle"] = "toy.idle"
    reason: str = ""

    def run(self, model: Model, context: Context) -> StageResult:
        return StageResult(model.copy(), unchanged=self.reason)


ERRORS: dict[str, BaseException] = {
    "unforeseen": ZeroDivisionError("half way"),
    "stage": StageError("cannot do it", module="fc"),
    "full": OSError(28, "No space left on device"),
    "interrupt": KeyboardInterrupt(),
    "end of file": EOFError("no more"),
}


@plugins.stage("toy.broken")
class ToyBroken(StageConfig):
    """Writes half of a file and raises."""

    forms = {Form.FLOAT: Form.FLOAT}
    type: Literal["toy.broken"] = "toy.broken"
    error: Literal["unforeseen", "stage", "full", "interrupt", "end of file"] = "unforeseen"

    def run(self, model: Model, context: Context) -> StageResult:
        (context.folder / "half").write_text("of a file")
        raise ERRORS[self.error]


@plugins.stage("toy.export")
class ToyExport(StageConfig):
    """Writes an ONNX file; `remark` goes into it and into no key, like what differs from run to run."""

    forms = {Form.FLOAT: Form.FLOAT}
    exports = "onnxruntime"
    type: Literal["toy.export"] = "toy.export"
    name: str = "model.onnx"
    remark: ClassVar[str] = ""

    def run(self, model: Model, context: Context) -> StageResult:
        path = context.folder / self.name
        path.write_bytes(onnx_file(model.module.state_dict(), self.remark))
        return StageResult(None, files={self.name: path})


def onnx_file(state: dict[str, Any], remark: str) -> bytes:
    """Return the network as the bytes of an ONNX file."""
    tensors = [numpy_helper.from_array(state[name].numpy(), name) for name in ("fc.weight", "fc.bias")]
    node = helper.make_node("Gemm", ["point", "fc.weight", "fc.bias"], ["output"], transB=1)
    inputs = [helper.make_tensor_value_info("point", TensorProto.FLOAT, ["batch", 2])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", NUM_CLASSES])]
    graph = helper.make_graph([node], "toy", inputs, outputs, tensors, doc_string=remark)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
