"""A captured graph as a .pt2 file whose bytes depend on the graph alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from mcomp.errors import StageError
from mcomp.model.example import dynamic_shapes
from mcomp.model.uncapturable import first_line
from mcomp_stages.methods.program.plain import written_out

# What torch.export notes of a node that is about our code, and our machine.
ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


def exported_program(graph_module: GraphModule, example: Mapping[str, Tensor]) -> ExportedProgram:
    """Return a graph in inference mode as a program for any batch size, and any of the sizes that vary.

    Raises StageError in torch's words if it cannot be exported so.
    """
    plain, shapes = written_out(graph_module), dynamic_shapes(example)
    try:
        program = torch.export.export(plain, (), dict(example), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # it raises whatever the graph's operators do
        raise StageError(f"torch.export cannot write the model: {first_line(error)}") from error
    forget_origins(program)
    forget_asserts(program)
    return program


def forget_asserts(program: ExportedProgram) -> None:
    """Drop the calls that check, before each change of a type, which type a tensor has: a program has no
    other, and of integers they are a quarter of the graph's text.
    """
    for node in program.graph.find_nodes(
        op="call_function", target=torch.ops.aten._assert_tensor_metadata.default
    ):
        program.graph.erase_node(node)
    program.graph_module.recompile()


def forget_origins(program: ExportedProgram) -> None:
    """Drop what tells where a program was made: stack traces, names of Python objects, and the samples."""
    program.example_inputs = None
    for node in program.graph.nodes:
        for name in ORIGINS:
            node.meta.pop(name, None)


def write_program(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> Path:
    """Write a program; `metadata` becomes files of these names in the archive, below `extra`."""
    torch.export.save(program, path, extra_files=dict(metadata))
    return path
