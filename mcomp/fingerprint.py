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
from uuid import uuid4

from pydantic import BaseModel

from mcomp import plainfile

# What makes the bytes of a result beside the plugins: our code, by its sources where they may change, and
# libraries, by their versions.
FRAMEWORK_MAKERS = (
    "mcomp.model",
    "mcomp.data",
    "mcomp.training",
    "mcomp.measure",
    "mcomp.executor",
    "mcomp.fingerprint",
)
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


@cache
def makers() -> dict[str, str]:
    """Return the versions of the libraries that make the bytes."""
    return {name: version(name) for name in MAKERS}


def file_digest(path: Path) -> str:
    """Return the sha256 of a plain file's bytes. Raises OSError for a pipe or a device."""
    return plainfile.sha256(path)


def sources(kind: type) -> dict[str, str]:
    """Return, by module, a digest of the code behind a plugin's class that may change under us.

    An installed distribution is fixed, and its classes raise `version` when their results change. Code
    outside of site-packages (an editable install, a person's own module) has no such promise: there the
    sources are in the key. A class that was typed into a notebook has none: its results are found again as
    long as the class lives, and never after.
    """
    module = kind.__module__.partition(".")[0]
    own = {module: tree_digest(module)} if source_files(module) else {kind.__qualname__: class_token(kind)}
    digests = {**own, **{name: tree_digest(name) for name in FRAMEWORK_MAKERS}}
    return {name: digest for name, digest in digests.items() if digest}


@cache
def class_token(kind: type) -> str:
    """Return what no other class has, in this process or another."""
    return uuid4().hex


@cache
def tree_digest(module: str) -> str:
    """Return a digest of the Python files of a module or package, "" if it is installed and fixed."""
    installed = [sysconfig.get_path(scheme) for scheme in ("purelib", "platlib", "stdlib")]
    files = source_files(module)
    if all(any(file.is_relative_to(folder) for folder in installed) for file in files.values()):
        return ""
    return fingerprint({name: file_digest(file) for name, file in files.items()})


@cache
def source_files(module: str) -> dict[str, Path]:
    """Return the Python files of a module or package by relative name; none, if it has no file (a notebook).

    A package need not be imported, and need not have an `__init__.py`.
    """
    found = sys.modules.get(module)
    if found is not None:
        folders, file = getattr(found, "__path__", None), getattr(found, "__file__", None)
    else:
        spec = find_spec(module)
        folders, file = (spec.submodule_search_locations, spec.origin) if spec else (None, None)
    if folders is None:
        return {Path(file).name: Path(file)} if file else {}
    paths = [(Path(folder), path) for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    return {str(path.relative_to(folder)): path for folder, path in paths}


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
