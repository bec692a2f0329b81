"""What the operators of ONNX Runtime's optimised graphs are. Free of torch and of the runtime."""

from __future__ import annotations

# Operators that are a layer, and which of their inputs may be its weight. A product of two activations
# (attention) has no constant operand and is no layer.
INT8_LAYERS: dict[str, tuple[int, ...]] = {
    "QLinearConv": (3,),
    "ConvInteger": (1,),
    "QGemm": (3,),
    "QLinearMatMul": (0, 3),
    "MatMulInteger": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "DynamicQuantizeMatMul": (1,),
}
# Which of their inputs is the zero point of the weight.
ZERO_POINTS: dict[tuple[str, int], int] = {
    ("QLinearConv", 3): 5,
    ("ConvInteger", 1): 3,
    ("QGemm", 3): 5,
    ("QLinearMatMul", 0): 2,
    ("QLinearMatMul", 3): 5,
    ("MatMulInteger", 0): 2,
    ("MatMulInteger", 1): 3,
    ("MatMulIntegerToFloat", 0): 4,
    ("MatMulIntegerToFloat", 1): 5,
    ("DynamicQuantizeMatMul", 1): 3,
}
FLOAT_LAYERS: dict[str, tuple[int, ...]] = {
    "Conv": (1,),
    "FusedConv": (1,),
    "NhwcFusedConv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (0, 1),
    "FusedGemm": (0, 1),
    "MatMul": (0, 1),
    "FusedMatMul": (0, 1),
    "MatMulNBits": (1,),
}

PACKED = ("MatMulNBits",)  # their weight is bytes of several numbers

# What stands between integer and float, and between two memory layouts: time without arithmetic.
PAIRS = ("QuantizeLinear", "DequantizeLinear")
LAYOUT = ("ReorderInput", "ReorderOutput", "Transpose")


def kind(operator: str) -> str:
    """Return `int8`, `float`, `conversion`, or `other` for what computes in either."""
    if operator in PAIRS or operator in LAYOUT:
        return "conversion"
    if operator in FLOAT_LAYERS:
        return "float"
    return "int8" if operator in INT8_LAYERS or operator.startswith("QLinear") else "other"
