"""Products of an input with a weight, in the forms that PyTorch writes them in."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

aten = torch.ops.aten

# Where the weight of a product stands, its input, and its bias, if it may have one.
PRODUCTS: dict[Any, tuple[int, int, int | None]] = {
    aten.linear.default: (1, 0, 2),
    aten.matmul.default: (1, 0, None),
    aten.mm.default: (1, 0, None),
    aten.addmm.default: (2, 1, 0),
}


def is_product(node: Node, weight: Node) -> bool:
    """Whether a call multiplies an input with this weight, and does nothing else with it."""
    place, source, _ = PRODUCTS.get(node.target, (0, 0, None))
    return (
        node.target in PRODUCTS
        and not node.kwargs
        and node.args[place] is weight
        and node.args[source] is not weight
    )


def operands(node: Node) -> tuple[Node, Any]:
    """Return the input and the bias of a product; None if it has no bias."""
    _, source, bias = PRODUCTS[node.target]
    x = node.args[source]
    assert isinstance(x, Node)
    return x, node.args[bias] if bias is not None and len(node.args) > bias else None
