from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcomp import plugins
from mcomp.errors import PluginError, RecipeError

STAGE = '''
from typing import Literal
from mcomp.stage import Form, StageConfig

class Stage(StageConfig):
    """Does a thing.

    More about it.
    """

    forms = {Form.FLOAT: Form.FLOAT}
    type: Literal["thing"]
'''

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def nothing_else_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "decorated", {})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with one module of the same name on the path."""

    def install(name: str, module: str, entry_points: str, version: str = "1.0") -> None:
        site = tmp_path / f"site-{name}"
        information = site / f"{name}-{version}.dist-info"
        information.mkdir(parents=True)
        (site / f"{name}.py").write_text(module)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (information / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(site)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return install


def test_a_plugin_is_listed_without_being_imported_and_imported_when_used(install: Install) -> None:
    install("lazy_one", STAGE, "[mcomp.stages]\nthing = lazy_one:Stage\n")
    assert "thing" in plugins.names("stages")
    assert "lazy_one" not in sys.modules
    assert plugins.load("stages", "thing").__module__ == "lazy_one"


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        ("raise RuntimeError('first\\nlast')", "RuntimeError: last"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("this is no python", "SyntaxError"),
        ("", "AttributeError: module 'broken_one' has no attribute 'Stage'"),
        ("raise ValueError", "ValueError"),
    ],
)  # fmt: skip
def test_a_plugin_that_cannot_be_imported_is_named_with_its_distribution(
    module: str, cause: str, install: Install
) -> None:
    install("broken_one", module, "[mcomp.stages]\nthing = broken_one:Stage\n", version="2.3")
    with pytest.raises(PluginError) as caught:
        plugins.load("stages", "thing")
    label = "broken_one 2.3: mcomp.stages 'thing' (broken_one:Stage) cannot be imported: "
    assert str(caught.value).startswith(label + cause)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("old", "new", "breach"),
    [
        ("(StageConfig)", "", "it is not a subclass of mcomp.stage.StageConfig"),
        ("class Stage(StageConfig)", "class Other(StageConfig)", "it is not a subclass"),
        ('["thing"]', '["other"]', 'its field `type` must be Literal["thing"]'),
        ('["thing"]', '["thing", "other"]', 'its field `type` must be Literal["thing"]'),
        ('type: Literal["thing"]', "", 'its field `type` must be Literal["thing"]'),
        ("forms = {Form.FLOAT: Form.FLOAT}", "", "it does not define forms"),
    ],
)
def test_a_plugin_that_breaks_the_contract_says_how(
    old: str, new: str, breach: str, install: Install
) -> None:
    assert old in STAGE
    module = STAGE.replace(old, new) + "\nif 'Other' in dir(): Stage = 3\n"
    install("wrong_one", module, "[mcomp.stages]\nthing = wrong_one:Stage\n")
    with pytest.raises(PluginError) as caught:
        plugins.load("stages", "thing")
    assert str(caught.value).startswith(
        f"wrong_one 1.0: mcomp.stages 'thing' (wrong_one:Stage): wrong contract: {breach}"
    )


def test_an_edit_is_named_by_its_kind() -> None:
    assert plugins.load("edits", "keep_channels").__name__ == "KeepChannels"


def test_a_name_claimed_twice_is_an_error_only_when_it_is_used(install: Install) -> None:
    install("left_one", STAGE, "[mcomp.stages]\nthing = left_one:Stage\n")
    both = STAGE.replace("thing", "free") + STAGE.replace("class Stage", "class Second")
    entry_points = "[mcomp.stages]\nfree = right_one:Stage\nthing = right_one:Second\n"
    install("right_one", both, entry_points, version="0.2")
    assert plugins.load("stages", "free").__module__ == "right_one"
    with pytest.raises(PluginError) as caught:
        plugins.load("stages", "thing")
    assert "left_one 1.0 (left_one:Stage)" in str(caught.value)
    assert "right_one 0.2 (right_one:Second)" in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list(install: Install) -> None:
    install("near_one", STAGE, "[mcomp.stages]\nthing = near_one:Stage\n")
    told = r"unknown type 'thingg'; did you mean 'thing'\? \(one of .*'thing'"
    with pytest.raises(plugins.UnknownPlugin, match=told):
        plugins.load("stages", "thingg")
    assert issubclass(plugins.UnknownPlugin, RecipeError)


def test_the_description_of_a_group_survives_its_broken_plugins(install: Install) -> None:
    install("good_one", STAGE, "[mcomp.stages]\nthing = good_one:Stage\n")
    install("bad_one", "1 / 0", "[mcomp.stages]\nzz.bad = bad_one:Stage\n")
    found = {each.name: each for each in plugins.describe("stages")}
    assert found["thing"] == plugins.Description("thing", "good_one 1.0", "Does a thing.")
    assert "ZeroDivisionError: division by zero" in found["zz.bad"].error
    assert found["zz.bad"].distribution == "bad_one 1.0"


DECORATED = "from mcomp import plugins\n" + STAGE.replace(
    "class Stage", '@plugins.stage("thing")\nclass Stage'
)


def test_a_decorated_class_of_an_imported_module_is_a_plugin(install: Install) -> None:
    install("my_module", DECORATED, "")
    with pytest.raises(plugins.UnknownPlugin):
        plugins.load("stages", "thing")
    plugins.import_module("my_module")
    assert plugins.load("stages", "thing") is sys.modules["my_module"].Stage
    assert plugins.Description("thing", "module my_module", "Does a thing.") in plugins.describe("stages")


def test_importing_a_module_again_claims_nothing_twice(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("my_other_module", DECORATED, "")
    plugins.import_module("my_other_module")
    monkeypatch.delitem(sys.modules, "my_other_module")
    plugins.import_module("my_other_module")
    assert plugins.load("stages", "thing") is sys.modules["my_other_module"].Stage


def test_a_decorated_class_and_an_installed_one_may_not_share_a_name(install: Install) -> None:
    install("theirs", STAGE, "[mcomp.stages]\nthing = theirs:Stage\n")
    install("mine", DECORATED, "")
    plugins.import_module("mine")
    with pytest.raises(PluginError, match=r"theirs 1\.0 \(theirs:Stage\) and module mine \(mine:Stage\)"):
        plugins.load("stages", "thing")


@pytest.mark.parametrize(
    ("module", "what"),
    [
        ("raise OSError('x')", "module imported_one cannot be imported: OSError: x"),
        ("raise SystemExit(3)", "module imported_one cannot be imported: SystemExit: 3"),
        (
            "import gone_module",
            "module imported_one cannot be imported: ModuleNotFoundError: No module named 'gone",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(module: str, what: str, install: Install) -> None:
    install("imported_one", module, "")
    with pytest.raises(PluginError) as caught:
        plugins.import_module("imported_one")
    assert str(caught.value).startswith(what)


@pytest.mark.parametrize("name", ["a_module_nobody_wrote", "json.nothing", "nobody.wrote.this"])
def test_a_module_that_is_not_there_is_no_mystery(name: str) -> None:
    with pytest.raises(PluginError, match=f"there is no module {name}"):
        plugins.import_module(name)


@pytest.mark.parametrize(("decorator", "group"), [("model", "models"), ("data", "data"), ("task", "tasks")])
def test_each_decorator_registers_in_its_group(decorator: str, group: plugins.Group) -> None:
    class Mine:
        pass

    getattr(plugins, decorator)("mine")(Mine)
    assert "mine" in plugins.names(group)
    with pytest.raises(PluginError, match="wrong contract"):
        plugins.load(group, "mine")


def test_what_a_plugin_prints_is_not_for_programs(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("loud_one", f"print('hello')\n{STAGE}", "[mcomp.stages]\nthing = loud_one:Stage\n")
    plugins.load("stages", "thing")
    with plugins.asked("stages", "thing"):
        print("again")
    assert capsys.readouterr() == ("", "hello\nagain\n")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("x"), "failed: ZeroDivisionError: x"),
        (SystemExit(0), "failed: SystemExit: 0"),
        (BaseException("first\nlast"), "failed: BaseException: last"),
    ],
)
def test_what_a_plugin_raises_when_it_is_asked_is_blamed_on_it(
    error: BaseException, told: str, install: Install
) -> None:
    install("asked_one", STAGE, "[mcomp.stages]\nthing = asked_one:Stage\n")
    with pytest.raises(PluginError) as caught, plugins.asked("stages", "thing"):
        raise error
    assert str(caught.value) == f"asked_one 1.0: mcomp.stages 'thing' {told}"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [RecipeError("x"), KeyboardInterrupt()])
def test_what_is_raised_on_purpose_is_not_blamed_on_a_plugin(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, plugins.asked("stages", "thing"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "entry_points", ["[mcomp.stages]\nno equals sign\n", "[mcomp.stages]\n\x1b[2J = a:b\n"]
)
def test_a_broken_distribution_hides_no_other(entry_points: str, install: Install) -> None:
    install("whole_one", STAGE, "[mcomp.stages]\nthing = whole_one:Stage\n")
    install("torn_one", "", entry_points)
    assert plugins.load("stages", "thing").__module__ == "whole_one"
    assert all(name.isprintable() for name in plugins.names("stages"))
