from __future__ import annotations

from pathlib import Path

import pytest

from mcomp.config import Config
from mcomp.errors import StoreFull
from mcomp.store.disk import Disk
from mcomp.store.preflight import require_room, trainings
from mcomp.store.store import Store
from mcomp.training.config import SGD, AdamW, Training
from mcomp_stages.export.onnx import ExportOnnx
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.prune.channels import PruneChannels


class SmallDisk(Disk):
    def __init__(self, free: int) -> None:
        self.free = free

    def free_bytes(self, folder: Path) -> int:
        return self.free


class Nothing(Config):
    """A step that does not train."""


class Once(Config):
    training: Training


class Nested(Config):
    rounds: tuple[Once, ...]
    by_name: dict[str, Once]
    maybe: Once | None = None


MOMENTUM = Training(epochs=1, keep="last")
ADAM = Training(epochs=1, optimizer=AdamW())

# The models that must fit: one as the result, and in each of three checkpoints the weights, the best ones
# so far, and what the optimizer remembers of each weight.
NEEDS = [(Nothing(), 1), (Once(training=MOMENTUM), 1 + 3 * 3), (Once(training=ADAM), 1 + 3 * 4)]


@pytest.mark.parametrize(("config", "models"), NEEDS)
def test_there_must_be_room_for_the_result_and_the_checkpoints(
    config: Config, models: int, tmp_path: Path
) -> None:
    require_room(Store(tmp_path, SmallDisk(models * 1000)), "tiny/qat", 1000, config)
    with pytest.raises(StoreFull):
        require_room(Store(tmp_path, SmallDisk(models * 1000 - 1)), "tiny/qat", 1000, config)


def test_a_full_disk_is_told_with_the_step_and_the_figures(tmp_path: Path) -> None:
    with pytest.raises(StoreFull) as caught:
        require_room(Store(tmp_path, SmallDisk(5000)), "tiny/qat", 1000, Once(training=MOMENTUM))
    assert str(caught.value) == (
        "tiny/qat was not started: it needs about 1,000 bytes for the result and 9,000 for checkpoints, and "
        f"the disk of {tmp_path} has 5,000 free; make room (see mcomp clean), or name another store with "
        "--store"
    )


def test_where_no_size_is_known_nothing_is_refused(tmp_path: Path) -> None:
    require_room(Store(tmp_path, SmallDisk(0)), "tiny/train", 0, Once(training=MOMENTUM))


def test_trainings_are_found_wherever_they_stand_in_a_configuration() -> None:
    first, second = Once(training=MOMENTUM), Once(training=ADAM)
    nested = Nested(rounds=(first, second), by_name={"a": first})
    assert list(trainings(nested)) == [MOMENTUM, ADAM, MOMENTUM]
    recover = DistilledTraining(epochs=1, optimizer=SGD())
    prune = PruneChannels(type="prune.channels", target={"macs": 0.5}, recover=recover)
    assert list(trainings(prune)) == [recover]
    assert list(trainings(ExportOnnx(type="export.onnx"))) == []


def test_the_room_of_a_store_that_is_not_there_yet_is_that_of_its_disk(tmp_path: Path) -> None:
    free = Disk().free_bytes(tmp_path / "not" / "yet")

    assert free > 0
