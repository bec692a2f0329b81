"""Any bytes as an array of NumPy, and as an archive of them."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

from mcomp.errors import RecipeError
from mcomp_stages.data.array_files import open_arrays
from mcomp_stages.data.array_layout import by_split
from tests.fuzz.properties import require_good_words
from tests.hostile.arrays import GOOD, LABELS, TWO, header, npy, zipped

SEEDS = [
    GOOD,
    LABELS,
    npy(header("(2, 2)", "'|b1'", "True"), bytes(4)),
    npy(header(), bytes(16), (2, 0)),
    zipped(TWO),
    zipped(TWO, zipfile.ZIP_DEFLATED),
]
IS_JSON = False


def attempt(data: bytes) -> None:
    """Look at the arrays."""
    path = Path("data.npz") if data[:2] == b"PK" else Path("data")
    if path.suffix:
        path.write_bytes(data)
    else:
        path.mkdir(exist_ok=True)
        (path / "image.npy").write_bytes(data)
        (path / "target.npy").write_bytes(LABELS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            by_split(open_arrays(path))
    except RecipeError as error:
        require_good_words(error)
