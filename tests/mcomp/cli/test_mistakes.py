"""What people get wrong in their first recipes, and every word that they are told: place, cause, next step."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from mcomp.cli import exit_code
from mcomp.plugins import Group, names
from mcomp.recipe.nearest import one_of
from tests.tiny import mcomp

TEACHER = """\
version: 1
name: teacher
model: {type: lenet5}
data: {type: digits, image_size: 12}
stages:
  train:
    type: train
    training: {epochs: 1}
"""

RECIPE = """\
version: 1
name: small
model: {type: lenet5}
data: {type: digits, image_size: 12}
baseline: {recipe: teacher.yaml}
pipeline: [distill, prune, qat, export]
stages:
  distill:
    type: distill.offline
    teachers: [{recipe: teacher.yaml}]
    loss: {type: kd, temperature: 4.0}
    training:
      epochs: 1
      optimizer: {type: sgd, lr: 0.05}
  prune:
    type: prune.channels
    importance: l2
    target: {macs: 0.5}
  qat:
    type: quantize.qat
    weights: {bits: 8}
    training: {epochs: 1}
  export:
    type: export.onnx
require:
  size_ratio: {min: 2.0}
"""

# ruff: noqa: E501 -- a table: what is written in place of what, and what is said
IN_THE_FILE = [
    ("    importance: l2", "   importance: l2",
        "small.yaml:17:4: is not YAML: this line is indented differently from its neighbours; indent keys of one mapping alike"),
    ("    importance: l2", "\timportance: l2",
        "small.yaml:17:1: is not YAML: a tab indents this line; use spaces"),
    ("importance: l2", "importance l2",
        "small.yaml:17:5: is not YAML: no colon here; write `key: value`, with a space"),
    ("importance: l2", "importance:l2",
        "small.yaml:17:5: is not YAML: no colon here; write `key: value`, with a space"),
    ("    training:\n      epochs: 1\n      optimizer", "    training:\n    epochs: 1\n    optimizer",
        "small.yaml:13:5: stages.distill.epochs: unknown key; did you mean 'training.epochs'?\n"
        "small.yaml:14:5: stages.distill.optimizer: unknown key; did you mean 'training.optimizer'?"),
    ("  distill:\n", "  distill:\n    epochs: 3\n",
        "small.yaml:9:5: stages.distill.epochs: unknown key; did you mean 'training.epochs'?"),
    ("      optimizer: {type: sgd, lr: 0.05}", "      lr: 0.05",
        "small.yaml:14:7: stages.distill.training.lr: unknown key; did you mean 'optimizer.lr'?"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: teacher.yaml",
        "small.yaml:10:15: stages.distill.teachers: must be a list, not 'teacher.yaml'; write [{recipe: teacher.yaml}]"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: [teacher.yaml]",
        "small.yaml:10:16: stages.distill.teachers.0: must be a mapping, not 'teacher.yaml'; write {recipe: teacher.yaml}"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: {recipe: teacher.yaml}",
        "small.yaml:10:15: stages.distill.teachers: must be a list, not a mapping; put it in a list: [{...}]"),
    ("teachers: [{recipe: teacher.yaml}]", "teacher: {recipe: teacher.yaml}",
        "small.yaml:10:5: stages.distill.teacher: unknown key; did you mean 'teachers'?"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: [{recipe: teacher}]",
        "small.yaml:10:25: stages.distill.teachers.0.recipe: there is no file teacher; did you mean teacher.yaml?"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: [{recipe: teacher.yaml, stages: train}]",
        "small.yaml:10:39: stages.distill.teachers.0.stages: unknown key; did you mean 'stage'?"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: [{recipe: teacher.yaml, stage: distill}]",
        "small.yaml:10:46: stages.distill.teachers.0.stage: teacher.yaml has no stage 'distill' in its pipeline; choose one of: train"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: [{recipe: teacher.yaml, overrides: ['sede=1']}]",
        "small.yaml:10:50: sede=1: unknown key; did you mean 'seed'?"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: [true]",
        "small.yaml:10:16: stages.distill.teachers.0: must be a mapping, not true; it is: models to learn from"),
    ("teachers: [{recipe: teacher.yaml}]", "teachers: [{recipe: teacher.yaml, overrides: seed=1}]",
        "small.yaml:10:50: stages.distill.teachers.0.overrides: must be a list, not 'seed=1'; write [seed=1]"),
    ("    teachers: [{recipe: teacher.yaml}]\n", "",
        "small.yaml:8:3: stages.distill.teachers: is missing; it is: models to learn from"),
    ("target: {macs: 0.5}", "target: {macs: 0.5, params: 0.5}",
        "small.yaml:18:13: stages.prune.target: give exactly one of macs, params, ratio, latency_ms, not macs and params"),
    ("target: {macs: 0.5}", "target: {macs: 1.5}",
        "small.yaml:18:20: stages.prune.target.macs: must be below 1.0, not 1.5; it is: share of multiply-adds to keep"),
    ("target: {macs: 0.5}", "target: {macs: 50%}",
        "small.yaml:18:20: stages.prune.target.macs: must be a number, not '50%'; it is: share of multiply-adds to keep"),
    ("target: {macs: 0.5}", "target: 0.5",
        "small.yaml:18:13: stages.prune.target: must be a mapping, not 0.5; it is: how much to cut: one of macs, params, ratio, latency_ms; default: see layers"),
    ("target: {macs: 0.5}", "target: {flops: 0.5}",
        "small.yaml:18:14: stages.prune.target.flops: unknown key; possible here: latency_ms, batch_size, threads, macs, params, ratio"),
    ("importance: l2", "importance: L2",
        "small.yaml:17:17: stages.prune.importance: must be 'l1', 'l2', 'fpgm', 'bn_scale', 'taylor', 'obd', 'apoz' or 'random', not 'L2'; did you mean 'l2'?"),
    ("importance: l2", "importance: l3",
        "small.yaml:17:17: stages.prune.importance: must be 'l1', 'l2', 'fpgm', 'bn_scale', 'taylor', 'obd', 'apoz' or 'random', not 'l3'; did you mean 'l2'?"),
    ("[distill, prune, qat, export]", "[distill, prune, export, qat]",
        "small.yaml:6:36: pipeline.3: 'qat' comes after the last export, so no file holds what it does; put export last"),
    ("[distill, prune, qat, export]", "[distill, qat, prune, export]",
        "small.yaml:16:11: stages.prune.type: prune.channels takes a float model, and the stage before it leaves a quantized one; change the order in pipeline, or take one of the two out of it"),
    ("[distill, prune, qat, export]", "[prune, qat, export]",
        "small.yaml:16:11: stages.prune.type: prune.channels needs trained weights, and nothing before it trained or loaded any; set model.checkpoint, or put a train or distill stage before it"),
    ("[distill, prune, qat, export]", "distill, prune, qat, export",
        "small.yaml:6:11: pipeline: must be a list, not 'distill, prune, qat, export'; write [distill, prune, qat, export]"),
    ("[distill, prune, qat, export]", "[distill prune qat export]",
        "small.yaml:6:12: pipeline.0: must be a name of letters, digits, - and _ that starts with a letter, not 'distill prune qat export'; it is: the order; default: the order of `stages`"),
    ("[distill, prune, qat, export]", "[distil, prune, qat, export]",
        "small.yaml:6:12: pipeline.0: there is no stage 'distil'; did you mean 'distill'?"),
    ("image_size: 12", "image_size: 12, batch_size: 0",
        "small.yaml:4:50: data.batch_size: must be at least 1, not 0; it is: samples in a training batch"),
    ("image_size: 12", "image_size: 12, batchsize: 64",
        "small.yaml:4:38: data.batchsize: unknown key; did you mean 'batch_size'?"),
    ("temperature: 4.0", "temperature: -4",
        "small.yaml:11:35: stages.distill.loss.temperature: must be above 0.0, not -4; it is: both outputs are divided by it before the softmax"),
    ("temperature: 4.0", "T: 4",
        "small.yaml:11:22: stages.distill.loss.T: unknown key; possible here: weight, temperature, standardize, type"),
    ("loss: {type: kd, temperature: 4.0}", "loss: kd",
        "small.yaml:11:11: stages.distill.loss: must be a list, not 'kd'; write [{type: kd}]"),
    ("loss: {type: kd, temperature: 4.0}", "loss: {temperature: 4.0}",
        "small.yaml:11:5: stages.distill.loss.type: is missing; it must be one of 'kd', 'dkd', 'dist', 'mse', 'cosine', 'fitnet', 'at', 'sp', 'rkd', 'crd', 'hidden', 'relations'"),
    ("optimizer: {type: sgd, lr: 0.05}", "optimizer: SGD",
        "small.yaml:14:18: stages.distill.training.optimizer: must be a mapping, not 'SGD'; write {type: sgd}"),
    ("optimizer: {type: sgd, lr: 0.05}", "optimizer: 0.05",
        "small.yaml:14:18: stages.distill.training.optimizer: must be a mapping, not 0.05; its `type` is one of 'sgd', 'adamw'"),
    ("optimizer: {type: sgd, lr: 0.05}", "optimizer: {lr: 0.05}",
        "small.yaml:14:7: stages.distill.training.optimizer.type: is missing; it must be one of 'sgd', 'adamw'"),
    ("type: sgd", "type: adam",
        "small.yaml:14:25: stages.distill.training.optimizer.type: must be 'sgd', 'adamw', not 'adam'; did you mean 'adamw'?"),
    ("lr: 0.05", "lr: '0.05'",
        "small.yaml:14:34: stages.distill.training.optimizer.lr: must be a number, not '0.05'; remove the quotes"),
    ("lr: 0.05", "lr: 0,05",
        "small.yaml:14:36: stages.distill.training.optimizer: `05` means different things in YAML 1.1 and 1.2; write a plain decimal number without zeros before it, or quote it"),
    ("lr: 0.05", "learning_rate: 0.05",
        "small.yaml:14:30: stages.distill.training.optimizer.learning_rate: unknown key; possible here: type, lr, momentum, weight_decay, nesterov"),
    ("training:\n      epochs: 1\n", "training:\n      epochs: '4'\n",
        "small.yaml:13:15: stages.distill.training.epochs: must be an integer, not '4'; remove the quotes"),
    ("training:\n      epochs: 1\n", "training:\n      epochs: true\n",
        "small.yaml:13:15: stages.distill.training.epochs: must be an integer, not true"),
    ("training:\n      epochs: 1\n", "training:\n      epochs: 4.0\n",
        "small.yaml:13:15: stages.distill.training.epochs: must be an integer, not 4.0; write 4"),
    ("training:\n      epochs: 1\n", "training:\n      epoch: 4\n",
        "small.yaml:13:7: stages.distill.training.epoch: unknown key; did you mean 'epochs'?"),
    ("weights: {bits: 8}", "weights: 8",
        "small.yaml:21:14: stages.qat.weights: must be a mapping, not 8"),
    ("weights: {bits: 8}", "weights: {bits: 9}",
        "small.yaml:21:21: stages.qat.weights.bits: must be 2, 3, 4, 5, 6, 7 or 8, not 9; it is: 8: what the runtimes have fast operators for; 1 has a stage: quantize.binary"),
    ("weights: {bits: 8}", "bits: 8",
        "small.yaml:21:5: stages.qat.bits: unknown key; possible here: type, preset, weights, activations, keep_float, overrides, method, observer, calibration_batches, moving_ranges, moving_statistics, lowering, latent_weights, training"),
    ("model: {type: lenet5}", "model: lenet5",
        "small.yaml:3:8: model: must be a mapping; its `type` is <models>"),
    ("model: {type: lenet5}", "model: {type: lenet}",
        "small.yaml:3:15: model.type: unknown type 'lenet'; did you mean 'lenet5'? (<models>)"),
    ("model: {type: lenet5}", "model: {name: lenet5}",
        "small.yaml:3:1: model.type: is missing; it is <models>"),
    ("model: {type: lenet5}", "model: {type: lenet5, num_classes: ten}",
        "small.yaml:3:36: model.num_classes: must be an integer, not 'ten'; it is: default: the data's"),
    ("model: {type: lenet5}", "model: {type: lenet5, checkpoint: best.pt}",
        "small.yaml:3:35: model.checkpoint: there is no file best.pt"),
    ("model: {type: lenet5}", "model: {type: lenet5, checkpoint: teacher.yaml}",
        "small.yaml:3:35: model.checkpoint: is a recipe, not a model; write {recipe: teacher.yaml}"),
    ("model: {type: lenet5}\n", "",
        "small.yaml:1:1: model: is missing; it is: what to compress"),
    ("data: {type: digits, image_size: 12}", "data: {type: cifar}",
        "small.yaml:4:14: data.type: unknown type 'cifar'; it must be <data>; one of your own needs --import MODULE"),
    ("type: export.onnx", "type: onnx",
        "small.yaml:24:11: stages.export.type: unknown type 'onnx'; did you mean 'export.onnx'? (<stages>)"),
    ("type: export.onnx", "type: export.onnx\n    opset: 11",
        "small.yaml:25:12: stages.export.opset: must be at least 21, not 11; it is: version of the ONNX operators: "
        "integers of 4 and 16 bits, and scales in groups, came with 21"),
    ("type: quantize.qat", "type: qat",
        "small.yaml:20:11: stages.qat.type: unknown type 'qat'; did you mean 'quantize.qat'? (<stages>)"),
    ("type: prune.channels\n    importance: l2\n    target: {macs: 0.5}\n  qat:\n    type: quantize.qat\n    weights: {bits: 8}\n    training: {epochs: 1}",
        "type: quantize.static\n  qat:\n    type: quantize.static\n    weights: {bits: 7}",
        "small.yaml:18:11: stages.qat.type: quantize.static takes a float model, and the stage before it leaves a quantized one; change the order in pipeline, or take one of the two out of it"),
    ("type: quantize.qat\n    weights: {bits: 8}\n    training: {epochs: 1}", "type: quantize.static\n    weights: {bits: 9}\n    samples: 0",
        "small.yaml:21:21: stages.qat.weights.bits: must be 2, 3, 4, 5, 6, 7 or 8, not 9; it is: 8: what the runtimes have fast operators for; 1 has a stage: quantize.binary\n"
        "small.yaml:22:14: stages.qat.samples: must be at least 2, not 0; it is: calibration samples"),
    ("stages:\n", "stage:\n",
        "small.yaml:7:1: stage: unknown key; did you mean 'stages'?"),
    ("stages:\n  distill:\n    type: distill.offline", "stages:\n  - name: distill\n    type: distill.offline",
        "small.yaml:15:3: is not YAML: this line is indented differently from its neighbours; indent keys of one mapping alike"),
    ("size_ratio: {min: 2.0}", "size_ratio: 2.0",
        "small.yaml:26:15: require.size_ratio: must be a mapping, not 2.0; write {min: 2.0} or {max: 2.0}"),
    ("size_ratio: {min: 2.0}", "sizeratio: {min: 2.0}",
        "small.yaml:26:3: require.sizeratio: unknown key; did you mean 'size_ratio'?"),
    ("size_ratio: {min: 2.0}", "acuracy: {min: 0.9}",
        "small.yaml:26:3: require.acuracy: unknown key; did you mean 'accuracy'?"),
    ("size_ratio: {min: 2.0}", "accuracy: {min: 90%}",
        "small.yaml:26:19: require.accuracy.min: must be a number, not '90%'; it is: lower bound"),
    ("size_ratio: {min: 2.0}", "speedup: {min: 2.0, batch_size: 8}",
        "small.yaml:26:35: require.speedup.batch_size: batch size 8 is not measured; add it to measure.batch_sizes, which holds 1, 16"),
    ("baseline: {recipe: teacher.yaml}", "baseline: teacher.yaml",
        "small.yaml:5:11: baseline: must be a mapping, not 'teacher.yaml'; write {recipe: teacher.yaml}"),
    ("baseline: {recipe: teacher.yaml}", "baseline: {recipe: techer.yaml}",
        "small.yaml:5:20: baseline.recipe: there is no file techer.yaml; did you mean teacher.yaml?"),
    ("baseline: {recipe: teacher.yaml}", "baseline: {recipe: small.yaml}",
        "small.yaml:5:20: baseline.recipe: is this recipe: it would be compared with itself; name another, or a stage of it"),
    ("version: 1\n", "",
        "small.yaml:1:1: version: is missing; it is: version of the recipe language: 1"),
    ("version: 1", "version: '1'",
        "small.yaml:1:10: version: must be 1, not '1'; it is: version of the recipe language: 1"),
    ("version: 1", "version: 2",
        "small.yaml:1:10: version: was made for a newer mcomp: this one reads version 1; upgrade mcomp"),
    ("name: small", "name: my model",
        "small.yaml:2:7: name: must be a name of letters, digits, - and _ that starts with a letter, not 'my model'; it is: what runs and reports call it"),
    ("name: small\n", "",
        "small.yaml:1:1: name: is missing; it is: what runs and reports call it"),
    ("name: small", "name: small\nname: other",
        "small.yaml:3:1: name: is given twice, first in line 2; remove one"),
    ("name: small", "name: small\nseed: 1.5",
        "small.yaml:3:7: seed: must be an integer, not 1.5; it is: where every random choice starts from"),
    ("name: small", "name: small\ndevice: cuda",
        "small.yaml:3:1: device: unknown key; did you mean 'compute.device'?"),
    ("name: small", "name: small\ncompute: {device: gpu}",
        "small.yaml:3:19: compute.device: must be 'auto', 'cpu' or 'cuda', not 'gpu'; did you mean 'cpu'?"),
    ("name: small", "name: small\ncompute: {precision: fp16}",
        "small.yaml:3:22: compute.precision: must be '32-true', '16-mixed' or 'bf16-mixed', not 'fp16'; it is: numbers used in training"),
    ("name: small", "name: small\ndescription: train: then prune",
        "small.yaml:3:19: is not YAML: a second `: ` in one line, or a key behind a value; quote a text that holds `: `"),
    ("name: small", "name: small\ndescription: @home",
        "small.yaml:3:14: is not YAML: a text cannot start with '@'; quote it"),
    ("name: small", "name: small\nenabled: yes",
        "small.yaml:3:10: enabled: `yes` means different things in YAML 1.1 and 1.2; write true or false, or quote it"),
    ("target: {macs: 0.5}", "target: {macs: 0.5",
        "small.yaml:18:13: is not YAML: a bracket is not closed, or a comma is missing; close it with '}'"),
    ("target: {macs: 0.5}", "target: {macs: ${ratio}}",
        "small.yaml:18:21: is not YAML: a brace where a comma or the end should be; quote a reference in brackets: '${model.depth}'"),
    ("image_size: 12", "image_size: 012",
        "small.yaml:4:34: data.image_size: `012` means different things in YAML 1.1 and 1.2; write a plain decimal number without zeros before it, or quote it"),
    ("    importance: l2", "    importance: l2\n    skip: conv1",
        "small.yaml:18:11: stages.prune.skip: must be a list, not 'conv1'; write [conv1]"),
    ("    importance: l2", "    importance: l2\n    skip: [7]",
        "small.yaml:18:12: stages.prune.skip.0: must be a string, not 7; it is: patterns of layers that keep all their output channels"),
]  # fmt: skip

ON_THE_COMMAND_LINE = [
    (["stages.prune.target.macs=1.5"],
        "command line: stages.prune.target.macs=1.5: must be below 1.0, not 1.5; it is: share of multiply-adds to keep"),
    (["stages.prune.target.macs", "0.4"],
        "command line: stages.prune.target.macs: is no override; write key=value, +key=value or ~key\n"
        "command line: 0.4: is no override; write key=value, +key=value or ~key"),
    (["stages.prune.target.macs =0.4"],
        "command line: stages.prune.target.macs =0.4: a key holds no spaces; write stages.prune.target.macs=0.4"),
    (["stages.prune.target.macs=0.4,0.5"],
        "command line: stages.prune.target.macs=0.4,0.5: gives several values; add -m, or write a list: [a,b]"),
    (["pipeline=distill,export"],
        "command line: pipeline=distill,export: gives several values; add -m, or write a list: [a,b]"),
    (["pipeline=[distill,", "export]"],
        "command line: pipeline=[distill,: a bracket is not closed; quote the whole override, so that the shell keeps it together\n"
        "command line: export]: is no override; write key=value, +key=value or ~key"),
    (["stages.prune.importnce=l1"],
        "command line: stages.prune.importnce=l1: unknown key; did you mean 'importance'?"),
    (["prune.importance=l1"],
        "command line: prune.importance=l1: unknown key; did you mean 'stages.prune'?"),
    (["stages.prunes.importance=l1"],
        "command line: stages.prunes.importance=l1: type: is missing; it is <stages>; did you mean 'prune'?"),
    (["seed=one"],
        "command line: seed=one: must be an integer, not 'one'; it is: where every random choice starts from"),
    (["lr=0.1"],
        "command line: lr=0.1: unknown key; possible here: version, name, description, seed, compute, model, data, task, baseline, pipeline, stages, measure, require, sweep"),
    (["~stages.prune"],
        "small.yaml:6:21: pipeline.1: there is no stage 'prune'; ~stages.prune deleted it; leave it out of pipeline instead"),
    (["pipeline=[prune,export]"],
        "command line: pipeline=[prune,export]: 0: prune.channels needs trained weights, and nothing before it trained or loaded any; set model.checkpoint, or put a train or distill stage before it"),
    (["~prune"],
        "command line: ~prune: there is no such key to delete"),
    (["model=resnet"],
        "command line: model=resnet: must be a mapping; its `type` is <models>"),
    (["name=my model"],
        "command line: name=my model: must be a name of letters, digits, - and _ that starts with a letter, not 'my model'; it is: what runs and reports call it"),
    (["seed=1;2"],
        "command line: seed=1;2: the value cannot be read; quote it twice, for the shell too: \"seed='1;2'\""),
    (["stages.prune.target={params: 0.4}"],
        "command line: stages.prune.target={params: 0.4}: give exactly one of macs, params, ratio, latency_ms, not macs and params"),
    (["stages.distill.teachers=[teacher.yaml]"],
        "command line: stages.distill.teachers=[teacher.yaml]: 0: must be a mapping, not 'teacher.yaml'; write {recipe: teacher.yaml}"),
    (["seed:3"],
        "command line: seed:3: is no override; write key=value, +key=value or ~key"),
    (["seed==3"],
        "command line: seed==3: the value cannot be read; quote it twice, for the shell too: \"seed='=3'\""),
    (["stages.distill.training.epochs='2'"],
        "command line: stages.distill.training.epochs='2': must be an integer, not '2'; remove the quotes"),
    (["hydra.run.dir=out"],
        "command line: hydra.run.dir=out: this part of Hydra cannot be configured; hydra/launcher can, with -m"),
    (["stages.prune.importance=L1"],
        "command line: stages.prune.importance=L1: must be 'l1', 'l2', 'fpgm', 'bn_scale', 'taylor', 'obd', 'apoz' or 'random', not 'L1'; did you mean 'l1'?"),
    (["version=2"],
        "command line: version=2: was made for a newer mcomp: this one reads version 1; upgrade mcomp"),
]  # fmt: skip

PATHS = [
    ("smal.yaml", "smal.yaml: no such file; did you mean small.yaml?"),
    ("small", "small: no such file; did you mean small.yaml?"),
    ("small.yml", "small.yml: no such file; did you mean small.yaml?"),
    ("old.yml", "old.yml: is not a recipe; a recipe's name ends in .yaml; rename it to old.yaml"),
    ("recipes/small.yaml", "recipes/small.yaml: no such file; there is no folder recipes"),
    (".", ".: is a folder; name a recipe in it: small.yaml, teacher.yaml"),
    ("small.yaml/x.yaml", "small.yaml/x.yaml: cannot be read: Not a directory"),
]


@pytest.fixture(autouse=True)
def in_a_folder_of_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("teacher.yaml").write_text(TEACHER)
    Path("small.yaml").write_text(RECIPE)
    Path("old.yml").write_text(RECIPE)


def check(*arguments: str) -> tuple[int, str]:
    """Run `mcomp check --quick` in this process; return its exit code and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = exit_code(["check", "--quick", *arguments])
    return code, printed.getvalue().rstrip("\n")


