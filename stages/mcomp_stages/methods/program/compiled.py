"""A program compiled by AOTInductor: machine code for this processor, in a package that torch loads."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from mcomp.errors import StageError
from mcomp.measure.runtimes.torch_program import INPUTS, input_sizes, input_values
from mcomp.model.uncapturable import first_line

# Else the number of threads is that of the machine that compiles.
SETTINGS = {"cpp.dynamic_threads": True}


def write_compiled(
    program: ExportedProgram, example: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]
) -> Path:
    """Compile a program and write the package; `metadata` and what it takes lie in it, below `extra`.

    Raises StageError with what to do if there is no C++ compiler, or in torch's words if it fails.
    """
    require_compiler()
    program.example_inputs = ((), dict(example))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own use of what it deprecated
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=dict(SETTINGS)
            )
    except Exception as error:  # it raises whatever its passes and the compiler do
        raise StageError(f"AOTInductor cannot compile the model: {first_line(error)}") from error
    sizes, values = input_sizes(program), input_values(program)
    takes = {name: [str(values[name].dtype).removeprefix("torch."), *sizes[name]] for name in sizes}
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in {**metadata, INPUTS: json.dumps(takes)}.items():
            archive.writestr(f"{path.stem}/extra/{name}", text)
    return path


def require_compiler() -> None:
    """Raise StageError if torch finds no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise StageError(
            "compile needs a C++ compiler, and there is none; install one (apt-get install g++), name it in "
            "the environment variable CXX, or leave compile out"
        ) from error
