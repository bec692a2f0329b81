"""What is installed, on what machine, and what is known to go wrong with that. Imports none of it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, version
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from packaging.requirements import Requirement

from mcomp import plugins
from mcomp.errors import StoreError
from mcomp.measure.machine import BYTE_PRODUCTS, INSTRUCTION_SETS, processor, usable_cores
from mcomp.store.store import Store

LIBRARIES = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "hydra-core", "omegaconf", "pydantic")
# One import name, several distributions that overwrite each other's files.
RUNTIME_BUILDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")
RUNTIMES = (*RUNTIME_BUILDS[1:], "openvino", "executorch")
# Compiled for one version of torch each; mcomp needs none of them.
COMPANIONS = ("torchvision", "torchaudio", "executorch", "torchao")

MOUNTS = Path("/proc/mounts")
NETWORK_DISKS = ("nfs", "cifs", "smb", "9p", "ceph", "lustre", "glusterfs", "beegfs", "afs", "fuse.")
LITTLE_ROOM_BYTES = 2 * 10**9

DEEP = {
    "torch": "import torch; torch.ones(2) @ torch.ones(2); print(torch.get_num_threads(), 'threads')",
    "onnx": "import onnx; print(onnx.defs.onnx_opset_version(), 'is its newest opset')",
    "onnxruntime": "import onnxruntime as o; print(', '.join(o.get_available_providers()))",
    "openvino": "import sys; sys.modules['openvino_telemetry'] = None; "
    "import openvino as o; print(', '.join(o.Core().available_devices))",
    "executorch": "import executorch.exir; print('imports')",
    "torchvision": "import torchvision; print('imports')",
}
PATIENCE_SECONDS = 300


class Finding(NamedTuple):
    """Something to know: `broken` must be repaired, a `trap` need not be.

    `next_step`: what to do about it.
    """

    level: Literal["broken", "trap"]
    what: str
    next_step: str


def versions() -> dict[str, str]:
    """Return the versions of Python, of the libraries that matter, and of the runtimes."""
    found = {name: installed(name) for name in (*LIBRARIES, *RUNTIMES)}
    known = {name: number or "not installed" for name, number in found.items() if number or name in LIBRARIES}
    return {"python": platform.python_version(), **known}


def hardware() -> dict[str, str]:
    """Return the processor, its cores, and the instructions that decide how fast integers are."""
    name, flags = processor()
    fast = " ".join(each for each in INSTRUCTION_SETS if each in BYTE_PRODUCTS & flags)
    return {"processor": name, "cores": str(usable_cores()), "fast integers": fast or "none known"}


def findings(store: Path) -> list[Finding]:
    """Return all that is known to be wrong, or to go wrong, what is broken first."""
    _, flags = processor()
    found = [
        *requirement_findings(distribution("mcomp").requires or ()),
        *companion_findings(installed("torch")),
        *duplicate_findings(),
        *instruction_findings(flags),
        *store_findings(store),
        *plugin_findings(),
    ]
    return sorted(found, key=lambda finding: finding.level)


def installed(name: str) -> str | None:
    """Return the version of a distribution, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def requirement_findings(requirements: Iterable[str]) -> Iterator[Finding]:
    """Yield each distribution that is missing or of a version that was not tried."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found, wanted = installed(requirement.name), requirement.specifier
        repair = f'pip install "{requirement.name}{wanted}"'
        if found is None:
            yield Finding("broken", f"{requirement.name} is not installed", repair)
        elif not wanted.contains(found, prereleases=True):
            yield Finding("broken", f"{requirement.name} {found} is not {wanted}, which mcomp needs", repair)


def companion_findings(torch: str | None) -> Iterator[Finding]:
    """Yield each distribution that was compiled for another torch than the one that is installed."""
    for name in COMPANIONS:
        found = installed(name)
        if found is None or torch is None:
            continue
        needs = [need for need in map(Requirement, distribution(name).requires or ()) if need.name == "torch"]
        misfits = [
            str(need.specifier) for need in needs if not need.specifier.contains(torch, prereleases=True)
        ]
        builds = [number.partition("+")[2] for number in (torch, found)]
        if misfits:
            what = f"{name} {found} was made for torch {misfits[0]}, and torch {torch} is installed"
        elif name == "torchvision" and builds[0] != builds[1]:
            what = f"{name} {found} and torch {torch} are not of one build"
        else:
            continue
        yield Finding(
            "trap", f"{what}: it may fail to import", f"uninstall {name}, or install the one that fits"
        )


def duplicate_findings() -> Iterator[Finding]:
    """Yield what is installed twice: which of them is imported, or is used, is luck."""
    for name in ("torch", *RUNTIME_BUILDS[:1]):
        places = {place(each): each.version for each in distributions(name=name)}
        if len(places) > 1:
            where = ", ".join(f"{number} in {folder}" for folder, number in places.items())
            yield Finding(
                "trap", f"{name} is installed {len(places)} times: {where}", "uninstall all but one"
            )
    builds = [name for name in RUNTIME_BUILDS if installed(name)]
    if len(builds) > 1:
        what = f"{' and '.join(builds)} overwrite each other's files"
        yield Finding("trap", what, "uninstall them, and install the one that you want")


def place(found: Distribution) -> str:
    """Return the folder that a distribution is installed in."""
    return str(Path(str(found.locate_file(""))).resolve())


def instruction_findings(flags: frozenset[str]) -> Iterator[Finding]:
    """Yield that integers are neither fast nor safe here, where the system says what the processor can do."""
    if flags and not flags & BYTE_PRODUCTS:
        what = (
            "the processor adds products of bytes in 16 bits (no VNNI, AMX or dot products): 8-bit weights "
            "gain size here and little time, and overflow in ONNX Runtime without session.x64quantprecision=1"
        )
        yield Finding(
            "trap",
            what,
            "use weights of 7 bits or with sums: int16, and measure on the machine that will serve the model",
        )


def store_findings(root: Path) -> Iterator[Finding]:
    """Yield why a store may fail: not a store's folder, of another format, not ours to write, on a full disk
    or on a network.
    """
    folder = next(each for each in (root.absolute(), *root.absolute().parents) if each.exists())
    choose, store = "choose another with --store", Store(root)
    try:
        if not store.require_format():
            store.require_ours()
    except StoreError as error:
        yield Finding("broken", str(error), choose)
    if not folder.is_dir():
        yield Finding("broken", f"{folder} is a file: the store {root} must be a folder", choose)
    if not os.access(folder, os.W_OK):
        yield Finding("broken", f"the store {root} cannot be written", choose)
    free = shutil.disk_usage(folder).free
    if free < LITTLE_ROOM_BYTES:
        yield Finding("trap", f"the store {root} has {free / 1e9:.1f} GB left", f"make room, or {choose}")
    kind = disk_kind(folder)
    if kind.startswith(NETWORK_DISKS):
        what = f"the store {root} lies on a network disk ({kind}): its locks may not hold between machines"
        yield Finding("trap", what, f"{choose}, or run on one machine at a time")


def disk_kind(folder: Path) -> str:
    """Return the type of the file system that a folder lies on, "" where the system does not say."""
    kinds: dict[Path, str] = {}
    if MOUNTS.is_file():
        for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            _, mounted, kind, *_ = line.split(" ")
            kinds[Path(mounted.replace("\\040", " "))] = kind
    real = folder.resolve()
    return next((kinds[each] for each in (real, *real.parents) if each in kinds), "")


def plugin_findings() -> Iterator[Finding]:
    """Yield each plugin that cannot be used."""
    for group in get_args(plugins.Group):
        for each in plugins.describe(group):
            if each.error:
                yield Finding("broken", each.error, "reinstall or uninstall its distribution")


def deep_findings(probes: Mapping[str, str] = DEEP) -> Iterator[tuple[str, str | Finding]]:
    """Yield, for each library that is installed, what it says when it is really imported, or how it fails.

    Each is imported in a process of its own: one that crashes takes nothing with it.
    """
    for name, code in probes.items():
        if installed(name) is None:
            continue
        try:
            done = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            yield (
                name,
                Finding("broken", f"{name} does not import in {PATIENCE_SECONDS} s", f"reinstall {name}"),
            )
            continue
        said = (done.stdout if done.returncode == 0 else done.stderr).strip().rpartition("\n")[2]
        broken = Finding(
            "broken", f"{name} does not import: {said or f'exit code {done.returncode}'}", f"reinstall {name}"
        )
        yield name, said if done.returncode == 0 else broken
