"""The reference pages against the code: what exists is documented, and what is documented exists."""

import ast
import importlib
import inspect
import json
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TypeGuard, cast

import pytest
from pydantic import BaseModel

import stillframe
from stillframe.aws.errors import ProtocolCode, ProtocolError, to_wire
from stillframe.aws.handlers import UseCases, build_handlers
from stillframe.cli import root
from stillframe.config import Paths, Quotas, Settings, load_settings
from stillframe.domain.clock import SystemClock
from stillframe.errors import NotFound, StillframeError, TooManyTags
from support.docs import ROOT, blocks, code, rows, section

pytestmark = pytest.mark.unit

_REFERENCE = ROOT / "docs" / "reference"
_METRIC_MAKERS = {
    "Counter", "Gauge", "Histogram", "Summary", "CounterMetricFamily", "GaugeMetricFamily", "HistogramMetricFamily",
}  # fmt: skip


# --- settings -----------------------------------------------------------------------------------------------


def _shown_default(model: type[BaseModel], name: str) -> str | None:
    """The default as the page shows it; None when words describe it."""
    field = model.model_fields[name]
    if field.default_factory is not None or isinstance(field.default, BaseModel):
        return None
    return "none" if field.default is None else str(field.default)


@pytest.mark.parametrize(
    ("model", "title", "prefix"),
    [(Settings, "All settings", "STILLFRAME_"), (Quotas, "Quotas", "STILLFRAME_QUOTAS__")],
)
def test_every_setting_is_documented_with_its_variable_and_default(
    model: type[BaseModel], title: str, prefix: str
) -> None:
    table = {code(row[0]): row for row in rows(_REFERENCE / "settings.md", under=title)}
    assert list(table) == list(model.model_fields)
    for name, row in table.items():
        assert code(row[1]) == prefix + name.upper()
        expected = _shown_default(model, name)
        assert expected is None or code(row[2]).partition(":")[0] == expected, name


def test_the_example_of_a_settings_file_is_accepted(tmp_path: Path) -> None:
    (example,) = (block for block in blocks(_REFERENCE / "settings.md") if block.language == "toml")
    (tmp_path / "stillframe.toml").write_text(example.text)
    settings = load_settings(config=tmp_path / "stillframe.toml")
    assert (settings.jobs, settings.quotas.namespaces) == (2, 100)


# --- commands -----------------------------------------------------------------------------------------------


def _commands() -> Iterator[tuple[str, ...]]:
    app = root.build()
    for name in (name for name in app if not name.startswith("-")):
        below = [inner for inner in app[name] if not inner.startswith("-")]
        yield from ((name, inner) for inner in below) if below else ((name,),)


def _options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - {"--help", "--version"}


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    titles = re.findall(r"^### stillframe (.+)$", (_REFERENCE / "cli.md").read_text(), flags=re.MULTILINE)
    assert sorted(titles) == sorted(" ".join(command) for command in _commands())


@pytest.mark.parametrize("command", list(_commands()), ids=" ".join)
def test_every_option_is_documented_and_every_documented_option_exists(command: tuple[str, ...]) -> None:
    app = root.build()
    for name in command:
        app = app[name]
    shown = [argument for argument in app.assemble_argument_collection() if argument.show]
    # The library makes `--empty-…` of every option that may be given several times.
    real = {
        name for one in shown for name in one.names if name[:2] == "--" and not name.startswith("--empty-")
    }
    described = _options(section(_REFERENCE / "cli.md", " ".join(["stillframe", *command])))
    assert described == real


def test_every_exit_status_is_documented() -> None:
    table = {int(row[0]) for row in rows(_REFERENCE / "cli.md") if row[0].isdigit()}
    assert table == {root.DONE, root.FAILED, root.USAGE, root.INTERRUPTED}


# --- errors -------------------------------------------------------------------------------------------------


