"""In fresh processes: commands that only read import nothing heavy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import HEAVY, loaded_by, python, write_recipes


def test_the_package_alone_imports_nothing_heavy(tmp_path: Path) -> None:
    names = (*HEAVY, "hydra", "pydantic")
    code = f"import sys, mcomp; print([name for name in {names} if name in sys.modules])"
    done = python("-c", code, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_what_the_package_offers_is_imported_when_it_is_used(tmp_path: Path) -> None:
    code = "import sys, mcomp; mcomp.run; mcomp.plugins.stage; print('torch' in sys.modules)"
    assert python("-c", code, cwd=tmp_path).stdout == "False\n"
    missing = python("-c", "import mcomp; mcomp.runs", cwd=tmp_path)
    assert "AttributeError: module 'mcomp' has no attribute 'runs'" in missing.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("--version",),
        ("stages",),
        ("stages", "prune.channels"),
        ("check", "--quick", "tiny.yaml"),
        ("plan", "tiny.yaml"),
        ("plan", "tiny.yaml", "stages.prune.target.macs=0.4"),
        ("report",),
        ("run", "missing.yaml"),
    ],
    ids=" ".join,
)
def test_commands_that_only_read_import_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    write_recipes(tmp_path)
    done, heavy = loaded_by(*arguments, cwd=tmp_path)
    assert heavy == []
    assert done.returncode == (2 if arguments[0] == "report" or "missing.yaml" in arguments else 0), (
        done.stderr
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["teacher.yaml", "tiny.yaml"]
