"""What a signal does: at once, later, or not at all."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from mcomp.signals import Interrupted, deferred, raise_if_interrupted, raising

INT, TERM = signal.SIGINT, signal.SIGTERM


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