def _error_classes() -> dict[str, type[StillframeError]]:
    for module in pkgutil.walk_packages(stillframe.__path__, "stillframe."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    found, waiting = {}, [StillframeError]
    while waiting:
        cls = waiting.pop()
        found[cls.kind] = cls
        waiting += cls.__subclasses__()
    return found


def _make(cls: type[StillframeError]) -> StillframeError:
    if issubclass(cls, NotFound | TooManyTags):
        return cls("m", resource_name="r")
    return cls("m")


def test_every_kind_of_error_is_documented_with_what_the_api_answers() -> None:
    page = _REFERENCE / "errors.md"
    table = {code(row[0]): row for row in rows(page, under="Kinds, and what a client of the API sees")}
    classes = _error_classes()
    assert sorted(table) == sorted(classes)
    for kind, cls in classes.items():
        assert code(table[kind][1]) == cls.__name__
        if cls is not ProtocolError:
            answer = to_wire(_make(cls), request_id="id")
            assert table[kind][2] == f"`{answer.code}` {answer.status}", kind


def test_every_refusal_of_a_request_is_documented_with_its_status() -> None:
    table = rows(_REFERENCE / "errors.md", under="Requests that never reach an operation")
    answers = [to_wire(ProtocolError(refusal, "m"), request_id="id") for refusal in ProtocolCode]
    assert sorted((code(row[0]), int(row[1])) for row in table) == sorted((a.code, a.status) for a in answers)


# --- metrics ------------------------------------------------------------------------------------------------


def _metrics_made() -> Iterator[tuple[str, frozenset[str]]]:
    """Name and labels of every metric that the code makes."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if _makes_metric(node):
                yield _literal(node.args[0]), frozenset(_labels(node))


def _makes_metric(node: ast.AST) -> TypeGuard[ast.Call]:
    """A call with a maker's name and a text; `collections.Counter` has the same name and no text."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
        return False
    return node.func.id in _METRIC_MAKERS and isinstance(node.args[0], ast.Constant)


def _labels(call: ast.Call) -> list[str]:
    given = [*call.args[2:3], *(word.value for word in call.keywords if word.arg in {"labels", "labelnames"})]
    return [_literal(item) for node in given for item in cast("ast.Tuple", node).elts]


def _literal(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant)
    return str(node.value)


def test_every_metric_is_documented_with_its_labels() -> None:
    documented = {
        code(row[0]): frozenset(re.findall(r"`(\w+)`", row[2])) for row in rows(_REFERENCE / "metrics.md")
    }
    assert documented == dict(_metrics_made())


# --- Python, files, operations, dependencies, layers --------------------------------------------------------


def test_every_public_name_of_the_package_is_documented() -> None:
    text = (_REFERENCE / "python.md").read_text()
    for name in stillframe.__all__:
        assert f"## `stillframe.{name}`" in text
    members = {name for name in vars(stillframe.Local) if not name.startswith("_")}
    assert {code(row[0]).partition("(")[0] for row in rows(_REFERENCE / "python.md")} == members


def test_the_signatures_of_local_are_those_of_the_code() -> None:
    for row in rows(_REFERENCE / "python.md"):
        name, found, documented = code(row[0]).partition("(")
        if found:
            parameters = list(inspect.signature(getattr(stillframe.Local, name)).parameters.values())[1:]
            names = [parameter.name for parameter in parameters]
            assert re.findall(r"(\w+)(?==|,|\)|$)", re.sub(r"=[^,)]*", "", documented)) == names


def test_every_path_of_a_data_directory_is_documented() -> None:
    text = (_REFERENCE / "data-directory.md").read_text()
    paths = Paths(root=ROOT)
    for name, member in vars(Paths).items():
        if isinstance(member, property):
            assert f"`{getattr(paths, name).relative_to(ROOT).as_posix()}`" in text, name
    assert paths.repository("<region>").relative_to(ROOT).as_posix() in text
    assert paths.namespace("<id>").relative_to(ROOT).as_posix() in text


def _operations() -> set[str]:
    use_cases = SimpleNamespace(**dict.fromkeys(UseCases.__slots__))
    return set(build_handlers(cast("UseCases", use_cases), SystemClock().now))


def test_every_operation_that_is_built_is_in_the_compatibility_page() -> None:
    text = (_REFERENCE / "compatibility.md").read_text()
    assert [name for name in sorted(_operations()) if not re.search(rf"\b{name}\b", text)] == []


def test_the_readme_counts_the_operations_of_the_api_right() -> None:
    extension = ROOT / "src" / "stillframe" / "aws" / "extension" / "stillframe"
    (model,) = extension.glob("*/service-2.json")
    ours = set(json.loads(model.read_text())["operations"])
    assert f"{len(_operations() - ours)} of 65, complete" in (ROOT / "README.md").read_text()


def _required(name: str) -> set[str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    named = [line for line in lines if line and not line.startswith(("#", "-"))]
    return {_package(line) for line in named}


def _package(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return match[0].lower()


def test_every_dependency_has_a_line_that_says_why() -> None:
    page = ROOT / "docs" / "explanation" / "dependencies.md"
    assert {row[0].lower() for row in rows(page, under="At run time")} == _required("runtime.in")
    assert {row[0].lower() for row in rows(page, under="To build, check and test")} == _required("dev.in")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {_package(line) for line in project["dependencies"]} <= _required("runtime.in")


def test_the_layers_in_contributing_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = [set(re.findall(r"stillframe\.(\w+)", row)) for row in contracts[0]["layers"]]
    built = [{name for name in row if _is_built(name)} for row in checked]
    documented = [
        set(re.findall(r"`(\w+)`", row[0]))
        for row in rows(ROOT / "CONTRIBUTING.md", under="Where would I add …")
    ]
    assert documented == built


def _is_built(name: str) -> bool:
    package = ROOT / "src" / "stillframe" / name
    return package.is_dir() or package.with_suffix(".py").is_file()


def test_the_make_targets_in_contributing_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = re.findall(r"\bmake ([a-z-]+(?: [a-z-]+)*)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert {target for line in named for target in line.split(" ")} <= targets


def test_files_and_names_that_contributing_points_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`((?:src|tests|docs|requirements)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for name in ("build_use_cases", "build_runner", "class OperationKind", "def give_up", "def table"):
        assert name in source


def test_every_status_and_kind_of_work_is_a_word_of_the_documents() -> None:
    text = (_REFERENCE / "glossary.md").read_text()
    terms = re.findall(r"^\*\*(.+?)\*\*:", text, flags=re.MULTILINE)
    assert terms == sorted(terms, key=str.lower)
    assert {
        "namespace",
        "workgroup",
        "snapshot",
        "incarnation",
        "lineage",
        "capture",
        "frame",
        "node",
    } <= set(terms)
    assert {"pack", "repository", "pin", "epoch", "hydration", "recovery point"} <= set(terms)
