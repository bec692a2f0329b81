"""Why a compressed file is slower than its baseline, read off the two optimised graphs. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from mcomp.measure.machine import BYTE_PRODUCTS
from mcomp.measure.operators import LAYOUT, PAIRS
from mcomp.store.ledger import Census

UNPACKING = ("MatMulNBits", "BitShift", "BitwiseAnd")  # makes floats of codes; its casts are part of that
NAMED = 5  # how many layers a message names


def explain_slow(served: Census, baseline: Census, instructions: Collection[str]) -> tuple[str, ...]:
    """Return the causes in words, each with what to change; `instructions` are the processor's.

    Never empty: a graph without a visible cause is said to be one.
    """
    causes = tuple(cause for find in CAUSES if (cause := find(served, baseline)))
    if served.int8 and not BYTE_PRODUCTS & set(instructions):
        causes += (
            "this processor has no instruction for sums of byte products (VNNI): here 8-bit weights save "
            "size, not time; use weights of 7 bits, or measure on the machine that will serve the file",
        )
    return causes or (
        "the optimised graph shows no cause: the layers are too small for fewer multiply-adds or integers "
        "to outweigh the fixed cost of each operator; measure a larger batch, or cut layers, not channels",
    )


def count(census: Census, kinds: Collection[str]) -> int:
    """Return how many operators of these kinds a graph has."""
    return sum(census.by_type.get(kind, 0) for kind in kinds)


def float_islands(served: Census, baseline: Census) -> str | None:
    """Layers left in float between integer ones: their inputs are dequantized and their outputs quantized."""
    if not served.int8 or not served.float:
        return None
    number = served.int8 + served.float
    return (
        f"{served.float} of {number} layers stayed in float ({listed(served.float_layers)}); "
        "quantize the inputs, weights and outputs of these layers too"
    )


def no_integers(served: Census, baseline: Census) -> str | None:
    """Quantize/dequantize pairs that the runtime did not fuse into a single integer layer."""
    if served.int8 or not count(served, PAIRS):
        return None
    return (
        "the file carries quantizers, but no layer runs in integers; the runtime fuses only unsigned 8-bit "
        "activations per tensor with signed symmetric 8-bit weights"
    )


def unfused_pairs(served: Census, baseline: Census) -> str | None:
    """More quantize/dequantize operators than the one at the input and the one at the output."""
    num_pairs = count(served, PAIRS)
    if not served.int8 or num_pairs <= 2:
        return None
    return (
        f"{num_pairs} QuantizeLinear and DequantizeLinear operators were not fused away (2 are needed: at "
        "the input and the output); place quantizers also around pooling, additions and concatenations"
    )


def layout_changes(served: Census, baseline: Census) -> str | None:
    """More conversions between memory layouts than the baseline has."""
    here, there = count(served, LAYOUT), count(baseline, LAYOUT)
    if here <= there:
        return None
    found = ", ".join(kind for kind in LAYOUT if kind in served.by_type)
    return (
        f"{here} layout changes ({found}) against {there} in the baseline; round the kept channels to a "
        "multiple of 16, and quantize what stands between convolutions, so that they stay in one layout"
    )


def narrow_convolutions(served: Census, baseline: Census) -> str | None:
    """Integer convolutions over few channels, which are slower than the float ones."""
    if not served.narrow_layers:
        return None
    named = ", ".join(served.narrow_layers[:NAMED])
    return (
        f"integer convolutions over fewer than 8 channels are slower than float ones ({named}); "
        "a wider network gains from integers, this one only in size"
    )


def type_changes(served: Census, baseline: Census) -> str | None:
    """More conversions between float types than the baseline has: operators that are not there in 16 bits."""
    here, there = count(served, ("Cast",)), count(baseline, ("Cast",))
    if here <= there or count(served, UNPACKING):
        return None
    return (
        f"{here} Cast operators against {there} in the baseline: the runtime has no operators of 16 bits for "
        "this processor and converts around them; set activations: float, which only stores in 16 bits"
    )


def packed_products(served: Census, baseline: Census) -> str | None:
    """Products that unpack their weights each time."""
    number = count(served, ("MatMulNBits",))
    if not number:
        return None
    return (
        f"{number} products unpack their weights each time (MatMulNBits), which saves bytes, not time; "
        "unpack: load unpacks them once and takes the time and memory of floats"
    )


def unrounded_channels(served: Census, baseline: Census) -> str | None:
    """More convolutions than in the baseline whose channels do not fill the processor's registers."""
    here, there = served.unrounded_layers, baseline.unrounded_layers
    if len(here) <= len(there):
        return None
    return (
        f"{len(here)} convolutions ({listed(here)}) give a number of channels that is no multiple of 8, "
        f"against {len(there)} in the baseline, and take the time of the next one; set round_to: 8 where "
        "channels are pruned"
    )


def sparse_weights(served: Census, baseline: Census) -> str | None:
    """Zeros, which a dense runtime multiplies like other numbers."""
    if len(served.sparse_layers) <= len(baseline.sparse_layers):
        return None
    return (
        f"more than half of the weights of {len(served.sparse_layers)} layers are zero "
        f"({listed(served.sparse_layers)}), and this runtime multiplies zeros like other numbers; zeros save "
        "bytes, not time: prune.channels makes the layers smaller"
    )


def listed(layers: Sequence[str]) -> str:
    """Return the names of the first layers."""
    more = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
    return ", ".join(layers[:NAMED]) + more


CAUSES: tuple[Callable[[Census, Census], str | None], ...] = (
    float_islands,
    no_integers,
    unfused_pairs,
    layout_changes,
    narrow_convolutions,
    unrounded_channels,
    sparse_weights,
    type_changes,
    packed_products,
)
