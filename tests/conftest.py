"""One torch thread, so that figures do not depend on the machine's load, and no state between tests."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A change is judged on the same examples every time; a person's own runs look for new ones. How long one
# takes says more about what else the machine does than about the code.
settings.register_profile("person", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "person")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=200, help="how many runs the tests marked crash kill")


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Set by each test and not at import: a test that must not load torch can check that it did not."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
