"""Any bytes as a file of torch.save: as the pickle in an archive, and as they are."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

from torch import nn

from mcomp.errors import CheckpointError
from mcomp.model.checkpoint import load_weights
from tests.fuzz.properties import require_good_words
from tests.hostile import pickle_code as code

SEEDS = [
    code.program(code.state_dict()),
    code.program(code.mapping(model=code.state_dict(), epoch=code.number(3))),
    code.program(code.state_dict(evil=code.call("os", "system", code.text("x")))),
    code.legacy(code.state_dict(), [code.DATA["0"], code.DATA["1"]]),
    code.archive(code.state_dict()),
    code.archive(code.call("builtins", "bytearray", code.number(9))),
]
IS_JSON = False


def attempt(data: bytes) -> None:
    """Start from the bytes as a checkpoint."""
    if data[:2] == b"\x80\x02" and b"protocol_version" not in data:
        data = archived(data)
    Path("w.pt").write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_weights(nn.Linear(4, 2), Path("w.pt"))
    except CheckpointError as error:
        require_good_words(error)


def archived(pickled: bytes) -> bytes:
    """Return an archive with a pickle."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("w/data.pkl", pickled)
        for name, content in code.DATA.items():
            file.writestr(f"w/data/{name}", content)
        file.writestr("w/version", "3\n")
    return written.getvalue()
