"""Programs of torch.export (.pt2) that call, evaluate, unpickle or import something, or fit nothing."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.hostile.attack import Attack, Prepare, files, hole, link, pipe
from tests.hostile.pickle_code import PAYLOAD, archive, call, text
from tests.hostile.pickles import ESCAPES

CODE = archive(call("os", "system", text(PAYLOAD)))
EVAL = f"__import__('os').system('{PAYLOAD}')"
FLOAT, STRIDED = 7, 7


def sizes(*numbers: int) -> list[dict[str, int]]:
    return [{"as_int": number} for number in numbers]


def meta(shape: tuple[int, ...], strides: tuple[int, ...]) -> dict[str, Any]:
    return {
        "dtype": FLOAT,
        "sizes": sizes(*shape),
        "strides": sizes(*strides),
        "storage_offset": {"as_int": 0},
        "requires_grad": True,
        "device": {"type": "cpu", "index": None},
        "layout": STRIDED,
    }


def node(target: str, *inputs: Mapping[str, Any], result: str = "linear") -> dict[str, Any]:
    arguments = [{"name": f"a{place}", "arg": each, "kind": 1} for place, each in enumerate(inputs)]
    return {"target": target, "inputs": arguments, "outputs": [of(result)], "metadata": {}}


def of(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


FREE = {"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)", "hint": {"as_int": 2}}}
LINEAR = node("torch.ops.aten.linear.default", of("x"), of("p_fc_weight"))
GOOD: dict[str, Any] = {
    "schema_version": {"major": 8, "minor": 20},
    "guards_code": [],
    "graph_module": {
        "graph": {
            "nodes": [LINEAR],
            "tensor_values": {
                "p_fc_weight": meta((2, 4), (4, 1)),
                "x": {**meta((2, 4), (4, 1)), "sizes": [FREE, {"as_int": 4}]},
                "linear": meta((2, 2), (2, 1)),
            },
        },
        "signature": {
            "input_specs": [
                {"parameter": {"arg": {"name": "p_fc_weight"}, "parameter_name": "fc.weight"}},
                {"user_input": {"arg": of("x")}},
            ],
            "output_specs": [{"user_output": {"arg": of("linear")}}],
        },
        "module_call_graph": [],
    },
}
WEIGHT: dict[str, Any] = {"path_name": "weight_0", "use_pickle": False, "tensor_meta": meta((2, 4), (4, 1))}
CONFIGS = {
    "data/weights/model_weights_config.json": json.dumps({"config": {"fc.weight": WEIGHT}}),
    "data/constants/model_constants_config.json": json.dumps({"config": {}}),
}


def packed(
    program: Any = GOOD,
    more: Mapping[str, str | bytes | None] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """Return a .pt2 file; `more` are entries beside or instead of the good ones, None leaves one out."""
    entries: dict[str, str | bytes | None] = {
        "models/model.json": json.dumps(program),
        "data/weights/weight_0": bytes(32),
        **CONFIGS,
        **(more or {}),
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as written:
        for name, value in entries.items():
            if value is not None:
                written.writestr(f"m/{name}", value)
    return content.getvalue()


def start(folder: Path) -> None:
    """Start from the program as a recipe does."""
    from mcomp.data.contract import DataFacts
    from mcomp_stages.models.exported import ExportedConfig

    fitted = ExportedConfig(path=folder / "m.pt2").fitted_to(DataFacts())
    fitted.fill(fitted.build(), folder / "m.pt2")


def laid(prepare: Prepare, told: str, source: str = "own", error: str = "RecipeError") -> Attack:
    return Attack(source, prepare, start, told, error=error, seconds=0.2)


def said(change: Callable[[dict[str, Any]], object], told: str, source: str = "torch-export") -> Attack:
    """Return an attack by a program that is changed."""

    def write(folder: Path) -> None:
        program = copy.deepcopy(GOOD)
        change(program)
        (folder / "m.pt2").write_bytes(packed(program))

    return laid(write, told, source)


def calls(target: str, told: str, *inputs: Mapping[str, Any]) -> Attack:
    """Return an attack by a program that calls something first."""
    first = node(target, *(inputs or ({"as_string": PAYLOAD},)), result="y")
    return said(lambda program: nodes(program).insert(0, first), told)


def nodes(program: dict[str, Any]) -> list[Any]:
    found: list[Any] = program["graph_module"]["graph"]["nodes"]
    return found


def signature(program: dict[str, Any]) -> Any:
    return program["graph_module"]["signature"]


def renamed(name: str, told: str) -> Attack:
    """Return an attack by the name of a weight."""
    return said(lambda each: signature(each)["input_specs"][0]["parameter"].update(parameter_name=name), told)


def without_weights(change: Callable[[dict[str, Any]], object], told: str = "has no m/data") -> Attack:
    """Return an attack by what is not read: it must change nothing, and the file has no weights."""

    def write(folder: Path) -> None:
        program = copy.deepcopy(GOOD)
        change(program)
        (folder / "m.pt2").write_bytes(packed(program, dict.fromkeys(CONFIGS)))

    return laid(write, told, "torch-export", "CheckpointError")


def weight(
    changes: Mapping[str, Any], told: str, source: str = "torch-export", content: bytes = bytes(32)
) -> Attack:
    """Return an attack by the table of weights."""
    table = json.dumps({"config": {"fc.weight": {**WEIGHT, **changes}}})
    more = {"data/weights/model_weights_config.json": table, "data/weights/weight_0": content}
    return laid(files({"m.pt2": packed(more=more)}), told, source, "CheckpointError")


TREE = json.dumps([1, {"type": "collections.defaultdict", "context": {"default_factory_module": "os"}}])
BROKEN = "has broken weights"
ATTACKS: dict[str, Attack] = {
    # code
    "a weight that is a pickle": weight({"use_pickle": True}, "as a pickle, which is not read", content=CODE),
    "a weight in the old form": laid(
        files({"m.pt2": packed(more={**dict.fromkeys(CONFIGS), "data/weights/model.pt": CODE})}),
        "has no m/data",
        "torch-export",
        "CheckpointError",
    ),
    "a pickled constant": said(
        lambda each: signature(each)["input_specs"].append({"custom_obj": {"arg": {"name": "o"}}}),
        "an input of kind custom_obj",
    ),
    "a size that is evaluated": without_weights(
        lambda each: each["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]["as_expr"].update(
            expr_str=EVAL
        )
    ),
    "a guard that is run": without_weights(lambda each: each.update(guards_code=[EVAL])),
    "a tree that is imported": without_weights(
        lambda each: each["graph_module"]["module_call_graph"].append({"signature": {"in_spec": TREE}})
    ),
    "samples that are a pickle": laid(
        files({"m.pt2": packed(more={**dict.fromkeys(CONFIGS), "data/sample_inputs/model.pt": CODE})}),
        "has no m/data",
        "torch-export",
        "CheckpointError",
    ),
    "compiled code beside it": laid(
        files({"m.pt2": packed(more={**dict.fromkeys(CONFIGS), "data/aotinductor/model/x.so": b"\x7fELF"})}),
        "has no m/data",
        "torch-export",
        "CheckpointError",
    ),
    # calls
    "os.system through torch": calls("torch.os.system", "which is no operator"),
    "a model of the hub": calls("torch.hub.load", "which is no operator"),
    "torch.load": calls("torch.load", "which is no operator"),
    "an operator of an extension": calls("#evil:op", "which is no operator"),
    "a library of operators": calls("torch.ops.load_library", "which is no operator"),
    "a higher-order operator": calls("torch.ops.higher_order.cond", "which is no operator"),
    "a mathematical function": calls("math.factorial", "which is no operator"),
    "an operator that reads a file": calls(
        "torch.ops.aten.from_file.default", "is no operator that computes", {"as_string": "/etc/passwd"}
    ),
    "an operator that prints": calls("torch.ops.aten._print.default", "is no operator that computes"),
    "an attribute of the namespace": calls("torch.ops.aten.__class__", "is no operator that computes"),
    "an overload that is none": calls("torch.ops.aten.add.__init__", "is no operator that computes"),
    "a method by its name": calls("_operator.methodcaller", "is not known here"),
    "an attribute by its name": calls("_operator.attrgetter", "is not known here"),
    "a call of what is given": calls("_operator.call", "is not known here"),
    "a name with a call in it": calls("torch.ops.aten.add.Tensor(x)", "holds what is no model's"),
    # names that become code
    "a name that ends a string": renamed('fc"); import os; os.system("x', "holds what is no model's"),
    "a name with a line in it": renamed("fc.weight\nimport os", "holds what is no model's"),
    "a name with escapes": renamed(ESCAPES, "holds what is no model's"),
    "a name that leaves": renamed("../../outside/secret.bin", "holds what is no model's"),
    "an input that is code": said(
        lambda each: signature(each)["input_specs"][1]["user_input"]["arg"]["as_tensor"].update(
            name="x=open('y','w')"
        ),
        "does not have the form",
    ),
    # what does not fit
    "a graph in a graph": calls("torch.ops.aten.add.Tensor", "kind as_graph", {"as_graph": {}}),
    "an operator as an argument": calls(
        "torch.ops.aten.add.Tensor", "kind as_operator", {"as_operator": "os"}
    ),
    "a value that nothing gave": calls("torch.ops.aten.relu.default", "does not have the form", of("z")),
    "a value of its own": calls("torch.ops.aten.neg.default", "does not have the form", of("y")),
    "buffers that change": said(
        lambda each: signature(each)["output_specs"].insert(0, {"buffer_mutation": {}}), "changes its own"
    ),
    "one number of samples": said(
        lambda each: each["graph_module"]["graph"]["tensor_values"]["x"].update(sizes=sizes(2, 4)),
        "for one number of samples only",
        "own",
    ),
    "another version": said(lambda each: each["schema_version"].update(major=99), "has version 99", "own"),
    "a version that is code": said(
        lambda each: each["schema_version"].update(major=ESCAPES), r"has version \x1b", "cwe-150"
    ),
    "no graph": said(lambda each: each.pop("graph_module"), "does not have the form", "own"),
    "a list for a graph": said(lambda each: each.update(graph_module=[]), "does not have the form", "own"),
    "a weight that is too large": said(
        lambda each: each["graph_module"]["graph"]["tensor_values"]["p_fc_weight"].update(
            sizes=sizes(2**60, 4)
        ),
        "holds what is no model's",
        "cwe-770",
    ),
    "a weight with sizes below zero": said(
        lambda each: each["graph_module"]["graph"]["tensor_values"]["p_fc_weight"].update(sizes=sizes(-1, 4)),
        "holds what is no model's",
        "cwe-770",
    ),
    "a weight of one axis": said(
        lambda each: each["graph_module"]["graph"]["tensor_values"]["p_fc_weight"].update(sizes=sizes(8)),
        "does not fit together",
        "own",
    ),
    # weights
    "a weight outside": weight({"path_name": "../../../../outside/secret.bin"}, BROKEN, "cwe-22"),
    "a weight by a device": weight({"path_name": "/dev/zero"}, BROKEN, "cwe-67"),
    "more numbers than bytes": weight({"tensor_meta": meta((2, 400), (400, 1))}, BROKEN, "cwe-770"),
    "strides that leave": weight({"tensor_meta": meta((2, 4), (2**40, 1))}, BROKEN, "cwe-770"),
    "strides backwards": weight({"tensor_meta": meta((2, 4), (-4, 1))}, BROKEN, "cwe-770"),
    "a type that is none": weight({"tensor_meta": {**meta((2, 4), (4, 1)), "dtype": 99}}, BROKEN),
    "half a number": weight({}, BROKEN, content=bytes(31)),
    # archives
    "a bomb": laid(
        files(
            {"m.pt2": packed(more={"data/weights/weight_0": bytes(2**24)}, compression=zipfile.ZIP_DEFLATED)}
        ),
        "is compressed",
        "cwe-409",
    ),
    "half a file": laid(files({"m.pt2": packed()[:-40]}), "is truncated"),
    "no archive": laid(files({"m.pt2": b"PK\x03\x04"}), "is truncated"),
    "a pickle by this name": laid(files({"m.pt2": CODE}), "has no w/models", "python-pickle"),
    "JSON without an end": laid(
        files({"m.pt2": packed(more={"models/model.json": "[" * 100_000})}),
        "has a broken m/models",
        "cwe-674",
    ),
    "arguments without an end": laid(
        files({"m.pt2": packed(more={"models/model.json": '{"a":' * 900 + "1" + "}" * 900})}),
        "does not have the form",
        "cwe-674",
    ),
    "a hole of a terabyte": laid(hole("m.pt2"), "is truncated", "cwe-770"),
    "a pipe": laid(pipe("m.pt2"), "cannot be read", "cwe-67"),
    "a link to a device": laid(link("m.pt2", "/dev/zero"), "cannot be read", "cwe-59"),
}
