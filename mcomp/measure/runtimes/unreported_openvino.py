"""OpenVINO, without its report home.

When it is imported, OpenVINO tells its makers so from a process of its own, unless a file in the user's home
forbids it. Without the package that does it, OpenVINO takes a stub of the same name. Import `ov` from here.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: it cannot be imported

import openvino as ov  # noqa: E402  # the line above is for this one

__all__ = ["ov"]
