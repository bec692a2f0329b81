"""Which layers each runtime has in integers, and which grids it is fast on.

Free of torch. A preset gives the defaults of a scheme's grids, and says where quantizers stand: only where
the runtime makes an integer operator of what is between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Preset = Literal["onnxruntime_x86", "openvino", "arm_xnnpack"]


@dataclass(frozen=True)
class Runtime:
    """A runtime on a kind of processor.

    `layers` are kinds of `kinds`. `grids` are the fields of a scheme that differ from its
    defaults; `activation_bits` and `weight_grids` what it has operators for. `resizes_integers`: whether
    resizing to the nearest neighbour runs on integers. `short_sums`: whether it has kernels that add two
    products in 16 bits, in a known order.
    """

    words: str
    layers: frozenset[str] = frozenset({"convolution", "linear"})
    grids: dict[str, dict[str, Any]] = field(default_factory=dict)
    activation_bits: frozenset[int] = frozenset({2, 3, 4, 5, 6, 7, 8, 16})
    weight_grids: frozenset[str] = frozenset({"tensor", "channel", "group"})
    affine_weights: bool = True
    short_sums: bool = False
    resizes_integers: bool = True

    def has_width(self, bits: int | None) -> bool:
        """Whether it has activations of so many bits."""
        return bits is None or bits in self.activation_bits

    def has_scales(self, per: str | None) -> bool:
        """Whether it has weights with a scale for each of these."""
        return per is None or per in self.weight_grids


RUNTIMES: dict[Preset, Runtime] = {
    # Unsigned activations and signed weights: of the four pairs the only one with fast kernels.
    "onnxruntime_x86": Runtime("ONNX Runtime on x86", short_sums=True),
    "openvino": Runtime(
        "OpenVINO",
        layers=frozenset({"convolution", "transposed convolution", "linear"}),
        activation_bits=frozenset({2, 3, 4, 5, 6, 7, 8}),
        weight_grids=frozenset({"tensor", "channel"}),
    ),
    "arm_xnnpack": Runtime(
        "XNNPACK on ARM",
        layers=frozenset({"convolution", "transposed convolution", "linear"}),
        grids={"activations": {"signed": True}},
        activation_bits=frozenset({2, 3, 4, 5, 6, 7, 8}),
        weight_grids=frozenset({"tensor", "channel"}),
        affine_weights=False,
        resizes_integers=False,
    ),
}
