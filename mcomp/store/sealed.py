"""JSON that a person can read and that shows when one byte of it changed: its digest stands in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mcomp.fingerprint import fingerprint

DIGEST = "sha256"


def sealed(plain: Mapping[str, Any]) -> bytes:
    """Return the one text of a JSON object, its digest as the last key."""
    text = json.dumps({**plain, DIGEST: fingerprint(plain)}, indent=2, allow_nan=False)
    return f"{text}\n".encode()


def unsealed(data: bytes) -> dict[str, Any]:
    """Return the object that was sealed. Raises ValueError if one byte is not as it was written."""
    try:
        plain: dict[str, Any] = dict(json.loads(data))
        del plain[DIGEST]
        is_whole = sealed(plain) == data
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError("its bytes are not the ones that were written")
    return plain
