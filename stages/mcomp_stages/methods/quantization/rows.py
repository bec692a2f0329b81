"""Linears on sequences as linears on rows: only these have a product in integers with a bias."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from mcomp_stages.methods.quantization.kinds import ACTIVATIONS
from mcomp_stages.methods.quantization.placement import follower

aten = torch.ops.aten


class Rows:
    """A graph whose linears get rows. What several of them read is reshaped once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rows: dict[Node, Node] = {}
        self.sizes: dict[str, Node] = {}

    def flatten(self, linear: Node) -> None:
        """Let a linear and the activation behind it compute on rows, in place; nothing for one that does."""
        source = linear.args[0]
        assert isinstance(source, Node)
        if source.meta["val"].ndim <= 2:
            return
        shape = linear.meta["val"].shape
        end = follower(linear, ACTIVATIONS) or linear
        linear.update_arg(0, self.rows_of(source))
        with self.graph.inserting_after(end):
            back = self.graph.call_function(aten.reshape.default, (end, None))
        with self.graph.inserting_before(back):
            back.update_arg(1, [*self.leading(source, shape[:-1]), int(shape[-1])])
        back.meta = {key: value for key, value in end.meta.items() if key != "site"}
        end.replace_all_uses_with(back, delete_user_cb=lambda user: user is not back)

    def rows_of(self, source: Node) -> Node:
        """Return a value (..., K) as rows (N, K)."""
        if source not in self.rows:
            with self.graph.inserting_after(source):
                rows = self.graph.call_function(
                    aten.reshape.default, (source, [-1, int(source.meta["val"].shape[-1])])
                )
            rows.meta = {key: value for key, value in source.meta.items() if key != "site"}
            self.rows[source] = rows
        return self.rows[source]

    def leading(self, source: Node, sizes: Any) -> list[Any]:
        """Return sizes as numbers; of one that varies, -1; of several, as they are read off the inputs."""
        varying = [size for size in sizes if not isinstance(size, int)]
        if len(varying) < 2:
            return [size if isinstance(size, int) else -1 for size in sizes]
        return [
            size if isinstance(size, int) else self.size(source, axis, size)
            for axis, size in enumerate(sizes)
        ]

    def size(self, source: Node, axis: int, size: Any) -> Node:
        """Return a node that gives a size: read off an input of the graph if one has it."""
        name = str(size)
        if name not in self.sizes:
            place = next(self.inputs_of(name), None)
            value, at = place or (source, axis)
            with self.graph.inserting_after(self.last_input if place else source):
                self.sizes[name] = self.graph.call_function(aten.sym_size.int, (value, at))
        return self.sizes[name]

    @property
    def last_input(self) -> Node:
        """Behind it all inputs are there."""
        inputs: list[Node] = self.graph.find_nodes(op="placeholder")
        return inputs[-1]

    def inputs_of(self, name: str) -> Any:
        """Yield the inputs that have a size of this name, with its axis."""
        for node in self.graph.find_nodes(op="placeholder"):
            for axis, size in enumerate(node.meta["val"].shape):
                if str(size) == name:
                    yield node, axis
