"""An ONNX file as the intermediate representation of OpenVINO: .xml and .bin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import onnx

from mcomp.errors import StageError, printable
from mcomp.measure.runtimes.unreported_openvino import ov

# Where OpenVINO sums up which operators it lacks, or cannot convert as they stand there.
SUMMARY = re.compile(r"(?:No conversion rule found for operations|Conversion is failed for): ([^\n]*)")
SHOWN = 5


def write_openvino(source: Path, path: Path, metadata: Mapping[str, str]) -> tuple[Path, Path]:
    """Write an ONNX file as `path` (.xml) and its weights (.bin) beside it, all numbers as they are.

    `metadata` goes into its `rt_info`, below `mcomp`. Raises StageError naming the operators that OpenVINO
    lacks, and the layers that need them.
    """
    try:
        model = ov.Core().read_model(source)
    except Exception as error:  # it raises RuntimeError and others
        raise StageError(unreadable(source, str(error))) from error
    number_names(model)
    for name, value in metadata.items():
        model.set_rt_info(value, ["mcomp", name.removeprefix("mcomp.")])
    ov.save_model(model, path, compress_to_fp16=False)
    return path, path.with_suffix(".bin")


def number_names(model: ov.Model) -> None:
    """Number the operators that the file does not name: OpenVINO counts all that the process has made."""
    for number, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{node.get_type_name()}_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{number}")


def unreadable(source: Path, words: str) -> str:
    """Return why OpenVINO cannot read a file: what it lacks with the layers, or its own words."""
    named = {name.strip() for found in SUMMARY.findall(words) for name in found.split(",")}
    lacking: dict[str, list[str]] = {}
    for node in onnx.load(source, load_external_data=False).graph.node:
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        if named & {operator, node.op_type}:
            lacking.setdefault(operator, []).append(layer_of(node))
    if not lacking:
        return f"OpenVINO cannot read the file: {printable(words.strip())}"
    listed = "; ".join(f"{operator} ({', '.join(layers[:SHOWN])})" for operator, layers in lacking.items())
    return f"OpenVINO has no operator for {listed}; leave these layers as they were, or export to ONNX only"


def layer_of(node: onnx.NodeProto) -> str:
    """Return the module path of the weight that a node reads, or its name."""
    owners = [str(name).rpartition(".")[0] for name in node.input]
    return next((owner for owner in owners if owner), str(node.name or node.output[0]))
