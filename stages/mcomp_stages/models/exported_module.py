"""A module that does what a program of torch.export says: ordinary layers where it has them.

A convolution, linear, norm or embedding whose weights belong to one path becomes torch's own module at that
path, so that it trains, is cut and is quantized as in the model that was exported. All else is called as the
operator that it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from mcomp.errors import RecipeError, named
from mcomp_stages.models.exported_layers import Layer, layer_of
from mcomp_stages.models.exported_program import Call, Program, ProgramTensor

# What torch raises for shapes and arguments that no layer has.
NONSENSE = (ArithmeticError, AttributeError, LookupError, RecursionError, RuntimeError, TypeError, ValueError)
OPERATORS = frozenset(
    ["getitem", "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge"]
)
# The only operators without a tensor among their arguments: they make one.
MAKERS = frozenset(
    ["arange", "zeros", "ones", "full", "empty", "scalar_tensor", "eye", "linspace", "tril_indices"]
)


def build_program(program: Program) -> GraphModule:
    """Return the module in inference mode, with weights of the right shapes and no numbers yet.

    Raises RecipeError for an operator that is not known here, and for what does not fit together.
    """
    try:
        return Builder(program).build()
    except NONSENSE as error:
        raise RecipeError(f"the program does not fit together: {named(str(error))}") from error


class Builder:
    """Puts calls into a graph. `values` has the node of each name."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.root = nn.Module()
        self.graph = Graph()
        self.values: dict[str, Node] = {}
        self.paths = {tensor.name: path for path, tensor in program.tensors.items()}

    def build(self) -> GraphModule:
        """Return the whole module."""
        for called, name in self.program.inputs.items():
            self.values[name] = self.graph.placeholder(called)
        layers = self.layers()
        taken = {path for layer in layers.values() for path in layer.tensors}
        for path, tensor in self.program.tensors.items():
            if path not in taken:
                self.register(path, zeros(tensor), tensor.parameter)
        for place, call in enumerate(self.program.calls):
            if place in layers:
                self.add_layer(call, layers[place])
            else:
                self.add_operator(call)
        self.graph.output(self.value(self.program.output))
        self.graph.lint()
        return GraphModule(self.root, self.graph).eval()

    def layers(self) -> dict[int, Layer]:
        """Return the calls that become modules, by their place."""
        uses: dict[str, int] = {}
        for call in self.program.calls:
            for name in references([*call.arguments, *call.keywords.values()]):
                uses[name] = uses.get(name, 0) + 1
        found = {}
        for place, call in enumerate(self.program.calls):
            layer = layer_of(call, self.program, self.paths, uses)
            if layer is not None:
                found[place] = layer
        return found

    def register(self, path: str, value: Tensor, parameter: bool) -> None:
        """Register a tensor at its path."""
        owner, _, name = path.rpartition(".")
        part = self.owner(owner)
        if parameter:
            part.register_parameter(name, nn.Parameter(value, requires_grad=value.is_floating_point()))
        else:
            part.register_buffer(name, value)

    def owner(self, path: str) -> nn.Module:
        """Return the module at a path, made if it is missing."""
        part = self.root
        for name in filter(None, path.split(".")):
            if name not in part._modules:
                part.add_module(name, nn.Module())
            part = part.get_submodule(name)
        return part

    def add_layer(self, call: Call, layer: Layer) -> None:
        """Put a module at its path and call it."""
        owner, _, name = layer.path.rpartition(".")
        self.owner(owner).add_module(name, layer.module)
        source = self.argument(call.arguments[layer.input])
        self.values[call.results[0]] = self.graph.call_module(layer.path, (source,))

    def add_operator(self, call: Call) -> None:
        """Call an operator, and name what it gives."""
        arguments = tuple(self.argument(each) for each in call.arguments)
        keywords = {name: self.argument(each) for name, each in call.keywords.items()}
        node = self.graph.call_function(target_of(call), arguments, keywords)
        if not call.several:
            self.values[call.results[0]] = node
            return
        for place, name in enumerate(call.results):
            self.values[name] = self.graph.call_function(operator.getitem, (node, place))

    def argument(self, said: Any) -> Any:
        """Return an argument of a call. Raises RecipeError for what is none."""
        if isinstance(said, list | tuple):
            return [self.argument(each) for each in said]
        if not isinstance(said, dict):
            return said
        ((kind, value),) = said.items()
        if kind not in SAID:
            raise RecipeError(f"an argument of kind {named(kind)} is not understood")
        return SAID[kind](self, value)

    def value(self, name: str) -> Node:
        """Return the node of a value: what a call gave, or a tensor of the model."""
        if name not in self.values and name in self.paths:
            self.values[name] = self.graph.get_attr(self.paths[name])
        if name not in self.values:
            raise RecipeError(f"the program reads {named(name)}, which nothing gave")
        return self.values[name]


def zeros(tensor: ProgramTensor) -> Tensor:
    """Return a tensor of a type and shape. Raises RecipeError for a type that torch does not have."""
    dtype = getattr(torch, tensor.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise RecipeError(f"{named(tensor.dtype)} is no type of torch")
    return torch.zeros(tensor.shape, dtype=dtype)


def of_torch(builder: Builder, name: str) -> Any:
    """Return a type, a layout, a memory format or the processor."""
    if name == "cpu":
        return torch.device("cpu")
    value = getattr(torch, name, None)
    if not isinstance(value, torch.dtype | torch.layout | torch.memory_format):
        raise RecipeError(f"{named(name)} is no type and no format of torch")
    return value


SAID: Mapping[str, Callable[[Builder, str], Any]] = {
    "of": lambda builder, name: builder.value(name),
    "torch": of_torch,
    "float": lambda builder, text: float(text),
}


def target_of(call: Call) -> Callable[..., Any]:
    """Return the function of a call. Raises RecipeError for one that could do more than compute."""
    kind, name, *overload = call.operator.split(".")
    if kind == "operator":
        if name not in OPERATORS:
            raise RecipeError(f"operator.{named(name)} is not known here")
        found: Callable[..., Any] = getattr(operator, name)
        return found
    packet = getattr(torch.ops.aten, name, None)
    target = getattr(packet, overload[0] if overload else "default", None)
    if not isinstance(target, torch._ops.OpOverload) or not computes(name, target):
        raise RecipeError(f"{named(call.operator)} is no operator that computes with tensors")
    return target


def computes(name: str, target: torch._ops.OpOverload) -> bool:
    """Whether an operator takes a tensor, or makes one of nothing but numbers, and gives tensors or numbers.

    Those that read files take none.
    """
    takes = any("Tensor" in str(argument.type) for argument in target._schema.arguments)
    gives = all(str(each.type) in GIVEN for each in target._schema.returns) and target._schema.returns
    return (takes or name in MAKERS) and bool(gives)


GIVEN = ("Tensor", "List[Tensor]", "int", "SymInt", "bool", "float", "number")


def references(arguments: Any) -> list[str]:
    """Return the names of the values in arguments, each as often as it stands there."""
    if isinstance(arguments, list | tuple):
        return [name for each in arguments for name in references(each)]
    if isinstance(arguments, dict) and "of" in arguments:
        return [arguments["of"]]
    return []
