from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mcomp.store.ledger import Ledger
from mcomp.store.store import Store
from tests.end_to_end.conftest import Finished
from tests.tiny import STEPS, artifacts, files_below, loaded_by, mcomp, unfinished


def names(ledger: Ledger, status: str) -> tuple[str, ...]:
    return tuple(f"{row.recipe}/{row.stage}" for row in ledger.rows if row.status == status)


def last_ledger(store: Path) -> Ledger:
    kept = Store(store)
    return kept.run(kept.runs()[0]).read_ledger()


def test_one_command_goes_from_nothing_to_a_measured_file(finished: Finished) -> None:
    assert finished.done.returncode == 0, finished.done.stderr
    assert "Traceback" not in finished.done.stderr
    assert names(finished.ledger, "computed") == STEPS
    assert finished.ledger.status == "done"
    shown = finished.done.stdout
    assert f"export: {finished.model.relative_to(finished.folder)}" in shown
    for step in STEPS:
        assert step in shown
    for number, step in enumerate(STEPS, start=1):
        assert any(
            line.startswith(f"{number}/{len(STEPS)} ") and step in line
            for line in finished.done.stderr.splitlines()
        )


def test_the_file_runs_in_onnx_runtime_in_integers(finished: Finished) -> None:
    session = onnxruntime.InferenceSession(str(finished.model), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.shape[1:]) == ("image", [1, 12, 12])
    for batch_size in (1, 3):
        (output,) = session.run(None, {"image": np.zeros((batch_size, 1, 12, 12), np.float32)})
        assert output.shape == (batch_size, 10)
    served = next(row.served for row in finished.ledger.rows if row.stage == "export")
    assert served is not None
    assert served.census is not None
    assert (served.census.int8, served.census.float) == (5, 0)


def test_each_stage_did_its_work(finished: Finished) -> None:
    rows = {row.stage: row for row in finished.ledger.rows}
    assert rows["prune"].figures.macs is not None
    assert rows["distill"].figures.macs is not None
    assert 0.54 <= rows["prune"].figures.macs / rows["distill"].figures.macs <= 0.6
    assert rows["export"].served is not None
    assert rows["export"].served.size_ratio is not None
    assert rows["export"].served.size_ratio > 2
    assert finished.ledger.require[0].met
    assert all(row.seconds > 0 for row in finished.ledger.rows)


def test_nothing_is_written_beside_the_store(finished: Finished) -> None:
    outside = {
        name: data for name, data in files_below(finished.folder).items() if not name.startswith("kept/")
    }
    assert outside == finished.before
    assert unfinished(finished.store) == []


def test_the_same_command_again_finds_everything_and_imports_no_torch(workplace: Path) -> None:
    stored = artifacts(workplace / "kept")
    done, heavy = loaded_by("run", "tiny.yaml", "--store", "kept", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert heavy == []
    assert names(last_ledger(workplace / "kept"), "hit") == STEPS
    assert artifacts(workplace / "kept") == stored


def to_do(shown: str) -> list[str]:
    """Return the names of the steps that a printed plan has still to do."""
    steps = [line for line in shown.splitlines() if "to do" in line and " steps, " not in line]
    return [step for step in STEPS if any(f" {step} " in line for line in steps)]


@pytest.mark.parametrize(
    ("override", "computed"),
    [
        ("require.size_ratio={min: 9.0}", []),
        ("stages.prune.importance=l1", ["tiny/prune", "tiny/qat", "tiny/export"]),
        ("stages.export.opset=22", ["tiny/export", "tiny/export of the baseline"]),
        ("stages.qat.moving_ranges=0.5", ["tiny/qat", "tiny/export"]),
    ],
)
def test_the_plan_says_what_is_stored_and_what_a_change_would_compute(
    override: str, computed: list[str], finished: Finished
) -> None:
    done, heavy = loaded_by("plan", "tiny.yaml", override, "--store", "kept", cwd=finished.folder)
    assert (done.returncode, heavy, done.stderr) == (0, [], "")
    assert to_do(done.stdout) == computed
    assert f"6 steps, {len(computed)} to do" in done.stdout
    assert done.stdout.count("in store (took ") == 6 - len(computed)


def test_another_order_computes_only_what_is_new(workplace: Path) -> None:
    done = mcomp("run", "tiny.yaml", "pipeline=[distill,qat,export]", "--store", "kept", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert names(last_ledger(workplace / "kept"), "computed") == ("tiny/qat", "tiny/export")


def test_a_field_that_only_has_a_default_is_overridden_without_a_plus(finished: Finished) -> None:
    for override in (
        "stages.qat.observer.type=moving_average",
        "compute.threads=1",
        "stages.prune.nearest=true",
    ):
        done = mcomp("check", "--quick", "tiny.yaml", override, cwd=finished.folder)
        assert (done.returncode, done.stderr) == (0, "")


def test_check_says_what_is_unused(finished: Finished) -> None:
    done = mcomp("check", "--quick", "tiny.yaml", "pipeline=[distill,export]", cwd=finished.folder)
    assert done.returncode == 0
    assert "tiny.yaml: no mistakes; 4 steps" in done.stdout
    assert "unused stage: prune\n  unused stage: qat\n" in done.stdout


def test_the_report_is_a_table_json_or_a_page(finished: Finished, tmp_path: Path) -> None:
    store = ("--store", "kept")
    table = mcomp("report", *store, cwd=finished.folder)
    assert table.returncode == 0
    assert all(step in table.stdout for step in STEPS)
    as_json = mcomp("report", finished.ledger.run, "--json", *store, cwd=finished.folder)
    assert json.loads(as_json.stdout) == finished.ledger.model_dump(mode="json")
    page = tmp_path / "report.html"
    written = mcomp("report", "--html", page, *store, cwd=finished.folder)
    assert (written.returncode, written.stdout) == (0, f"wrote {page}\n")
    assert page.read_text().startswith("<!doctype html>")


def test_stages_are_listed_and_explained(tmp_path: Path) -> None:
    listed = mcomp("stages", cwd=tmp_path)
    assert listed.returncode == 0
    for name in ("train", "distill.offline", "prune.channels", "quantize.qat", "export.onnx"):
        assert name in listed.stdout
    manual = mcomp("stages", "prune.channels", cwd=tmp_path)
    assert manual.returncode == 0
    assert "      type: prune.channels\n" in manual.stdout
    for field in ("importance", "target", "round_to", "recover", "epochs"):
        assert field in manual.stdout
    assert files_below(tmp_path) == {}
