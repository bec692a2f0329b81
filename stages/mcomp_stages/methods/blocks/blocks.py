"""Which modules of a model are blocks that can be left out: what they give could be what they got.

A block is called once in a run, takes and gives a tensor of one shape, and adds to its input: with its
matrices and kernels at zero the output still follows the input. A plain convolution fails that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.measure.accuracy import in_inference_mode
from mcomp.model.fastpath import without_fastpath
from mcomp.model.select import select_modules
from mcomp_stages.methods.blocks.edit import RemovedBlock
from mcomp_stages.methods.blocks.passing import Passing


@dataclass(frozen=True)
class Call:
    """What a module was called with and gave."""

    inputs: tuple[Any, ...]
    named: Mapping[str, Any]
    output: Any

    @property
    def given(self) -> Any:
        """The first input."""
        return next(iter((*self.inputs, *self.named.values())), None)

    @property
    def result(self) -> Any:
        """The output, taken out of a tuple of one."""
        in_tuple = isinstance(self.output, tuple) and len(self.output) == 1
        return self.output[0] if in_tuple else self.output


def removable_blocks(
    module: nn.Module, example: Mapping[str, Tensor], patterns: Sequence[str] = (), skip: Sequence[str] = ()
) -> dict[str, RemovedBlock]:
    """Return the blocks that can be left out by path, in the model's order.

    Without patterns these are the numbered members of sequences and lists, the innermost where they are
    nested. Raises StageError if a pattern matches nothing, or nothing that can be left out.
    """
    stay = set(select_modules(module, skip))
    named = select_modules(module, patterns) if patterns else numbered(module)
    paths = [path for path in named if path not in stay and list(module.get_submodule(path).children())]
    blocks = {path: found for path, found in qualified(module, example, paths).items() if found is not None}
    for pattern in patterns:
        gone = [path for path in named if isinstance(module.get_submodule(path), Passing)]
        if not any(fnmatchcase(path, pattern) for path in (*blocks, *gone)):
            raise StageError(
                f"nothing that matches '{pattern}' can be left out: a block runs once, gives a tensor of its "
                "input's shape, and adds to its input",
                about=pattern,
            )
    innermost = {
        path: block
        for path, block in blocks.items()
        if not any(other.startswith(f"{path}.") for other in blocks)
    }
    return {path: block for path, block in innermost.items() if runs_without(module, example, block)}


def runs_without(module: nn.Module, example: Mapping[str, Tensor], block: RemovedBlock) -> bool:
    """Return whether a model runs without a block: the code around it may look inside it."""
    with left_out(module, block), in_inference_mode(module), torch.no_grad(), without_fastpath():
        try:
            module(**example)
        except AttributeError:  # `nn.TransformerEncoder` reads `layers[0].self_attn`
            return False
    return True


@contextmanager
def left_out(module: nn.Module, block: RemovedBlock) -> Iterator[None]:
    """Leave a block out of a module for a while."""
    whole = module.get_submodule(block.module)
    module.set_submodule(block.module, Passing(block.in_tuple))
    try:
        yield
    finally:
        module.set_submodule(block.module, whole)


def numbered(module: nn.Module) -> tuple[str, ...]:
    """Return the paths of all members of sequences and lists."""
    return tuple(path for path, _ in module.named_modules() if path.rpartition(".")[2].isdigit())


def qualified(
    module: nn.Module, example: Mapping[str, Tensor], paths: Sequence[str]
) -> dict[str, RemovedBlock | None]:
    """Return how each module is left out, or None if it cannot be."""
    with in_inference_mode(module), torch.no_grad(), without_fastpath():
        calls = calls_of(module, example, paths)
        return {path: block_of(path, module.get_submodule(path), calls[path]) for path in paths}


def block_of(path: str, part: nn.Module, calls: Sequence[Call]) -> RemovedBlock | None:
    """Return how a module is left out, or None if it cannot be."""
    if len(calls) != 1:
        return None
    (call,) = calls
    given, result = call.given, call.result
    if not isinstance(given, Tensor) or not isinstance(result, Tensor) or given.shape != result.shape:
        return None
    if not given.is_floating_point() or not follows_its_input(part, call):
        return None
    return RemovedBlock(module=path, in_tuple=isinstance(call.output, tuple))


def follows_its_input(part: nn.Module, call: Call) -> bool:
    """Return whether a module without its matrices and kernels still gives other outputs for other inputs."""
    bare = copy.deepcopy(part).eval()
    for parameter in bare.parameters():
        if parameter.ndim > 1:
            parameter.zero_()
    outputs = []
    for given in (call.given, call.given.flip(0) + 1):
        inputs, named = with_first(call, given)
        outputs.append(Call(inputs, named, bare(*inputs, **named)).result)
    return not torch.equal(*outputs)


def with_first(call: Call, given: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the inputs of a call with another first one."""
    if call.inputs:
        return (given, *call.inputs[1:]), dict(call.named)
    first = next(iter(call.named))
    return (), {**call.named, first: given}


def calls_of(module: nn.Module, inputs: Mapping[str, Tensor], paths: Sequence[str]) -> dict[str, list[Call]]:
    """Run a module once and return every call of the parts at `paths`."""
    with watching(module, paths) as calls:
        module(**inputs)
    return calls


@contextmanager
def watching(module: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, list[Call]]]:
    """Keep copies of what some parts are given, and give, while a module runs."""
    calls: dict[str, list[Call]] = {path: [] for path in paths}
    handles = []
    for path in paths:
        kept: list[tuple[Any, Any]] = []

        def before(part: nn.Module, inputs: Any, named: Any, kept: list[tuple[Any, Any]] = kept) -> None:
            kept.append((copied(inputs), copied(named)))

        def after(
            part: nn.Module,
            inputs: Any,
            named: Any,
            output: Any,
            kept: list[tuple[Any, Any]] = kept,
            path: str = path,
        ) -> None:
            given, by_name = kept.pop()
            calls[path].append(Call(given, by_name, copied(output)))

        part = module.get_submodule(path)
        handles.append(part.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(part.register_forward_hook(after, with_kwargs=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def copied(value: Any) -> Any:
    """Return a copy of the tensors in a tuple or mapping: a later operation may work in place."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, tuple):
        return tuple(map(copied, value))
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    return value
