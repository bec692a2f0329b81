"""Distributions whose plugins fail, exit, print, claim what is not theirs, or break what mcomp asks them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from tests.hostile.attack import SECONDS, Attack, command
from tests.hostile.recipes import LONGEST

STAGE = '''
from typing import Literal
from pydantic import model_validator
from mcomp.stage import Form, StageConfig

class Thing(StageConfig):
    """Does a thing."""

    forms = {Form.UNTRAINED: Form.FLOAT, Form.FLOAT: Form.FLOAT}
    type: Literal["thing"] = "thing"
'''
DATA = """
from typing import Literal
from mcomp.data.contract import DataConfig, DataFacts

class Thing(DataConfig):
    type: Literal["thing"] = "thing"

    def facts(self):
        FACTS

    def digest(self):
        DIGEST
"""
FACTS = "return DataFacts(channels=1, image_size=16, num_classes=10)"
RECIPE = """\
version: 1
name: good
model: {type: lenet5}
data: {type: digits}
stages:
  thing: {type: thing}
"""
TRAIN = "{type: train, training: {epochs: 1}}"
WITH_DATA = f"""\
version: 1
name: good
model: {{type: lenet5}}
data: {{type: thing}}
stages:
  train: {TRAIN}
"""
CHECK = ("check", "--quick", "r.yaml")
PLAN = ("plan", "-m", "--json", "--store", "store", "r.yaml", "seed=1,2")


def distribution(
    folder: Path, module: str, entry_points: str, name: str = "their", metadata: str = "Name: their\n"
) -> None:
    """Install a distribution of one module below a folder."""
    information = folder / "site" / f"{name}-1.0.dist-info"
    information.mkdir(parents=True)
    # A name of its own for each attack: Python imports a name once.
    own = f"their_{folder.parent.name}_{folder.name}_{name}"
    (folder / "site" / f"{own}.py").write_text(module)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\n{metadata}Version: 1.0\n")
    (information / "entry_points.txt").write_bytes(entry_points.replace("MODULE", own).encode("latin1"))


def read_by_a_program(arguments: tuple[str, ...]) -> Callable[[Path], object]:
    """Return what runs a command and reads what it writes to stdout as JSON."""

    def act(folder: Path) -> object:
        with redirect_stdout(io.StringIO()) as output:
            code = with_site(arguments)(folder)
        print(len(json.loads(output.getvalue())), "parts of JSON")
        return code

    return act


def with_site(arguments: tuple[str, ...]) -> Callable[[Path], object]:
    """Return what runs a command while the folder's distributions are installed."""

    def act(folder: Path) -> object:
        sys.path.insert(0, str(folder / "site"))
        try:
            return command(*arguments)(folder)
        finally:
            sys.path.remove(str(folder / "site"))

    return act


def attack(
    module: str,
    told: str,
    source: str = "own",
    code: int = 4,
    arguments: tuple[str, ...] = CHECK,
    recipe: str = RECIPE,
    entry_points: str = "[mcomp.stages]\nthing = MODULE:Thing\n",
    metadata: str = "Name: their\n",
    run: Callable[[tuple[str, ...]], Callable[[Path], object]] = with_site,
) -> Attack:
    """Return an attack by one distribution on a recipe that names its plugin."""

    def prepare(folder: Path) -> None:
        distribution(folder, module, entry_points, metadata=metadata)
        (folder / "r.yaml").write_text(recipe)

    # What is not refused has work to do.
    seconds = SECONDS if code else LONGEST
    return Attack(source, prepare, run(arguments), told, code, writes=True, seconds=seconds)


def asked(
    told: str, facts: str = FACTS, digest: str = "return ''", arguments: tuple[str, ...] = CHECK
) -> Attack:
    """Return an attack by a data provider that fails when it is asked."""
    module = DATA.replace("FACTS", facts).replace("DIGEST", digest)
    points = "[mcomp.data]\nthing = MODULE:Thing\n"
    code = 0 if told == "" else 4
    return attack(module, told, code=code, arguments=arguments, recipe=WITH_DATA, entry_points=points)


def two(first: str, second: str) -> Attack:
    """Return an attack by a second distribution that claims a taken name."""

    def prepare(folder: Path) -> None:
        distribution(folder, first, "[mcomp.stages]\nthing = MODULE:Thing\n")
        distribution(folder, second, "[mcomp.stages]\nthing = MODULE:Thing\n", "other", "Name: other\n")
        (folder / "r.yaml").write_text(RECIPE)

    return Attack("packaging", prepare, with_site(CHECK), "uninstall one of them", 4, writes=True)


def unrelated(content: str, arguments: tuple[str, ...] = ("stages",), told: str = "quantize.qat") -> Attack:
    """Return an attack by a distribution that the command has nothing to do with."""
    return attack("1 / 0", told, "packaging", 0, arguments, entry_points=content)


def validating(code: str) -> str:
    """Return a stage with a validator of its own."""
    return f"{STAGE}\n    @model_validator(mode='after')\n    def check(self):\n        {code}\n"


