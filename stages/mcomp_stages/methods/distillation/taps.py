"""Reading what modules inside a model give, by module path, in plain modules and in captured graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils.hooks import RemovableHandle

from mcomp.errors import StageError
from mcomp.model.recapture import copied
from mcomp.recipe.nearest import did_you_mean


class Recorder(nn.Module):
    """Keeps the value that passes a place in a captured graph."""

    _is_impure = True  # nobody uses its result: dead-code elimination must leave it

    def __init__(self, found: dict[str, Tensor], path: str) -> None:
        super().__init__()
        self.found, self.path = found, path

    def forward(self, value: Tensor) -> None:
        self.found[self.path] = value


class Taps:
    """The features at some paths of a module, as its last call left them. It must not be copied meanwhile."""

    def __init__(self, module: nn.Module, paths: Iterable[str]) -> None:
        """Put the taps in. Raises StageError for a path that the module does not have, with the nearest."""
        self.found: dict[str, Tensor] = {}
        self.paths = tuple(dict.fromkeys(paths))
        self.handles: list[RemovableHandle] = []
        if isinstance(module, GraphModule):
            record_in_graph(module, self.paths, self.found)
        else:
            require_known(self.paths, paths_of(module))
            self.handles = [self.hooked(module.get_submodule(path), path) for path in self.paths]

    def hooked(self, part: nn.Module, path: str) -> RemovableHandle:
        """Let a module leave its output here each time that it is called."""

        def keep(module: nn.Module, arguments: Any, output: Any) -> None:
            found = first_tensor(output)
            if found is not None:
                self.found[path] = found

        return part.register_forward_hook(keep)

    def features(self) -> dict[str, Tensor]:
        """Return the features of the last call, which are then given up.

        Raises StageError naming a module that was not called, or gave no tensor.
        """
        for path in self.paths:
            if path not in self.found:
                raise StageError(
                    "is tapped, but the model does not call it, or it gives no tensor", module=path
                )
        found = {path: self.found[path].float() for path in self.paths}
        self.found.clear()
        return found

    def remove(self) -> None:
        """Take the taps out of a plain module. A captured graph is given up with its own."""
        for handle in self.handles:
            handle.remove()


@contextmanager
def removed(taps: Taps) -> Iterator[None]:
    """Take the taps out at the end of the block."""
    try:
        yield
    finally:
        taps.remove()


def require_known(paths: Sequence[str], known: Sequence[str]) -> None:
    """Raise StageError for the first path that is none, with the nearest."""
    for path in paths:
        if path not in known:
            what = f"no module is called '{path}'"
            raise StageError("; ".join(filter(None, (what, did_you_mean(path, known)))), about=path)


def first_tensor(output: Any) -> Tensor | None:
    """Return the first tensor that a module gives: models of transformers give tuples and mappings."""
    if isinstance(output, Tensor):
        return output
    inside = list(output.values()) if isinstance(output, Mapping) else output
    return first_tensor(inside[0]) if isinstance(inside, list | tuple) and inside else None


def paths_of(module: nn.Module) -> list[str]:
    """Return the paths at which a module can be tapped; those of a captured graph as they were before."""
    if isinstance(module, GraphModule):
        return list(nodes_by_path(module))
    return [path for path, _ in module.named_modules() if path]


def record_in_graph(graph_module: GraphModule, paths: Sequence[str], found: dict[str, Tensor]) -> None:
    """Put a recorder behind the value of each module, in place.

    Quantizers that stand behind a value are not part of it: what is tapped is not rounded yet.
    """
    inside = nodes_by_path(graph_module)
    require_known(paths, list(inside))
    last: dict[Node, Node] = {}  # a block and its last module hand on the same value: recorded in this order
    for number, path in enumerate(paths):
        value = output_of(inside[path])
        name = f"tap_{number}"
        graph_module.add_submodule(name, Recorder(found, path))
        with graph_module.graph.inserting_after(last.get(value, value)):
            last[value] = graph_module.graph.call_module(name, (value,))
    graph_module.recompile()


def tappable(module: nn.Module) -> nn.Module:
    """Return a module with the same weights whose taps leave `module` as it is, once they are removed."""
    return GraphModule(module, copied(module.graph)) if isinstance(module, GraphModule) else module


def nodes_by_path(graph_module: GraphModule) -> dict[str, list[Node]]:
    """Return the calls that the forward of each module made, also in the modules inside it.

    Modules stand in the order in which they are done, as the calls.
    """
    inside: dict[str, list[Node]] = {}
    place = {node: number for number, node in enumerate(graph_module.graph.nodes)}
    for node in graph_module.graph.nodes:
        if node.op != "call_function":
            continue
        for path, _ in node.meta.get("nn_module_stack", {}).values():
            if path:
                inside.setdefault(str(path), []).append(node)
    done = sorted(inside, key=lambda path: (place[inside[path][-1]], -len(path)))
    return {path: inside[path] for path in done}


def output_of(nodes: Sequence[Node]) -> Node:
    """Return the value that a module hands on: the last that a call outside of it uses."""
    own = set(nodes)
    used = [node for node in nodes if any(user not in own for user in node.users)]
    return used[-1] if used else nodes[-1]
