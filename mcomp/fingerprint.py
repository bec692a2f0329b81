"""What a result depends on, as 64 hex digits."""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel

# The libraries that make the bytes of a result. Their versions are in every key.
FRAMEWORK_MAKERS = ("mcomp.model", "mcomp.data", "mcomp.training", "mcomp.measure")
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


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_digest(kind: type) -> str:
    """Return a digest of the code behind a plugin's class if that code may change under us, else "".

    An installed distribution is fixed, and its classes raise `version` when their results change. Code
    outside of site-packages (an editable install, a person's own module) has no such promise: there the
    sources are in the key.
    """
    return tree_digest(kind.__module__.partition(".")[0]) + "".join(map(tree_digest, FRAMEWORK_MAKERS))


@cache
def tree_digest(module: str) -> str:
    """Return a digest of the Python files of a module or package, "" if it is installed and fixed."""
    file = getattr(sys.modules.get(module), "__file__", None) or str(find_source(module))
    path = Path(file)
    if any(path.is_relative_to(sysconfig.get_path(scheme)) for scheme in ("purelib", "platlib", "stdlib")):
        return ""
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    return fingerprint({str(each.relative_to(path.parent)): file_digest(each) for each in files})


def find_source(module: str) -> str | None:
    """Return the file of a module that is not imported yet."""
    spec = find_spec(module)
    return spec.origin if spec else None


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
