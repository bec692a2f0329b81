"""Made-up ledgers: the main job as it went once, and variations of it."""

from __future__ import annotations

import math
from typing import Any

from mcomp.store.ledger import Census, Figures, Latency, Ledger, Requirement, Row, Served
from mcomp.store.sweeps import JobRecord, SweepRecord

MACHINE = {
    "cpu": "Intel(R) Xeon(R) Processor",
    "cores": "2",
    "instructions": "avx2 avx512f avx512_vnni",
    "os": "Linux x86_64",
    "python": "3.11.7",
    "torch": "2.13.0",
    "onnx": "1.23.2",
    "onnxruntime": "1.32.0",
}
INT8 = {"QLinearConv": 21, "QLinearAdd": 9, "QGemm": 1, "QLinearGlobalAveragePool": 1, "Reshape": 1}
FLOAT = {"Conv": 21, "Gemm": 1, "GlobalAveragePool": 1, "Reshape": 1, "ReorderOutput": 1}


def history(epochs: int, start: float, end: float) -> list[dict[str, float]]:
    """Return a training that goes from one metric to another."""
    shares = [1 - math.exp(-4 * (epoch + 1) / epochs) for epoch in range(epochs)]
    return [
        {
            "number": epoch + 1,
            "lr": 0.05 * (1 - epoch / epochs),
            "train_loss": 2.2 * (1 - share) + 0.03,
            "metric": start + (end - start) * share,
            "validation_loss": 2.0 * (1 - share) + 0.06,
        }
        for epoch, share in enumerate(shares)
    ]


def row(recipe: str, stage: str, kind: str, **fields: Any) -> Row:
    """Return one step."""
    return Row(recipe=recipe, stage=stage, type=kind, key="ab12" * 16, status="computed", **fields)


def figures(validation: float, parameters: int, macs: int) -> Figures:
    """Return the figures of a float model."""
    return Figures(
        validation=validation,
        train=min(1.0, validation + 0.006),
        loss=0.04,
        parameters=parameters,
        macs=macs,
        size_bytes=4 * parameters,
    )


def latency(median_ms: float) -> Latency:
    """Return a latency with a spread of some percent."""
    return Latency(median_ms=median_ms, p10_ms=median_ms * 0.97, p90_ms=median_ms * 1.09, rounds=30)


def baseline() -> Served:
    """Return the teacher's file."""
    return Served(
        file="resnet_teacher.onnx",
        runtime="onnxruntime",
        threads=1,
        size_bytes=17_320_000,
        test=0.992,
        per_class=(1.0, 0.98, 1.0, 1.0, 0.98, 1.0, 1.0, 0.98, 0.98, 1.0),
        latency={1: latency(3.94), 16: latency(61.3)},
        census=Census(int8=0, float=22, by_type=FLOAT),
    )


def exported(**changes: Any) -> Served:
    """Return the file of the main job."""
    served = Served(
        file="resnet_int8.onnx",
        runtime="onnxruntime",
        threads=1,
        size_bytes=622_000,
        test=0.99,
        per_class=(1.0, 0.98, 1.0, 0.98, 0.98, 1.0, 1.0, 0.98, 0.96, 1.0),
        latency={1: latency(0.361), 16: latency(4.21)},
        speedup={1: 10.9, 16: 14.6},
        size_ratio=27.8,
        metric_drop=0.002,
        census=Census(int8=22, float=0, by_type=INT8),
    )
    return served.model_copy(update=changes)


def main_job(**changes: Any) -> Ledger:
    """Return the whole pipeline: teacher, distillation, pruning, QAT, export."""
    teacher, main = "resnet_teacher", "resnet_int8"
    rows = (
        row(
            teacher,
            "train",
            "train",
            seconds=58.2,
            peak_memory_bytes=612_000_000,
            figures=figures(0.9933, 4_330_000, 156_000_000),
            facts={"epochs": 8, "best_epoch": 7, "history": history(8, 0.2, 0.9933)},
        ).model_copy(update={"status": "hit"}),
        row(teacher, "export", "export.onnx", seconds=6.1, figures=Figures(size_bytes=17_320_000)),
        row(
            main,
            "distill",
            "distill.offline",
            seconds=54.0,
            peak_memory_bytes=702_000_000,
            figures=figures(0.9917, 1_084_000, 39_200_000),
            facts={"epochs": 12, "best_epoch": 11, "history": history(12, 0.15, 0.9917)},
        ),
        row(
            main,
            "prune",
            "prune.channels",
            seconds=18.4,
            figures=figures(0.99, 566_000, 19_500_000),
            facts={
                "groups": 672,
                "cut": 224,
                "macs_ratio": 0.497,
                "before_recovery": 0.104,
                "recover": {"epochs": 4, "history": history(4, 0.6, 0.99)},
            },
        ),
        row(
            main,
            "qat",
            "quantize.qat",
            seconds=13.1,
            figures=figures(0.9908, 566_000, 19_500_000),
            facts={"sites": 52, "epochs": 2, "history": history(2, 0.985, 0.9908)},
        ),
        row(
            main,
            "export",
            "export.onnx",
            seconds=9.3,
            figures=Figures(size_bytes=622_000),
            served=exported(),
            facts={"opset": 21, "parity": {"median_error": 0.0012, "agreement": 0.998}},
        ),
    )
    ledger = Ledger(
        mcomp="0.1.0",
        run="20260131-101500-resnet_int8-3fa1",
        recipe=main,
        started="2026-01-31T10:15:00+00:00",
        status="done",
        metric="accuracy",
        direction="higher",
        machine=MACHINE,
        rows=rows,
        baselines={"export": baseline()},
        require=(
            Requirement(what="accuracy_drop", stage="export", max=0.006, value=0.002, met=True),
            Requirement(what="speedup", stage="export", batch_size=1, min=10.0, value=10.9, met=True),
            Requirement(what="speedup", stage="export", batch_size=16, min=14.0, value=14.6, met=True),
            Requirement(what="size_ratio", stage="export", min=25.0, value=27.8, met=True),
        ),
    )
    return ledger.model_copy(update=changes)


