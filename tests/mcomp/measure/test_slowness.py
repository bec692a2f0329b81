from __future__ import annotations

import pytest

from mcomp.measure.slowness import explain_slow
from mcomp.store.ledger import Census

VNNI = ["avx2", "avx512_vnni"]
BASELINE = Census(int8=0, float=21, by_type={"Conv": 20, "Gemm": 1, "ReorderOutput": 1})
CLEAN = Census(
    int8=21, float=0, by_type={"QLinearConv": 20, "QGemm": 1, "QuantizeLinear": 1, "DequantizeLinear": 1}
)


def changed(by_type: dict[str, int], **figures: object) -> Census:
    return CLEAN.model_copy(update={"by_type": CLEAN.by_type | by_type, **figures})


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (changed({}, float=1, float_layers=("fc",)), "1 of 22 layers stayed in float (fc)"),
        (changed({"DequantizeLinear": 3}), "4 QuantizeLinear and DequantizeLinear"),
        (changed({"Transpose": 8}), "8 layout changes (Transpose) against 1 in the baseline"),
        (changed({}, int8=0), "no layer runs in integers"),
        (
            changed({}, narrow_layers=("conv1",)),
            "over fewer than 8 channels are slower than float ones (conv1)",
        ),
        (
            changed({}, unrounded_layers=("a", "b")),
            "2 convolutions (a, b) give a number of channels that is no multiple of 8, against 0",
        ),
        (changed({}, sparse_layers=("fc",)), "more than half of the weights of 1 layers are zero (fc)"),
        (changed({"Cast": 5}), "5 Cast operators against 0 in the baseline"),
        (changed({"MatMulNBits": 7, "Cast": 5}), "7 products unpack their weights"),
        (CLEAN, "shows no cause"),
    ],
)
def test_the_one_cause_is_named_with_what_to_change(served: Census, words: str) -> None:
    (cause,) = explain_slow(served, BASELINE, VNNI)
    assert words in cause
    assert "; " in cause


def test_a_processor_without_byte_products_is_a_cause_for_integers_only() -> None:
    (cause,) = explain_slow(CLEAN, BASELINE, ["avx2"])
    assert "VNNI" in cause
    assert "VNNI" not in explain_slow(BASELINE, BASELINE, ["avx2"])[0]


def test_a_long_list_of_layers_is_cut() -> None:
    names = tuple(f"layer{i}" for i in range(9))
    (cause,) = explain_slow(changed({}, float=9, float_layers=names), BASELINE, VNNI)
    assert "layer4 and 4 more" in cause
    assert "layer5" not in cause
