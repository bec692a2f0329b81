from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcomp import doctor
from mcomp.doctor import Finding
from tests.mcomp.cli.conftest import Command


class Site:
    """A folder of installed distributions that stands before all others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def install(self, name: str, version: str, *requires: str, entry_points: str = "") -> None:
        information = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        information.mkdir()
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
        (information / "METADATA").write_text(text)
        (information / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(made.folder)
    return made


def told(found: list[Finding]) -> list[str]:
    return [f"{finding.level}: {finding.what}" for finding in found]


def test_a_good_installation_is_said_to_be_good(mcomp: Command, tmp_path: Path) -> None:
    answer = mcomp("doctor", "--store", tmp_path / "store")
    assert (answer.code, answer.err) == (0, "")
    for name in ("torch", "onnxruntime", "hydra-core", "omegaconf", "pydantic"):
        assert any(line.split() == [name, version(name)] for line in answer.out.splitlines())
    assert "fast integers" in answer.out
    assert not (tmp_path / "store").exists()


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from mcomp.cli import exit_code; exit_code(['doctor'])\n"
        "print({'torch', 'onnx', 'onnxruntime', 'openvino'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ("1.2.0", ["broken: hydra-core 1.2.0 is not <1.4,>=1.3.4, which mcomp needs"]),
        ("1.4.0.dev1", ["broken: hydra-core 1.4.0.dev1 is not <1.4,>=1.3.4, which mcomp needs"]),
        ("1.3.9", []),
    ],
)
def test_a_library_out_of_its_range_is_broken(installed: str, said: list[str], site: Site) -> None:
    site.install("hydra-core", installed)
    assert told(list(doctor.requirement_findings(["hydra-core<1.4,>=1.3.4"]))) == said


def test_a_missing_library_is_broken_and_an_extra_is_not_missed() -> None:
    (finding,) = doctor.requirement_findings(["no-such-thing>=2", 'not-this-one>=1; extra == "test"'])
    assert finding == Finding("broken", "no-such-thing is not installed", 'pip install "no-such-thing>=2"')


@pytest.mark.parametrize(
    ("torch", "torchvision", "needs", "said"),
    [
        ("2.13.0", "0.28.0", "torch==2.13.0", []),
        ("2.13.0+cpu", "0.28.0+cpu", "torch==2.13.0", []),
        ("2.13.0+cpu", "0.27.0", "torch==2.12.0", ["made for torch ==2.12.0, and torch 2.13.0+cpu"]),
        ("2.13.0+cpu", "0.28.0", "torch==2.13.0", ["are not of one build"]),
    ],
)  # fmt: skip
def test_a_torchvision_for_another_torch_is_a_trap(
    torch: str, torchvision: str, needs: str, said: list[str], site: Site
) -> None:
    site.install("torchvision", torchvision, needs)
    found = list(doctor.companion_findings(torch))
    assert [finding.level for finding in found] == ["trap"] * len(said)
    assert all(part in finding.what for part, finding in zip(said, found, strict=True))


def test_two_torches_are_a_trap_that_names_both_places(site: Site) -> None:
    site.install("torch", "2.5.0")
    (finding,) = doctor.duplicate_findings()
    assert finding.level == "trap"
    assert "torch is installed 2 times" in finding.what
    assert f"2.5.0 in {site.folder}" in finding.what


def test_one_folder_that_stands_twice_in_the_path_is_no_second_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    folder = Path(str(importlib.metadata.distribution("torch").locate_file("")))
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.syspath_prepend(tmp_path / "link")
    assert list(doctor.duplicate_findings()) == []


def test_two_builds_of_the_runtime_overwrite_each_other(site: Site) -> None:
    site.install("onnxruntime-gpu", "1.32.0")
    (finding,) = doctor.duplicate_findings()
    assert finding.what == "onnxruntime and onnxruntime-gpu overwrite each other's files"


def test_runtimes_are_named_where_they_are_installed(site: Site) -> None:
    assert "onnxruntime-directml" not in doctor.versions()
    site.install("onnxruntime-directml", "1.32.0")
    assert doctor.versions()["onnxruntime-directml"] == "1.32.0"


@pytest.mark.parametrize(
    ("flags", "traps"),
    [({"avx2", "avx512f"}, 1), ({"avx2", "avx_vnni"}, 0), ({"asimd", "asimddp"}, 0), (set(), 0)],
)
def test_a_processor_without_sums_of_byte_products_is_a_trap(flags: set[str], traps: int) -> None:
    found = list(doctor.instruction_findings(frozenset(flags)))
    assert len(found) == traps
    assert all("session.x64quantprecision=1" in finding.what for finding in found)


def test_a_store_of_another_format_is_broken_and_the_command_says_so_by_its_code(
    mcomp: Command, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text('{"store_format": 99}')
    answer = mcomp("doctor", "--store", tmp_path / "store")
    assert answer.code == 1
    assert f"broken: {tmp_path}/store/store.json is not of format 1" in answer.out
    assert "1 broken, " in answer.out  # what there is to know of depends on the machine


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("file", "{0}/file is a file: the store {0}/file must be a folder"),
        ("file/store", "{0}/file is a file: the store {0}/file/store must be a folder"),
        ("mine", "{0}/mine is not a store and not empty (it has photo.png); name an empty or a new folder"),
    ],
)  # fmt: skip
def test_what_cannot_become_a_store_is_broken(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").touch()
    found = [each for each in doctor.store_findings(tmp_path / name) if each.level == "broken"]
    assert [each.what.removesuffix(" with --store") for each in found] == [what.format(tmp_path)]


def test_a_full_disk_and_a_network_disk_are_traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path}/a\\040b nfs4 rw 0 0\n")
    (tmp_path / "a b" / "c").mkdir(parents=True)
    monkeypatch.setattr(doctor, "MOUNTS", mounts)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    said = told(list(doctor.store_findings(tmp_path / "a b" / "c" / "store")))
    assert said[0] == f"trap: the store {tmp_path}/a b/c/store has 1.0 GB left"
    assert "lies on a network disk (nfs4)" in said[1]
    assert doctor.disk_kind(tmp_path) == "ext4"


def test_a_store_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "broken: the store" in told(list(doctor.store_findings(tmp_path / "store")))[0]


def test_a_broken_plugin_is_broken_and_cannot_steer_the_terminal(
    mcomp: Command, site: Site, tmp_path: Path
) -> None:
    site.install("bad", "1.0", entry_points="[mcomp.stages]\nbad.stage = bad_module:Stage\n")
    (site.folder / "bad_module.py").write_text('raise RuntimeError("\\x1b[31m[bold]no")')
    answer = mcomp("doctor", "--store", tmp_path / "store")
    assert answer.code == 1
    assert "broken: bad 1.0: mcomp.stages 'bad.stage'" in answer.out
    assert "\x1b" not in answer.out
    assert "[bold]no" in answer.out


def test_what_is_broken_stands_before_what_is_a_trap(site: Site, tmp_path: Path) -> None:
    site.install("torch", "2.5.0")
    site.install("bad", "1.0", entry_points="[mcomp.stages]\nbad.stage = bad_module:Stage\n")
    levels = [finding.level for finding in doctor.findings(tmp_path / "store")]
    assert levels == sorted(levels)
    assert {"broken", "trap"} == set(levels)


def test_deep_imports_each_library_in_a_process_of_its_own(site: Site) -> None:
    site.install("crashes", "1")
    site.install("raises", "1")
    probes = {
        "click": "print('fine')",
        "crashes": "import os; os.abort()",
        "raises": "raise ImportError('no such file')",
        "not-installed": "print('never')",
    }
    said = dict(doctor.deep_findings(probes))
    assert said["click"] == "fine"
    assert told([said["crashes"], said["raises"]]) == [  # type: ignore[list-item]
        "broken: crashes does not import: exit code -6",
        "broken: raises does not import: ImportError: no such file",
    ]
    assert "not-installed" not in said


def test_a_library_that_never_answers_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE_SECONDS", 0.2)
    ((_, finding),) = doctor.deep_findings({"click": "import time; time.sleep(60)"})
    assert isinstance(finding, Finding)
    assert finding.what == "click does not import in 0.2 s"
