from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mcomp.measure import machine as place
from mcomp.measure.machine import machine, machine_id

X86 = "model name : Xeon\nflags : fpu avx2 avx512f avx512_vnni\n\nmodel name : Another\n"
ARM = "processor : 0\nBogoMIPS : 50.00\nFeatures : fp asimd asimddp i8mm\n"


def at(monkeypatch, tmp_path: Path, cpuinfo: str) -> dict[str, str]:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(place, "CPUINFO", tmp_path / "cpuinfo")
    return machine()


def test_the_processor_and_its_integer_instructions_are_named(monkeypatch, tmp_path: Path) -> None:
    here = at(monkeypatch, tmp_path, X86)
    assert here["cpu"] == "Xeon"
    assert here["instructions"] == "avx2 avx512f avx512_vnni"
    assert at(monkeypatch, tmp_path, ARM)["instructions"] == "asimddp i8mm"


def test_another_processor_is_another_machine_and_another_python_is_not(monkeypatch, tmp_path: Path) -> None:
    at(monkeypatch, tmp_path, X86)
    here = machine_id()
    monkeypatch.setattr(place.platform, "python_version", lambda: "9.9.9")
    assert machine_id() == here
    at(monkeypatch, tmp_path, X86.replace("Xeon", "Epyc"))
    assert machine_id() != here


def test_a_system_that_says_nothing_still_has_a_name(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(place, "CPUINFO", tmp_path / "none")
    here = machine()
    assert here["cpu"]
    assert here["instructions"] == ""


def test_measuring_files_loads_no_torch() -> None:
    modules = "census, latency, machine, runtime, saturation, served, slowness"
    code = f"import sys; from mcomp.measure import {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
