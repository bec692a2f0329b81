"""The record of one sweep: its plan, how each job ended, and the ledgers of the jobs that were not started.

sweeps/<time>-<recipe>-<xxxx>/plan.json      the jobs: overrides and keys
                              sweep.json     how each job ended
                              answered.json  ledgers of the jobs that the store could answer
                              results.json   results.csv   one line for each job
                              jobs/<number>/ what a launcher leaves of a job
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mcomp.config import Config
from mcomp.errors import CorruptArtifact, StoreError
from mcomp.store.disk import Disk
from mcomp.store.lease import claim, hold_if_free, temporary_name
from mcomp.store.ledger import Ledger
from mcomp.store.sealed import sealed, unsealed

PLAN, RECORD, ANSWERED, JOBS = "plan.json", "sweep.json", "answered.json", "jobs"

LEDGERS = TypeAdapter(dict[int, Ledger])

JobStatus = Literal["done", "require not met", "failed", "interrupted", "killed", "not started"]


class JobRecord(Config):
    """How one job ended: its exported files by stage, the run that holds its ledger, or why there is none.

    `run` is empty for a job that was not started. `exit_code` is None until the job has ended.
    """

    number: int
    overrides: tuple[str, ...]
    status: JobStatus = "not started"
    exit_code: int | None = None
    run: str = ""
    files: dict[str, str] = {}
    error: str = ""
    ledger: Annotated[Ledger | None, Field(exclude=True)] = None


class SweepRecord(Config):
    """One sweep; `jobs` by number."""

    mcomp: str
    sweep: str
    recipe: str
    started: str
    status: Literal["running", "done", "failed", "interrupted"]
    jobs: tuple[JobRecord, ...]


@dataclass(frozen=True)
class SweepFolder:
    """One sweep's folder in the store."""

    id: str
    folder: Path
    disk: Disk = field(repr=False)

    def under_way(self) -> AbstractContextManager[bool]:
        """Say, while the block runs, that the sweep goes on: its record is not cleaned away."""
        return hold_if_free(self.disk, self.leases, self.id)

    @property
    def leases(self) -> Path:
        """The store's folder of leases."""
        return self.folder.parent.parent / "leases"

    def write_record(self, record: SweepRecord) -> None:
        """Put the record in the place of the former one."""
        self.write(RECORD, sealed(json.loads(record.model_dump_json())).decode())

    def write_answered(self, ledgers: Mapping[int, Ledger]) -> None:
        """Keep the ledgers of the jobs that have no run."""
        plain = {"sweep": self.id, "ledgers": json.loads(LEDGERS.dump_json(dict(ledgers)))}
        self.write(ANSWERED, sealed(plain).decode())

    def read_record(self) -> SweepRecord:
        """Return the record without ledgers.

        Raises StoreError if there is none, or one of another version, CorruptArtifact if it is broken.
        """
        path = self.folder / RECORD
        if not path.exists():
            raise StoreError(f"sweep {self.id} has no record: it ended before it began")
        try:
            return SweepRecord.model_validate_json(json.dumps(self.read(path)))
        except ValidationError as error:
            raise StoreError(f"{path} is not a record of this version of mcomp; sweep again") from error

    def read_answered(self) -> dict[int, Ledger]:
        """Return the ledgers of the jobs that have no run, by number. Raises as `read_record` does."""
        path = self.folder / ANSWERED
        if not path.exists():
            return {}
        try:
            return LEDGERS.validate_json(json.dumps(self.read(path).get("ledgers")))
        except ValidationError as error:
            raise StoreError(f"{path} holds no ledgers of this version of mcomp; sweep again") from error

    def read(self, path: Path) -> dict[str, Any]:
        """Return what was sealed in a file of this sweep. Raises CorruptArtifact if its bytes changed."""
        try:
            plain = unsealed(self.disk.read(path))
            if plain.get("sweep") != self.id:
                raise ValueError("it is that of another sweep")
        except ValueError as error:
            raise CorruptArtifact(f"{path} is broken: {error}; sweep again") from error
        return plain

    def write(self, name: str, text: str) -> None:
        """Write one of the sweep's files, whole or not at all."""
        work = self.folder.parent.parent / "work"
        self.disk.put(self.folder / name, text.encode(), work / temporary_name(self.id))

    def write_plan(self, plan: Any) -> None:
        """Write the plan, plain JSON with the keys of all results that it needs: they stay from now on."""
        with claim(self.leases):
            self.write(PLAN, json.dumps(plan, indent=1, allow_nan=False) + "\n")
