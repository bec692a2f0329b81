"""Recipes and command lines made to hurt: each is a folder's files and the arguments of `mcomp`."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.attack import Attack, command

GOOD = """\
version: 1
name: good
model: {type: lenet5}
data: {type: digits}
stages:
  train: {type: train, training: {epochs: 1}}
  export: {type: export.onnx}
"""
CHECK = ("check", "r.yaml")
LONGEST = 0.5  # far above what is measured (docs/benchmarks.md): the largest recipes take 0.1 s

# A file beside the recipe that would leave a trace if anything imported or ran it.
PAYLOAD = "from pathlib import Path\nPath(__file__).with_name('pwned').touch()\ndef run(*a, **k): pass\n"


@dataclass(frozen=True)
class Hostile:
    """One attack. `files` lie in the recipe's folder; `prepare` makes what is no ordinary file."""

    files: Mapping[str, str | bytes]
    arguments: Sequence[str] = CHECK
    prepare: Callable[[Path], None] | None = None
    told: str = ""

    def write(self, folder: Path) -> None:
        """Lay the attack out in an empty folder."""
        (folder / "evil.py").write_text(PAYLOAD)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if self.prepare:
            self.prepare(folder)


def as_attack(hostile: Hostile) -> Attack:
    """Return the attack; the commands that have a store get one in the folder."""
    store = ("--store", "store") if hostile.arguments[0] == "plan" else ()
    act = command(*hostile.arguments, *store)
    return Attack("own", hostile.write, act, hostile.told, seconds=LONGEST)


def recipe(text: str | bytes, told: str = "", **files: str) -> Hostile:
    """Return an attack by the text of the recipe itself."""
    return Hostile({"r.yaml": text, **files}, told=told)


def added(lines: str, told: str = "", **files: str) -> Hostile:
    """Return an attack by lines in an otherwise good recipe."""
    return recipe(f"{GOOD}{lines}\n", told, **files)


def override(*texts: str, told: str = "") -> Hostile:
    """Return an attack from the command line."""
    return Hostile({"r.yaml": GOOD}, (*CHECK, *texts), told=told)


def base(text: str, told: str = "") -> Hostile:
    """Return an attack by a file that the recipe builds on."""
    return Hostile({"r.yaml": f"defaults: [b, _self_]\n{GOOD}", "b.yaml": text}, told=told)


def link(name: str, target: str) -> Callable[[Path], None]:
    """Return what makes a symbolic link."""
    return lambda folder: os.symlink(target, folder / name)


def pipe(folder: Path) -> None:
    """Make a pipe that nobody writes to, in the recipe's place."""
    os.mkfifo(folder / "r.yaml", stat.S_IRUSR | stat.S_IWUSR)


def outside(folder: Path) -> None:
    """Make a good file outside of the recipe's folder, and links to it."""
    (folder.parent / "outside.yaml").write_text("seed: 1\n")
    os.symlink("../outside.yaml", folder / "b.yaml")


def taught_by(teacher: str) -> str:
    """Return a good recipe that learns from another."""
    learn = f"{{type: distill.offline, teachers: [{{recipe: {teacher}}}], training: {{epochs: 1}}}}"
    return GOOD.replace("{type: train, training: {epochs: 1}}", learn)


ALIAS_BOMB = "\n".join(
    ["a0: &a0 x", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
)
MERGE_BOMB = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 30))]
)
REFERENCE_BOMB = "\n".join(
    ["a0: x", *(f"a{n}: [{', '.join(['${a' + str(n - 1) + '}'] * 9)}]" for n in range(1, 30))]
)
REFERENCE_BOMB = REFERENCE_BOMB.replace("${", "'${").replace("}", "}'")
TEXT_BOMB = "\n".join(["a0: xxxxxxxx", *(f"a{n}: {('${a' + str(n - 1) + '}') * 9}" for n in range(1, 30))])
TOWER = {f"b{n}.yaml": f"defaults: [b{n + 1}@x, b{n + 1}@y, _self_]\n" for n in range(40)}

