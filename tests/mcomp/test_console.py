from __future__ import annotations

import io

import pytest
from rich.console import Console

from mcomp.console import ConsoleReporter, SilentReporter
from mcomp.plan import Step
from mcomp.store.ledger import Figures, Row

STEP = Step.__new__(Step)
ROW = Row(recipe="tiny", stage="qat", type="quantize.qat", key="0" * 64, status="computed", seconds=75.2)


def reporter(
    job: int | None = None, *, terminal: bool = False, alone: bool = True, width: int = 60
) -> tuple[ConsoleReporter, io.StringIO]:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=width, no_color=True, legacy_windows=False)
    return ConsoleReporter(console, job, alone=alone), shown


def ended(row: Row, job: int | None = None) -> str:
    speaker, shown = reporter(job)
    speaker.step_started(STEP, 2, 6)
    speaker.step_ended(row)
    return shown.getvalue()


def test_a_step_is_a_line_with_its_place_its_time_and_its_metric() -> None:
    computed = ROW.model_copy(update={"figures": Figures(validation=0.98765)})
    assert ended(computed) == "2/6 1 min 15 s tiny/qat quantize.qat validation 0.9877\n"
    assert ended(ROW.model_copy(update={"status": "hit"})) == "2/6 hit      tiny/qat quantize.qat \n"


def test_the_job_of_a_sweep_says_its_number() -> None:
    assert ended(ROW, job=12).startswith("[12] 2/6 ")


def test_names_and_messages_are_no_markup() -> None:
    row = ROW.model_copy(update={"stage": "[bold]x[/bold]", "type": "[red]"})
    assert "tiny/[bold]x[/bold] [red]" in ended(row)
    speaker, shown = reporter()
    speaker.log("layers [1, 2] of [/dim]")
    speaker.warn("[link]")
    assert shown.getvalue() == "    layers [1, 2] of [/dim]\n    warning: [link]\n"


def test_a_long_line_is_not_broken() -> None:
    speaker, shown = reporter(width=20)
    speaker.warn("a path that is much longer than the line: /" + "x" * 60)
    assert shown.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("terminal", "alone", "shows"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_a_bar_moves_only_on_a_terminal_that_nobody_else_writes_to(
    terminal: bool, alone: bool, shows: bool
) -> None:
    speaker, shown = reporter(terminal=terminal, alone=alone, width=120)
    with speaker.progress("train", total=4) as bar:
        bar.advance(3, loss=0.123456, phase="[x]")
    assert ("train" in shown.getvalue()) == shows
    if shows:
        assert "3/4" in shown.getvalue()
        assert "loss 0.1235  phase [x]" in shown.getvalue()
    else:
        assert shown.getvalue() == ""


def test_the_silent_reporter_says_nothing_but_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    silent = SilentReporter()
    silent.step_started(STEP, 1, 1)
    silent.step_ended(ROW)
    silent.log("hello")
    with silent.progress("train", 3) as bar:
        bar.advance(2, loss=1.0)
    with pytest.warns(UserWarning, match="look here"):
        silent.warn("look here")
    assert capsys.readouterr() == ("", "")


def test_what_is_said_can_neither_be_markup_nor_steer_the_terminal() -> None:
    speaker, shown = reporter(width=200)
    hostile = "[bold]x[/bold]\x1b[2J\x1b]0;pwned\x07\u202e"
    speaker.log(hostile)
    speaker.warn(hostile)
    speaker.step_started(STEP, 1, 1)
    speaker.step_ended(ROW.model_copy(update={"stage": hostile, "type": hostile}))
    assert shown.getvalue().count("[bold]x[/bold]\\x1b[2J\\x1b]0;pwned\\x07\\u202e") == 4
    assert shown.getvalue().replace("\n", "").isprintable()