def listed(told: str) -> str:
    """Return what is told with the installed types in place of `<stages>`, `<models>` and `<data>`."""
    groups: tuple[Group, ...] = ("stages", "models", "data")
    for group in groups:
        told = told.replace(f"<{group}>", one_of(names(group)))
    return told


def test_the_recipe_without_a_mistake_is_right() -> None:
    code, told = check("small.yaml")
    assert (code, told.splitlines()[0]) == (0, "small.yaml: no mistakes; 6 steps")


@pytest.mark.parametrize(("old", "new", "told"), IN_THE_FILE)
def test_a_mistake_in_the_file(old: str, new: str, told: str) -> None:
    assert RECIPE.count(old) >= 1
    Path("small.yaml").write_text(RECIPE.replace(old, new, 1))
    assert check("small.yaml") == (2, listed(told))


@pytest.mark.parametrize(("overrides", "told"), ON_THE_COMMAND_LINE)
def test_a_mistake_on_the_command_line(overrides: list[str], told: str) -> None:
    assert check("small.yaml", *overrides) == (2, listed(told))


@pytest.mark.parametrize(("path", "told"), PATHS)
def test_a_path_that_is_no_recipe(path: str, told: str) -> None:
    assert check(path) == (2, told)


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:  # the tests may run as root, who may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert check("small.yaml") == (2, "small.yaml: cannot be read: Permission denied")


def test_the_mistakes_of_a_recipe_and_of_those_it_refers_to_are_told_together() -> None:
    Path("teacher.yaml").write_text(TEACHER.replace("epochs: 1", "epochs: 0"))
    Path("small.yaml").write_text(RECIPE.replace("importance: l2", "importance: l3"))
    code, told = check("small.yaml", "seed=-1")
    assert code == 2
    assert [line.partition(": ")[0] for line in told.splitlines()] == [
        "small.yaml:17:17",
        "command line",
        "teacher.yaml:8:24",
    ]


@pytest.mark.parametrize("arguments", [["small.yaml", "sede=1"], ["small"]])
def test_the_real_command_exits_with_2_and_without_a_traceback(arguments: list[str], tmp_path: Path) -> None:
    process = mcomp("check", *arguments, cwd=tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.strip() == check(*arguments)[1]
