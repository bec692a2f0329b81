"""A .pt2 file read as data: JSON and raw numbers, and nothing of it is run.

`torch.export.load` unpickles what a file asks it to, evaluates its expressions, calls what it names, and
loads compiled code beside it. So the file is read here, and whatever is no plain operator or array is
refused. Free of torch.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mcomp import plainfile
from mcomp.errors import Problem, RecipeError, named
from mcomp_stages.models.exported_program import Call, Program, ProgramTensor

JSON_LIMIT_BYTES = 64 * 2**20
SCHEMA = 8  # of torch 2.11 to 2.13
EXPORT_AGAIN = "export it again: torch.export.export(model.eval(), ...), torch.export.save"

# As torch numbers them in the file (torch/_export/serde/schema.py).
TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    12: "bool", 13: "bfloat16",
}  # fmt: skip
FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
LAYOUTS = {7: "strided"}
FLOATS = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "nan"}


def wrong(path: Path, what: str, next_step: str = EXPORT_AGAIN) -> RecipeError:
    """Return the error for a file that is no model to start from."""
    return RecipeError(Problem("", "path", f"{path} {what}", next_step))


@contextmanager
def opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """Yield the archive of a .pt2 file and the name of the folder in it. Raises RecipeError if it is none."""
    try:
        with plainfile.opened(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not plain or sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise wrong(path, "is compressed, or its contents overlap: torch.export writes none such")
            yield archive, entries[0].filename.partition("/")[0] if entries else ""
    except OSError as error:
        raise wrong(path, f"cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise wrong(path, "is truncated, or no file of torch.export") from error


def read_json(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    """Return the content of one entry. Raises RecipeError if it is missing, too large or no JSON."""
    try:
        if archive.getinfo(name).file_size > JSON_LIMIT_BYTES:
            raise wrong(path, f"has a {named(name)} of more than {JSON_LIMIT_BYTES:,} bytes")
        return json.loads(archive.read(name))
    except KeyError as error:
        raise wrong(path, f"has no {named(name)}: it is no program of torch.export") from error
    except (ValueError, RecursionError) as error:
        raise wrong(path, f"has a broken {named(name)}") from error


def read_program(path: Path, inputs: Mapping[str, str]) -> Program:
    """Return what the program in a .pt2 file does; `inputs` are the data's names for those that it takes.

    Raises RecipeError for what is not understood.
    """
    with opened(path) as (archive, folder):
        content = read_json(archive, f"{folder}/models/model.json", path)
    try:
        major = content["schema_version"]["major"]
        if major != SCHEMA:
            raise wrong(path, f"has version {named(str(major))} of torch.export's format, not {SCHEMA}")
        return Reader(path, content["graph_module"]).program(inputs)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise wrong(path, f"holds what is no model's ({named(where)}: {named(first['msg'])})") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise wrong(path, "does not have the form that torch.export writes") from error


class Reader:
    """Turns the JSON of a graph into a `Program`."""

    def __init__(self, path: Path, graph_module: Mapping[str, Any]) -> None:
        self.path = path
        self.graph = graph_module["graph"]
        self.signature = graph_module["signature"]

    def program(self, called: Mapping[str, str]) -> Program:
        """Return the program. Raises RecipeError if one of the inputs that are renamed is not there."""
        inputs, tensors = {}, {}
        for spec in self.signature["input_specs"]:
            ((kind, said),) = spec.items()
            if kind == "user_input":
                name = self.user_input(said["arg"])
                inputs[called.get(name, name)] = name
            elif kind in ("parameter", "buffer", "tensor_constant"):
                name = said["arg"]["name"]
                tensors[said[f"{kind}_name"]] = self.tensor(name, kind == "parameter")
            else:
                raise wrong(self.path, f"has an input of kind {named(kind)}, which no plain model has")
        strange = next((name for name in called if name not in inputs.values()), None)
        if strange is not None:
            what = f"has no input {named(strange)}; it takes {', '.join(map(named, inputs.values()))}"
            raise wrong(self.path, what, "correct inputs")
        calls = tuple(self.call(node) for node in self.graph["nodes"] if not asserts(node))
        return Program(inputs=inputs, tensors=tensors, calls=calls, output=self.output())

    def user_input(self, argument: Mapping[str, Any]) -> str:
        """Return the name of an input. Raises RecipeError if it takes one number of samples alone."""
        ((kind, value),) = argument.items()
        if kind != "as_tensor":
            raise wrong(self.path, "takes an input that is no tensor")
        sizes = self.graph["tensor_values"][value["name"]]["sizes"]
        if not sizes or "as_int" in sizes[0]:
            what = f"takes {named(value['name'])} for one number of samples only"
            said = f"{{'{named(value['name'])}': {{0: torch.export.Dim('batch')}}}}"
            raise wrong(self.path, what, f"export it again with dynamic_shapes={said}")
        return str(value["name"])

    def tensor(self, name: str, parameter: bool) -> ProgramTensor:
        """Return what is known of a parameter or buffer."""
        value = self.graph["tensor_values"][name]
        shape = tuple(size["as_int"] for size in value["sizes"])
        return ProgramTensor(name=name, parameter=parameter, dtype=self.dtype(value["dtype"]), shape=shape)

    def output(self) -> str:
        """Return the name of the first output. Raises RecipeError if the program changes its buffers."""
        for spec in self.signature["output_specs"]:
            (kind,) = spec
            if kind != "user_output":
                raise wrong(self.path, "changes its own buffers, as models in training do")
        ((_, first),) = self.signature["output_specs"][0]["user_output"]["arg"].items()
        return str(first["name"])

    def call(self, node: Mapping[str, Any]) -> Call:
        """Return one operator with its arguments."""
        positional = [each for each in node["inputs"] if each.get("kind") != 2]
        keywords = [each for each in node["inputs"] if each.get("kind") == 2]
        results = [name for output in node["outputs"] for name in self.results(output)]
        first = next((each["arg"].get("as_tensor") for each in node["inputs"]), None)
        return Call(
            operator=self.operator(node["target"]),
            arguments=tuple(self.argument(each["arg"]) for each in positional),
            keywords={each["name"]: self.argument(each["arg"]) for each in keywords},
            results=tuple(results),
            several=len(node["outputs"]) > 1 or any("as_tensors" in each for each in node["outputs"]),
            dims=len(self.graph["tensor_values"][first["name"]]["sizes"]) if first else 0,
            module=module_path(node.get("metadata", {}).get("nn_module_stack", "")),
        )

    def operator(self, target: str) -> str:
        """Return the name of an operator. Raises RecipeError for what is none of torch's own."""
        for prefix, kind in (("torch.ops.aten.", "aten."), ("_operator.", "operator.")):
            if target.startswith(prefix):
                return kind + target.removeprefix(prefix)
        raise wrong(self.path, f"calls {named(target)}, which is no operator that is known here")

    def results(self, output: Mapping[str, Any]) -> Iterator[str]:
        """Yield the names of what an operator gives."""
        ((kind, value),) = output.items()
        if kind == "as_tensors":
            yield from (each["name"] for each in value)
        elif kind in ("as_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
            yield value["name"] if kind == "as_tensor" else value["as_name"]
        else:
            raise wrong(self.path, f"has an operator that gives {named(kind)}")

    def argument(self, argument: Mapping[str, Any]) -> Any:
        """Return an argument as plain JSON."""
        ((kind, value),) = argument.items()
        if kind not in ARGUMENTS:
            raise wrong(self.path, f"has an argument of kind {named(kind)}, which is not understood")
        return ARGUMENTS[kind](value)

    def dtype(self, number: int) -> str:
        """Return the name of a type. Raises RecipeError for one that no weight has."""
        if number not in TYPES:
            raise wrong(self.path, f"has tensors of type {named(str(number))}")
        return TYPES[number]


def asserts(node: Mapping[str, Any]) -> bool:
    """Whether a call only checks its arguments."""
    return not node["outputs"] and node["target"].startswith("torch.ops.aten._assert_")


def module_path(stack: str) -> str:
    """Return the path of the innermost module that a call stood in."""
    parts = stack.rpartition(";")[2].split(",")
    return parts[1] if len(parts) > 2 else ""


def value_of(value: Mapping[str, Any]) -> dict[str, str]:
    """Return a reference to a tensor."""
    return {"of": value["name"]}


def number_of(value: Mapping[str, Any]) -> Any:
    """Return a size: a number, or a reference to one that is computed."""
    ((kind, content),) = value.items()
    return {"of": content} if kind == "as_name" else content


def optional(value: Mapping[str, Any]) -> Any:
    """Return a reference to a tensor, or None."""
    return value_of(value["as_tensor"]) if "as_tensor" in value else None


def number(value: Any) -> Any:
    """Return a number that JSON may not have."""
    return {"float": FLOATS[value]} if isinstance(value, str) else value


ARGUMENTS: dict[str, Any] = {
    "as_none": lambda value: None,
    "as_tensor": value_of,
    "as_tensors": lambda values: [value_of(each) for each in values],
    "as_optional_tensor": optional,
    "as_optional_tensors": lambda values: [optional(each) for each in values],
    **dict.fromkeys(("as_int", "as_ints", "as_string", "as_bool", "as_bools"), lambda value: value),
    "as_float": number,
    "as_floats": lambda values: [number(each) for each in values],
    **dict.fromkeys(("as_sym_int", "as_sym_bool", "as_sym_float"), number_of),
    "as_sym_ints": lambda values: [number_of(each) for each in values],
    "as_scalar_type": lambda value: {"torch": TYPES[value]},
    "as_memory_format": lambda value: {"torch": FORMATS[value]},
    "as_layout": lambda value: {"torch": LAYOUTS[value]},
    "as_device": lambda value: {"torch": "cpu"},
}