def with_last(ledger: Ledger, **changes: Any) -> Ledger:
    """Return a ledger whose last row is changed."""
    return ledger.model_copy(update={"rows": (*ledger.rows[:-1], ledger.rows[-1].model_copy(update=changes))})


def missed() -> Ledger:
    """Return a run whose file is too slow, with the causes."""
    served = exported(
        speedup={1: 0.84, 16: 0.97},
        latency={1: latency(4.7), 16: latency(63.0)},
        census=Census(int8=20, float=2, by_type=INT8 | {"Gemm": 1}, float_layers=("fc", "layer1.0.conv1")),
        slower_because=("2 of 22 layers stayed in float (fc, layer1.0.conv1); quantize them too",),
    )
    require = (Requirement(what="speedup", stage="export", batch_size=1, min=10.0, value=0.84, met=False),)
    return with_last(main_job(status="require not met", require=require), served=served)


def failed() -> Ledger:
    """Return a run that stopped in pruning: nothing was exported, nothing is known of the step."""
    error = "layer2.0.conv1 cannot shrink: its output is added to a padded shortcut"
    last = row("resnet_int8", "prune", "prune.channels").model_copy(
        update={"status": "failed", "error": error}
    )
    return main_job(status="failed", baselines={}, require=(), rows=(*main_job().rows[:3], last))


HOSTILE = "<script>alert(1)</script>[bold red]x[/]\x1b[31m\u202e</td>\"'{{ 7*7 }}"


def hostile() -> Ledger:
    """Return a run in which every text that a recipe or a plugin gives is an attack."""
    names = {"recipe": HOSTILE, "run": HOSTILE, "metric": HOSTILE, "overrides": (HOSTILE,)}
    ledger = main_job(**names, machine=MACHINE | {HOSTILE: HOSTILE})
    served = exported(
        file=HOSTILE,
        census=Census(int8=1, float=1, by_type={HOSTILE: 3}, float_layers=(HOSTILE,)),
        slower_because=(HOSTILE,),
    )
    attack = {
        "recipe": HOSTILE,
        "stage": HOSTILE,
        "type": HOSTILE,
        "error": HOSTILE,
        "facts": {HOSTILE: HOSTILE, "inner": {HOSTILE: [HOSTILE]}, "history": HOSTILE},
    }
    attacked = tuple(each.model_copy(update=attack) for each in ledger.rows)
    return with_last(ledger.model_copy(update={"rows": attacked}), served=served)


def empty() -> Ledger:
    """Return a run that was interrupted before its first step."""
    return main_job(status="interrupted", rows=(), baselines={}, require=())


def sweep() -> SweepRecord:
    """Return three jobs of a sweep over the target of pruning; the last one failed."""
    jobs = []
    for share, test, speedup, size in ((0.4, 0.984, 12.7, 512_000), (0.6, 0.992, 9.4, 730_000)):
        served = exported(
            test=test, metric_drop=0.992 - test, speedup={1: speedup}, latency={1: latency(3.94 / speedup)},
            size_bytes=size, size_ratio=17_320_000 / size,
        )  # fmt: skip
        override = f"stages.prune.target.macs={share}"
        jobs.append(with_last(main_job(overrides=(override,)), served=served))
    jobs.append(failed().model_copy(update={"overrides": ("stages.prune.target.macs=0.1",)}))
    return sweep_of(*jobs)


def sweep_of(*jobs: Ledger) -> SweepRecord:
    """Return the sweep whose jobs left these ledgers."""
    records = [
        JobRecord(
            number=number,
            overrides=ledger.overrides,
            status=ledger.status,
            run=ledger.run,
            error=ledger.rows[-1].error if ledger.rows else "",
            ledger=ledger,
        )
        for number, ledger in enumerate(jobs)
    ]
    return SweepRecord(
        mcomp="0.1.0",
        sweep="20260131-101400-resnet_int8-1b2c",
        recipe=jobs[0].recipe,
        started="2026-01-31T10:14:00+00:00",
        status="done",
        jobs=tuple(records),
    )