ATTACKS: dict[str, Attack] = {
    # imports
    "raises": attack("raise RuntimeError('first\\nlast')", "cannot be imported: RuntimeError: last"),
    "exits": attack("import sys; sys.exit('bye')", "cannot be imported: SystemExit: bye"),
    "exits well": attack("import sys; sys.exit(0)", "cannot be imported: SystemExit: 0"),
    "raises what is no error": attack(
        "class Evil(BaseException): pass\nraise Evil('x')", "cannot be imported: Evil: x"
    ),
    "stops a generator": attack("raise GeneratorExit", "cannot be imported: GeneratorExit"),
    "raises what cannot be said": attack(
        "class Evil(Exception):\n  def __str__(self): raise Evil\nraise Evil", "cannot be imported: Evil"
    ),
    "raises what says a number": attack(
        "class Evil(Exception):\n  def __str__(self): return 1\nraise Evil", "cannot be imported: Evil"
    ),
    "raises escapes": attack("raise ValueError('\\x1b[2J\\x1b]0;pwned\\x07')", r"\x1b[2J", "cwe-150"),
    "calls itself": attack("def f(): f()\nf()", "cannot be imported: RecursionError", "cwe-674"),
    "is no Python": attack("this is no python", "cannot be imported: SyntaxError"),
    "is not there": attack(
        "", "cannot be imported: ModuleNotFoundError", entry_points="[mcomp.stages]\nthing = nowhere:Thing\n"
    ),
    "has no such class": attack("", "has no attribute 'Thing'"),
    "is an expression": attack(
        "",
        "cannot be imported",
        entry_points="[mcomp.stages]\nthing = os:system('touch pwned')\n",
    ),
    "prints what a program reads": attack(
        "print('not JSON')" + STAGE, "parts of JSON", code=0, arguments=("schema",), run=read_by_a_program
    ),
    "takes stdout away": attack("import sys\nsys.stdout = None" + STAGE, "", code=0),
    # contracts
    "is no class": attack("Thing = 3", "wrong contract: it is not a subclass"),
    "is another kind of class": attack("class Thing: pass", "wrong contract: it is not a subclass"),
    "is of another group": attack(DATA, "wrong contract: it is not a subclass"),
    "has another name": attack(STAGE.replace('"thing"', '"other"'), 'must be Literal["thing"]'),
    "has two names": attack(STAGE.replace('["thing"]', '["thing", "other"]'), 'must be Literal["thing"]'),
    "says no forms": attack(
        STAGE.replace("forms = {Form.UNTRAINED: Form.FLOAT, Form.FLOAT: Form.FLOAT}", ""),
        "wrong contract: it does not define forms",
    ),
    "lies about its class": attack(
        "class Meta(type):\n  def __getattribute__(self, name): raise OSError('x')\n"
        "class Thing(metaclass=Meta): pass",
        "their 1.0: mcomp.stages 'thing'",
    ),
    "claims a taken name": two(STAGE, STAGE),
    "claims a name of mcomp": attack(
        STAGE.replace("thing", "train"),
        "uninstall one of them",
        "packaging",
        recipe=RECIPE.replace("type: thing", "type: train"),
        entry_points="[mcomp.stages]\ntrain = MODULE:Thing\n",
    ),
    # what is asked of them
    "fails when it validates": attack(validating("1 / 0"), "failed: ZeroDivisionError"),
    "exits when it validates": attack(validating("raise SystemExit(0)"), "failed: SystemExit: 0"),
    "prints when it validates": attack(
        validating("print('not JSON'); return self"),
        "parts of JSON",
        code=0,
        arguments=PLAN,
        run=read_by_a_program,
    ),
    "fails when asked for facts": asked("failed: KeyError", "raise KeyError('no points')"),
    "exits when asked for facts": asked("failed: SystemExit", "raise SystemExit"),
    "gives other facts": asked("failed: AttributeError", "return 'facts'"),
    "fails when asked for a digest": asked("failed: OSError", digest="raise OSError('gone')"),
    # names and distributions
    "a name with escapes": unrelated("[mcomp.stages]\n\x1b[2J = MODULE:Thing\n"),
    "a broken plugin beside others": unrelated("[mcomp.stages]\nthing = MODULE:Thing\n"),
    "entry points that are none": unrelated("[mcomp.stages]\nno equals sign\n"),
    "entry points in no encoding": unrelated("\xff\xfe\x00"),
    "entry points without end": unrelated("[mcomp.stages\nx = y:z\n"),
    "a distribution with escapes": attack(
        "1 / 0", r"their\x1b[2J", "cwe-150", metadata="Name: their\x1b[2J\n"
    ),
    "a distribution without a name": attack("1 / 0", "cannot be imported", metadata=""),
    "a plugin that nobody names": attack(
        "open('pwned', 'w')",
        "no mistakes",
        code=0,
        recipe=RECIPE.replace("{type: thing}", TRAIN),
    ),
}
