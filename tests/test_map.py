"""The map is a test: who may import whom (docs/map.md), how long things may be, and that the core is pure."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "fairlead"
MODULES = sorted(SOURCE.rglob("*.py"))

MAY_IMPORT = {
    "errors": set(),
    "later": set(),
    "options": {"errors"},
    "settings": {"errors", "options"},
    "core": {"errors", "core"},
    "host": {"core", "errors", "host"},
    "store": {"core", "errors", "store"},
    "engine/drivers": {"core", "errors", "engine/drivers/base"},
    "engine": {"core", "errors", "settings", "host/base", "store/base", "engine"},
    "swarm": {"core", "errors", "settings", "host/base", "store/base", "engine", "swarm"},
    "api": {"core", "errors", "settings", "engine", "swarm", "api"},
    "cli": {"core/model", "core/template", "errors", "options", "settings", "cli"},
    "lab": {"errors", "settings", "lab", "host"},
}
"""Package -> what of ours it may import. ``daemon``, ``wiring…`` and ``__main__`` wire all, and may import all."""

CORE_NEVER = {"asyncio", "socket", "subprocess", "os", "time", "random", "threading", "logging", "pathlib", "datetime"}
"""Waiting, clocks, dice, files, sockets. (``datetime`` would smuggle in a clock.)"""

LONGEST_FILE = 500
LONGEST_FUNCTION = 60


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE).with_suffix("")).removesuffix("/__init__")


def package_of(module: str) -> str:
    if module.startswith("engine/drivers"):
        return "engine/drivers"
    return module.split("/")[0]


def imports(path: Path) -> set[str]:
    """Every import of the file as dotted names, those within functions and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    """The modules of ours a file imports, as paths below the source."""
    names = {name_of(module) for module in MODULES}
    dotted = {name.removeprefix("fairlead.") for name in imports(path) if name.startswith("fairlead.")}
    return {name.replace(".", "/") for name in dotted} & names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_follow_the_map(path: Path) -> None:
    package = package_of(name_of(path))
    if package in ("__init__", "daemon", "__main__") or package.startswith("wiring"):
        return
    allowed = MAY_IMPORT[package]
    for target in ours(path):
        if not target or target == name_of(path):
            continue
        inside = any(target == a or target.startswith(a + "/") for a in allowed)
        assert inside, f"{name_of(path)} must not import {target}"


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith("core")], ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & CORE_NEVER


def test_there_is_no_cycle() -> None:
    graph = {name_of(path): ours(path) - {name_of(path)} for path in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for target in graph[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE, f"{path.name}: split it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            assert size <= LONGEST_FUNCTION, f"{path.name}: {node.name} has {size} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_shell(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert not (isinstance(node.value, ast.Constant) and node.value.value), f"{path}: shell=True"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("system", "popen"), f"{path}: os.{node.attr}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_opens_with_its_theory(path: Path) -> None:
    text = path.read_text()
    if text.count("\n") > 30:
        assert ast.get_docstring(ast.parse(text)), f"{name_of(path)}: what does it promise?"
