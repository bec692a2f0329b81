from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from mcomp.report.table import ledger_table, sweep_table
from mcomp.store.ledger import Ledger
from tests.mcomp.report import ledgers


def printed(content: RenderableType, width: int = 120, encoding: str = "utf-8", **options) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    Console(file=file, width=width, **options).print(content)
    file.flush()
    return raw.getvalue().decode(encoding)


def line_of(shown: str, start: str) -> str:
    (line,) = (line for line in shown.splitlines() if line.startswith(start))
    return line


def test_a_step_shows_its_time_metric_change_and_cost() -> None:
    line = line_of(printed(ledger_table(ledgers.main_job())), "resnet_int8/prune")
    assert " ".join(line.split()) == "resnet_int8/prune 18 s 0.9900 −0.0033 566 k 19.5 M 2.26 MB"
    assert "hit (58 s)" in line_of(printed(ledger_table(ledgers.main_job())), "resnet_teacher/train")


def test_a_change_is_positive_where_the_step_is_better_whatever_the_direction() -> None:
    shown = printed(ledger_table(ledgers.main_job(direction="lower")))
    assert "+0.0033" in line_of(shown, "resnet_int8/prune")


def test_a_file_stands_beside_the_baseline_with_its_ratios() -> None:
    shown = printed(ledger_table(ledgers.main_job()))
    wanted = "export 0.9900 622 kB 27.8× 0.361 ms 10.9× 4.21 ms 14.6× 22 of 22"
    assert " ".join(line_of(shown, "export ").split()) == wanted
    assert "0 of 22" in line_of(shown, "baseline")


def test_what_a_stage_says_of_its_file_is_shown() -> None:
    ledger = ledgers.main_job()
    told = ledger.rows[-1].model_copy(
        update={"facts": {"compressed_bytes": 61_000, "note": "zeros save bytes"}}
    )
    shown = printed(ledger_table(ledger.model_copy(update={"rows": (*ledger.rows[:-1], told)})))
    assert " ".join(line_of(shown, "export ").split()).startswith("export 0.9900 622 kB 61.0 kB 27.8×")
    assert "note: zeros save bytes" in shown
    assert "compressed" not in printed(ledger_table(ledger))


@pytest.mark.parametrize("facts", [{"note": 3}, {"compressed_bytes": "9 kB"}, {"note": ["a"]}])
def test_facts_of_other_types_are_left_out(facts: dict[str, object]) -> None:
    ledger = ledgers.main_job()
    odd = ledger.rows[-1].model_copy(update={"facts": facts})
    shown = printed(ledger_table(ledger.model_copy(update={"rows": (*ledger.rows[:-1], odd)})))
    assert shown == printed(ledger_table(ledger))


def test_the_class_that_lost_most_is_named_where_there_are_classes() -> None:
    ledger = ledgers.main_job()
    last = ledger.rows[-1]
    assert last.served is not None
    lost = last.model_copy(update={"served": last.served.model_copy(update={"worst_class": (7, 0.031)})})
    shown = printed(ledger_table(ledger.model_copy(update={"rows": (*ledger.rows[:-1], lost)})))
    assert line_of(shown, "export ").rstrip().endswith("7: −0.0310")
    assert "worst class" in shown


def test_requirements_show_bound_figure_and_verdict() -> None:
    shown = printed(ledger_table(ledgers.main_job()))
    assert "✓  speedup at batch 16 (export)  at least 14.0×    14.6×  met" in shown
    missed = printed(ledger_table(ledgers.missed()))
    assert "✗  speedup at batch 1 (export)  at least 10.0×    0.84×  missed" in missed
    assert "slower: 2 of 22 layers stayed in float (fc, layer1.0.conv1)" in missed


def test_a_failed_step_shows_its_error() -> None:
    shown = printed(ledger_table(ledgers.failed()))
    assert "cannot shrink" in shown
    assert "failed" in line_of(shown, "resnet_int8/prune")


def test_a_run_without_steps_has_a_table() -> None:
    assert "interrupted" in printed(ledger_table(ledgers.empty()))


@pytest.mark.parametrize("width", [30, 44, 60, 80, 100])
@pytest.mark.parametrize("make", [ledgers.main_job, ledgers.hostile])
def test_no_line_is_wider_than_the_terminal(make, width: int) -> None:
    shown = printed(ledger_table(make()), width)
    assert max(map(len, shown.splitlines())) <= width


def test_a_narrow_terminal_still_shows_metric_size_and_speed() -> None:
    shown = printed(ledger_table(ledgers.main_job()), 44)
    assert all(figure in shown for figure in ("0.9900", "27.8×", "10.9×", "14.6×"))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_plain_characters(encoding: str) -> None:
    shown = printed(ledger_table(ledgers.hostile()), encoding=encoding)
    assert "27.8x" in shown
    assert line_of(shown, "+  size ratio").endswith("met")


def test_no_color_is_respected(monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed(ledger_table(ledgers.missed()), force_terminal=True)


def test_hostile_names_are_shown_as_they_are_and_steer_nothing() -> None:
    shown = printed(ledger_table(ledgers.hostile()), 4000)
    assert "<script>alert(1)</script>[bold red]x[/]�[31m�" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_a_sweep_has_a_line_for_each_job_and_marks_the_front() -> None:
    shown = printed(sweep_table(ledgers.sweep().jobs))
    assert line_of(shown, "✓    0  stages.prune.target.macs=0.4").split()[3:5] == ["done", "0.9840"]
    assert "failed" in line_of(shown, "     2  stages.prune.target.macs=0.1")
    assert "cannot shrink" in shown


def test_a_sweep_without_jobs_has_a_table() -> None:
    assert "job" in printed(sweep_table([]))


def test_a_job_that_another_beats_in_both_is_not_on_the_front() -> None:
    slow = ledgers.exported(test=0.95, latency={1: ledgers.latency(0.5)})
    beaten: Ledger = ledgers.with_last(ledgers.main_job(overrides=("a=1",)), served=slow)
    shown = printed(sweep_table(ledgers.sweep_of(beaten, ledgers.main_job(overrides=("a=2",))).jobs))
    assert line_of(shown, "     0  a=1")
    assert line_of(shown, "✓    1  a=2")
