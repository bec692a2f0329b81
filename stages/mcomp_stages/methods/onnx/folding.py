"""What the exporter must leave to the runtime: numbers that are kept in few bits."""

from __future__ import annotations

from onnxscript.ir import DataType, Node, Value

NARROW = frozenset(
    {
        DataType.UINT8,
        DataType.INT8,
        DataType.UINT16,
        DataType.INT16,
        DataType.UINT4,
        DataType.INT4,
        DataType.FLOAT16,
        DataType.BFLOAT16,
    }
)


def may_fold(node: Node) -> bool | None:
    """Say no for calls that read weights of a narrow type: folded, the file would hold them in floats.

    None leaves the choice to the optimizer.
    """
    return False if any(is_narrow_weight(value) for value in node.inputs if value is not None) else None


def is_narrow_weight(value: Value) -> bool:
    """Whether a value is in the file, in a type of two bytes or less."""
    return value.is_initializer() and value.dtype in NARROW
