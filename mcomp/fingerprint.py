"""What a result depends on, as 64 hex digits."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel

# The libraries that make the bytes of a result. Their versions are in every key.
MAKERS = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime")


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: sorted keys, no white space, ASCII. Raises ValueError for NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode()


def fingerprint(value: Any) -> str:
    """Return the sha256 of a JSON value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def sub_seed(seed: int, purpose: str) -> int:
    """Return a 63-bit seed for one purpose, so that adding a consumer does not shift the others' numbers."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def makers() -> dict[str, str]:
    """Return the versions of the libraries that make the bytes."""
    return {name: version(name) for name in MAKERS}


def effective(config: BaseModel) -> dict[str, Any]:
    """Return a configuration as JSON without the fields that do not affect the result."""
    kept: dict[str, Any] = {}
    plain = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("affects_result") is False:
            continue
        value = getattr(config, name)
        kept[name] = effective(value) if isinstance(value, BaseModel) else plain[name]
    return kept
