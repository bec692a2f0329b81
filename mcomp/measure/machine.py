"""Where a figure was taken. Free of torch."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

from mcomp.fingerprint import fingerprint

# What decides how fast the integer kernels are: VNNI multiplies and adds bytes in one instruction.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
# Those of them that add products of bytes in 32 bits.
BYTE_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
CPUINFO = Path("/proc/cpuinfo")
# What a latency depends on. The rest of `machine` is for the reader.
TIMED_BY = ("cpu", "cores", "instructions", "os", "onnxruntime")


def machine() -> dict[str, str]:
    """Return the processor, the cores this process may use, the system and the versions, in words."""
    cpu, flags = processor()
    return {
        "cpu": cpu,
        "cores": str(usable_cores()),
        "instructions": " ".join(name for name in INSTRUCTION_SETS if name in flags),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions(),
    }


@cache
def versions() -> dict[str, str]:
    """Return the versions of the libraries; they cannot change while this process lives."""
    return {name: version(name) for name in ("torch", "onnx", "onnxruntime")}


def machine_id() -> str:
    """Return 16 hex digits that are equal where latencies may be compared."""
    facts = machine()
    return fingerprint({name: facts[name] for name in TIMED_BY})[:16]


def adds_products_in_32_bits() -> bool:
    """Return whether this processor is known to multiply and add bytes without an overflow on the way."""
    return bool(BYTE_PRODUCTS & processor()[1])


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> tuple[str, frozenset[str]]:
    """Return the processor's name and its instruction sets (none are known where the kernel does not say)."""
    fields: dict[str, str] = {}
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name") or platform.processor() or "unknown", frozenset(flags.split())
