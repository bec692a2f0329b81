"""What a signal does: at once, later, or not at all."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from mcomp.signals import (
    Interrupted,
    deferred,
    handing_on,
    raise_if_interrupted,
    raising,
    raising_once,
)

INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Python's own handlers, whoever started the tests: a shell ignores SIGINT in the background."""
    former = {number: signal.signal(number, signal.SIG_DFL) for number in (INT, TERM)}
    signal.signal(INT, signal.default_int_handler)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def test_a_signal_raises_where_the_command_is() -> None:
    for number in (INT, TERM):
        with raising(), pytest.raises(Interrupted) as raised:
            signal.raise_signal(number)
        assert raised.value.number == number


def test_the_former_handlers_are_back_afterwards_also_of_nested_commands() -> None:
    before = [signal.getsignal(number) for number in (INT, TERM)]
    with raising():
        outer = signal.getsignal(INT)
        with raising(), pytest.raises(Interrupted):
            signal.raise_signal(INT)
        assert signal.getsignal(INT) is outer
    assert [signal.getsignal(number) for number in (INT, TERM)] == before


def test_signals_that_are_ignored_stay_ignored() -> None:
    signal.signal(INT, signal.SIG_IGN)
    with raising(), deferred():
        signal.raise_signal(INT)
        assert signal.getsignal(INT) == signal.SIG_IGN


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = """
import signal
from mcomp.signals import raising
with raising():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGINT)
        print("still here")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-INT, b"")


def raised_by(work: Callable[[], None]) -> BaseException | None:
    try:
        work()
    except (KeyboardInterrupt, ValueError) as error:
        return error
    return None


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_deferred_signal_waits_for_the_end_of_the_block(number: int) -> None:
    done = []

    def work() -> None:
        with raising():
            with deferred():
                signal.raise_signal(number)
                done.append("rest of the block")
            done.append("after it")

    error = raised_by(work)
    assert done == ["rest of the block"]
    assert isinstance(error, Interrupted)
    assert error.number == number


def test_nested_blocks_wait_for_the_outermost() -> None:
    done = []

    def work() -> None:
        with raising():
            with deferred():
                with deferred():
                    signal.raise_signal(INT)
                done.append("outer block")
            done.append("after it")

    assert isinstance(raised_by(work), Interrupted)
    assert done == ["outer block"]


def test_a_second_signal_does_not_wait() -> None:
    done = []

    def work() -> None:
        with raising(), deferred():
            signal.raise_signal(INT)
            done.append("first")
            signal.raise_signal(INT)
            done.append("second")

    assert isinstance(raised_by(work), Interrupted)
    assert done == ["first"]


def test_without_a_command_python_decides() -> None:
    done = []

    def work() -> None:
        with deferred():
            assert signal.getsignal(TERM) == signal.SIG_DFL
            signal.raise_signal(INT)
            done.append("rest of the block")

    assert type(raised_by(work)) is KeyboardInterrupt
    assert done == ["rest of the block"]


def test_a_signal_is_not_lost_if_the_block_fails() -> None:
    def work() -> None:
        with raising(), deferred():
            signal.raise_signal(TERM)
            raise ValueError("and now this")

    error = raised_by(work)
    assert isinstance(error, Interrupted)
    assert isinstance(error.__context__, ValueError)


def test_other_threads_have_no_signals() -> None:
    def work() -> None:
        with raising(), deferred():
            done.append(signal.getsignal(INT))

    done: list[Callable[[int, FrameType | None], object] | int | None] = []
    before = signal.getsignal(INT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_a_finalizer_swallowed_is_raised_at_the_next_safe_point() -> None:
    class Held:
        pass

    held = Held()
    reference = weakref.ref(held, lambda reference: signal.raise_signal(INT))
    with raising():
        raise_if_interrupted()
        del held
        gc.collect()
        assert reference() is None
        with pytest.raises(Interrupted):
            raise_if_interrupted()
    raise_if_interrupted()


# Other processes that work for this one


class Others:
    """Processes that are told, and end when the block does; `number` of them."""

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self.told: list[int] = []

    def __call__(self, number: int) -> bool:
        self.told.append(number)
        return self.number > 0


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_signal_that_was_handed_on_raises_when_those_who_were_told_have_ended(number: int) -> None:
    others, done = Others(), []

    def work() -> None:
        with raising():
            with handing_on(others, patience_seconds=60):
                signal.raise_signal(number)
                done.append("rest of the block")
            done.append("after it")

    error = raised_by(work)
    assert isinstance(error, Interrupted)
    assert error.number == number
    assert (others.told, done) == ([TERM], ["rest of the block"])


def test_where_nobody_was_told_a_signal_raises_at_once() -> None:
    others, done = Others(0), []

    def work() -> None:
        with raising(), handing_on(others, patience_seconds=60):
            signal.raise_signal(INT)
            done.append("rest of the block")

    assert isinstance(raised_by(work), Interrupted)
    assert (others.told, done) == ([TERM], [])


def test_a_second_signal_ends_the_others_and_raises_at_once() -> None:
    others, done = Others(), []

    def work() -> None:
        with raising(), handing_on(others, patience_seconds=60):
            signal.raise_signal(TERM)
            done.append("first")
            signal.raise_signal(INT)
            done.append("second")

    error = raised_by(work)
    assert isinstance(error, Interrupted)
    assert error.number == TERM
    assert (others.told, done) == ([TERM, KILL], ["first"])


def test_the_others_are_not_waited_for_longer_than_said() -> None:
    def work() -> None:
        with raising(), handing_on(Others(), patience_seconds=0.05):
            signal.raise_signal(INT)
            time.sleep(60)

    before, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    assert isinstance(raised_by(work), Interrupted)
    assert time.monotonic() - began < 30
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_signal_that_was_handed_on_is_not_lost_if_the_block_fails() -> None:
    def work() -> None:
        with raising(), handing_on(Others(), patience_seconds=60):
            signal.raise_signal(TERM)
            raise ValueError("the others died")

    assert isinstance(raised_by(work), Interrupted)


def test_what_must_not_be_cut_is_not_cut_while_signals_are_handed_on() -> None:
    done = []

    def work() -> None:
        with raising(), handing_on(Others(0), patience_seconds=60):
            with deferred():
                signal.raise_signal(INT)
                done.append("rest of the inner block")
            done.append("after it")

    assert isinstance(raised_by(work), Interrupted)
    assert done == ["rest of the inner block"]


def test_without_signals_nobody_is_told_and_the_former_handlers_are_back() -> None:
    others, before = Others(), [signal.getsignal(number) for number in (INT, TERM)]
    with handing_on(others, patience_seconds=60):
        pass
    assert others.told == []
    assert [signal.getsignal(number) for number in (INT, TERM)] == before


def test_who_works_for_another_process_obeys_once() -> None:
    done = []

    def work() -> None:
        with raising_once():
            try:
                signal.raise_signal(INT)
            finally:
                signal.raise_signal(INT)
                signal.raise_signal(TERM)
                done.append("kept")

    error = raised_by(work)
    assert isinstance(error, Interrupted)
    assert error.number == INT
    signal.raise_signal(TERM)  # after the block too
    assert done == ["kept"]


def test_a_signal_that_comes_twice_waits_for_what_must_not_be_cut() -> None:
    """From the terminal, and from the process that it also went to."""
    done = []

    def work() -> None:
        with raising_once():
            with deferred():
                signal.raise_signal(INT)
                signal.raise_signal(TERM)
                done.append("rest of the block")
            done.append("after it")

    assert isinstance(raised_by(work), Interrupted)
    assert done == ["rest of the block"]


def test_a_process_that_was_interrupted_is_so_again_with_its_next_job() -> None:
    def work() -> None:
        with raising_once():
            signal.raise_signal(TERM)

    for _ in range(2):
        assert isinstance(raised_by(work), Interrupted)
    with raising_once():
        raise_if_interrupted()