RECIPES: dict[str, Hostile] = {
    # what grows
    "alias bomb": recipe(ALIAS_BOMB, "the anchor &a0 is refused"),
    "merge bomb": recipe(MERGE_BOMB, "the merge key `<<` is refused"),
    "alias of itself": recipe("a: &a [*a]", "the alias *a is refused"),
    "reference bomb": recipe(REFERENCE_BOMB, "references make more than"),
    "text bomb": recipe(TEXT_BOMB, "references make more than"),
    "circle of references": recipe("a: ${b}\nb: ${a}", "references lead in a circle"),
    "reference to itself inside": added("description: x${description}", "references lead in a circle"),
    "deep lists": recipe(b"a: " + b"[" * 30_000, "is nested more than"),
    "deep mappings": recipe(b"{a: " * 15_000, "is nested more than"),
    "deep block": recipe("\n".join(" " * n + "a:" for n in range(200)), "is nested more than"),
    "deep keys": recipe("? " * 10_000, "is nested more than"),
    "many keys": recipe("\n".join(f"k{n}: 1" for n in range(7_000)), "has more than"),
    "many unknown keys": added("\n".join(f"k{n}: 1" for n in range(900)), "unknown key"),
    "many equal keys": recipe("a: 1\n" * 1_400, "is given twice"),
    "many values": recipe("a: [" + "1," * 30_000 + "]", "has more than"),
    "many documents": recipe("--- {}\n" * 5_000, "a second document starts here"),
    "many stages": recipe(
        "stages:\n" + "".join(f"  s{n}: {{type: train}}\n" for n in range(370)), "is missing"
    ),
    "huge text": recipe("a: " + "x" * 60_000, "holds a text of more than"),
    "huge number": added("seed: " + "9" * 10_000, "a number of 10000 digits"),
    "huge float": added("seed: 1e400", "is not a finite number"),
    "huge integer in hexadecimal": added("seed: 0x" + "f" * 5_000, "a number of"),
    "huge key": recipe("x" * 60_000 + ": 1"),
    "huge file": recipe(b"#" * 10_000_000, "is larger than"),
    "one long line": recipe("a: {" + "b: 1, " * 10_000 + "}"),
    "long comment": recipe("# " + "x" * 60_000 + "\na: 1\n"),
    "many comments": recipe("#\n" * 30_000),
    "many blanks": recipe("a:" + " " * 60_000 + "1\n"),
    "many brackets closed": recipe("]" * 60_000, "is not YAML"),
    "endless quote": recipe("a: '" + "x" * 60_000, "a quote is not closed"),
    # what runs code
    "python object": recipe("a: !!python/object/apply:os.system [touch pwned]", "the tag !!python"),
    "python name": recipe("a: !!python/name:evil.run", "the tag !!python"),
    "include": recipe("a: !include /etc/passwd", "the tag !include is refused"),
    "own tag": recipe("%TAG ! tag:yaml.org,2002:python/\n---\na: !name:evil.run x", "directives are refused"),
    "target": added("x: {_target_: evil.run}", "a recipe names no code"),
    "target in a stage": recipe(
        GOOD.replace("{type: train,", "{_target_: evil.run, type: train,"), "names no code"
    ),
    "target in a base": base("model: {_target_: evil.run}", "b.yaml:1:9: model._target_"),
    "partial and args": added("x: {_partial_: true, _args_: [1]}", "a recipe names no code"),
    "import path as type": recipe(GOOD.replace("type: train,", "type: evil.run,"), "unknown type 'evil.run'"),
    "file as type": recipe(GOOD.replace("type: lenet5", "type: ./evil.py"), "unknown type './evil.py'"),
    "entry point text as type": recipe(
        GOOD.replace("type: lenet5", "type: 'evil:run'"), "unknown type 'evil:run'"
    ),
    "callbacks": added("hydra: {callbacks: {x: {_target_: evil.run}}}", "a recipe cannot configure Hydra"),
    "callbacks in a base": base("hydra: {callbacks: {x: {_target_: evil.run}}}", "b.yaml:1:1: hydra"),
    "launcher in defaults": added(
        "defaults: [{override hydra/launcher: joblib}, _self_]", "cannot configure Hydra"
    ),
    "package hydra": Hostile(
        {"r.yaml": f"defaults: [b@hydra, _self_]\n{GOOD}", "b.yaml": "run: {dir: pwned}"},
        told="cannot configure Hydra",
    ),
    "package global hydra": Hostile(
        {"r.yaml": f"defaults: [b@_global_.hydra, _self_]\n{GOOD}", "b.yaml": "run: {dir: pwned}"},
        told="cannot configure Hydra",
    ),
    "folder called hydra": Hostile(
        {"r.yaml": f"defaults: [hydra/x, _self_]\n{GOOD}", "hydra/x.yaml": "a: 1"},
        told="cannot configure Hydra",
    ),
    "environment": added("description: ${oc.env:MCOMP_SECRET}", "only plain references"),
    "decode": added("description: '${oc.decode:1}'", "only plain references"),
    "create": added("description: '${oc.create:{a: 1}}'", "only plain references"),
    "select": added("description: '${oc.select:name,x}'", "only plain references"),
    "hydra resolver": added("description: ${hydra:runtime.cwd}", "only plain references"),
    "nested resolver": added("description: '${a${oc.env:MCOMP_SECRET}}'", "only plain references"),
    "escaped resolver": added("description: '\\${oc.env:MCOMP_SECRET}'", "only plain references"),
    "resolver in a key": recipe("${oc.env:HOME}: 1", "a key cannot hold a reference"),
    "resolver in defaults": added("defaults: ['${oc.env:HOME}', _self_]", "only plain references"),
    # what lies elsewhere
    "base above": added("defaults: [../outside, _self_]", "outside the recipe's folder"),
    "base above in a group": added("defaults: [{a: ../../outside}, _self_]", "outside the recipe's folder"),
    "base with an absolute path": added(
        "defaults: [/etc/passwd, _self_]", "there is no file etc/passwd.yaml"
    ),
    "base behind a link": Hostile(
        {"r.yaml": f"defaults: [b, _self_]\n{GOOD}"}, prepare=outside, told="there is no file b.yaml"
    ),
    "base behind links in a circle": Hostile(
        {"r.yaml": f"defaults: [b, _self_]\n{GOOD}"},
        prepare=link("b.yaml", "b.yaml"),
        told="there is no file b.yaml",
    ),
    "base with a long name": added(f"defaults: [{'x' * 5_000}, _self_]", "there is no file"),
    "base of another kind": added(
        "defaults: ['pkg://evil', 'file:///etc/passwd', _self_]", "there is no file"
    ),
    "bases in a circle": base("defaults: [r, _self_]\n", "in a circle: r -> b -> r"),
    "bases that multiply": Hostile({"r.yaml": "defaults: [b0, _self_]\n", **TOWER}, told="files deep"),
    "recipe behind links in a circle": Hostile({}, prepare=link("r.yaml", "r.yaml"), told="cannot be read"),
    "recipe that is a pipe": Hostile({}, prepare=pipe, told="is a device or a pipe"),
    "recipe that is a device": Hostile({}, prepare=link("r.yaml", "/dev/zero"), told="is a device or a pipe"),
    "recipe that is a folder": Hostile({"r.yaml/x": ""}, told="is a folder"),
    "recipe in the process": Hostile({}, ("check", "/proc/self/environ"), told="is not a recipe"),
    "teacher that is a pipe": Hostile(
        {"a.yaml": f"{GOOD}baseline: {{recipe: r.yaml}}"},
        ("check", "a.yaml"),
        prepare=pipe,
        told="there is no file",
    ),
    "teachers in a circle": recipe(
        taught_by("b.yaml"), "in a circle: r.yaml -> b.yaml -> r.yaml", **{"b.yaml": taught_by("r.yaml")}
    ),
    "checkpoint with a long name": recipe(
        GOOD.replace("lenet5}", f"lenet5, checkpoint: {'x' * 5_000}}}"), "there is no"
    ),
    "checkpoint that is a device": recipe(
        GOOD.replace("lenet5}", "lenet5, checkpoint: /dev/zero}"), "there is no file"
    ),
    "name that is a path": recipe(GOOD.replace("name: good", "name: ../../pwned"), "must be a name"),
    "stage that is a path": recipe(GOOD.replace("  train:", "  ../../pwned:"), "must be a name"),
    # what looks like something else
    "homoglyph": recipe(GOOD.replace("name:", "n\u0430me:"), "spelt 'n\\u0430me'"),
    "zero width": recipe(GOOD.replace("name:", "na\u200bme:"), "na\\u200bme"),
    "turned around": recipe(GOOD.replace("name: good", "name: \u202edoog"), "\\u202e"),
    "terminal escape in a key": recipe('"\\e[2J\\e]0;pwned\\a": 1', "\\x1b[2J"),
    "terminal escape in a value": recipe(GOOD.replace("name: good", 'name: "\\e[31mgood"'), "\\x1b[31m"),
    "faked line": recipe('"x\\nr.yaml:1:1: no mistakes": 1', "x\\nr.yaml"),
    "carriage return": recipe('"x\\rno mistakes": 1', "x\\rno mistakes"),
    "nul": recipe(b"a: \x00", "U+0000 is not allowed"),
    "escaped nul": recipe('a: "x\\0y"', "holds a NUL"),
    "half a surrogate": recipe('a: "\\ud800"', "half of a surrogate pair"),
    "binary": recipe(bytes(range(256)) * 100, "is not UTF-8"),
    "utf-16": recipe(GOOD.encode("utf-16"), "is not UTF-8"),
    "yaml 1.1 words": added("seed: 1_0", "means different things"),
    "directive": recipe("%YAML 1.1\n---\na: 1", "directives are refused"),
    "picture": recipe(b"\x89PNG\r\n\x1a\n" + bytes(5_000), "is not UTF-8"),
    # the command line
    "run folder": override("hydra.run.dir=/tmp/pwned", told="this part of Hydra cannot be configured"),
    "callbacks from outside": override("+hydra.callbacks.x._target_=evil.run", told="this part of Hydra"),
    "launcher without a sweep": override("hydra/launcher=joblib", told="add -m"),
    "job environment": override("hydra.job.env_set.LD_PRELOAD=x", told="this part of Hydra"),
    "search path": override("hydra.searchpath=[file:///etc]", told="this part of Hydra"),
    "target from outside": override("model._target_=evil.run", told="a recipe names no code"),
    "target in a value": override("model={a: [{_target_: evil.run}]}", told="a recipe names no code"),
    "resolver from outside": override("name=${oc.env:MCOMP_SECRET}", told="only plain references"),
    "package from outside": override("+b@hydra=b", told="a package (@) cannot be given"),
    "choice above": Hostile(
        {"r.yaml": f"defaults: [{{g: a}}, _self_]\n{GOOD}", "g/a.yaml": "seed: 1"},
        (*CHECK, "g=../../outside"),
        told="there is no file",
    ),
    "deep value": override("name=" + "[" * 4_000, told="it is nested too deeply"),
    "deep key": override(".".join("a" * 3_000) + "=1", told="it is nested too deeply"),
    "long value": override("name=" + "x" * 100_000, told="it is longer than"),
    "many values to try": Hostile(
        {"r.yaml": GOOD}, ("plan", "-m", "r.yaml", "seed=range(0,1000000000)"), told="more than 10000"
    ),
    "sampler of one's own": Hostile(
        {"r.yaml": GOOD}, ("plan", "-m", "r.yaml", "seed=1,2", "hydra/launcher=evil"), told="command line"
    ),
    "launcher's target": Hostile(
        {"r.yaml": GOOD},
        ("plan", "-m", "r.yaml", "seed=1,2", "hydra.launcher._target_=evil.run"),
        told="this part of Hydra",
    ),
    "configuration folder": Hostile(
        {"r.yaml": GOOD}, (*CHECK, "--config-dir", "/etc"), told="No such option"
    ),
    "hydra's own flags": Hostile({"r.yaml": GOOD}, (*CHECK, "--config-path=/etc"), told="No such option"),
    "escape from outside": override("name=\x1b[31m", told="\\x1b[31m"),
    "swept reference": Hostile(
        {"r.yaml": GOOD}, ("plan", "-m", "r.yaml", "name=${oc.env:HOME},b"), told="only plain references"
    ),
}

ATTACKS = {name: as_attack(hostile) for name, hostile in RECIPES.items()}
