"""How much memory can still be had, as the kernel says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.measure import memory

GIBIBYTE = 2**30


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")
    return tmp_path


def test_what_the_machine_has_is_what_a_process_without_limit_can_get(kernel: Path) -> None:
    assert memory.free_bytes() == 8 * GIBIBYTE
    (kernel / "memory.max").write_text("max\n")
    (kernel / "memory.current").write_text("1\n")
    assert memory.free_bytes() == 8 * GIBIBYTE


@pytest.mark.parametrize(("held", "expected"), [(3 * GIBIBYTE, 3 * GIBIBYTE), (7 * GIBIBYTE, 0)])
def test_a_control_group_may_have_less_and_cached_files_can_be_given_up(
    kernel: Path, held: int, expected: int
) -> None:
    (kernel / "memory.max").write_text(f"{4 * GIBIBYTE}\n")
    (kernel / "memory.stat").write_text(f"anon 5\nactive_file {GIBIBYTE}\ninactive_file {GIBIBYTE}\n")
    (kernel / "memory.current").write_text(f"{held}\n")
    assert memory.free_bytes() == expected


@pytest.mark.parametrize("text", ["", "MemAvailable: many kB", "MemTotal: 5 kB"])
def test_where_the_kernel_does_not_say_nothing_is_known(kernel: Path, text: str) -> None:
    (kernel / "meminfo").write_text(text)
    assert memory.free_bytes() is None
    (kernel / "meminfo").unlink()
    assert memory.free_bytes() is None
