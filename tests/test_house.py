"""The laws of the building: who imports whom, sizes, names, fresh pages."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import plumbob

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "plumbob"
FILES = sorted(SOURCE.rglob("*.py"))
LATE = ("cli/", "verbs/")  # may import our own package inside a function
SHELVES = ("rules", "rewrites", "design", "calibration", "sinks")
FORMATS = ("text", "concise", "json", "markdown", "html", "github")


def place(path):
    return path.relative_to(SOURCE).as_posix()


def module(path):
    parts = ["plumbob", *path.relative_to(SOURCE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Yield (module, inside a function) for each import that runs, ours or not."""

    def walk(node, late):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, late) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{a.name}", late) for a in node.names)
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, late)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def graph():
    """Return {module: the modules of ours that it imports when it is imported}."""
    modules = {module(path) for path in FILES}
    return {
        module(path): {
            name if name in modules else name.rpartition(".")[0]
            for name, late in imports(path)
            if not late and name.startswith("plumbob")
        }
        for path in FILES
    }


def test_no_import_is_part_of_a_circle():
    edges = graph()

    def reached(start):
        seen, todo = set(), list(edges[start])
        while todo:
            if (name := todo.pop()) not in seen:
                seen.add(name)
                todo += edges.get(name, ())
        return seen

    assert not [name for name in edges if name in reached(name)]


@pytest.mark.parametrize("path", FILES, ids=place)
def test_our_own_package_is_imported_at_the_top(path):
    if not place(path).startswith(LATE):
        assert not [n for n, late in imports(path) if late and n.startswith("plumbob")]


@pytest.mark.parametrize("shelf", SHELVES)
def test_neighbours_on_a_shelf_do_not_know_each_other(shelf):
    folders = {module(path) for path in FILES if path.name == "__init__.py"}
    for name, known in graph().items():
        if name.startswith(f"plumbob.{shelf}.") and name not in folders:
            near = {k for k in known if k.startswith(f"plumbob.{shelf}.")}
            assert not near - folders - {"plumbob.mending.certify"}, name


def test_formats_do_not_know_each_other():
    formats = {f"plumbob.report.{name}" for name in FORMATS}
    edges = graph()
    assert not {
        name: edges[name] & formats for name in formats if edges[name] & formats
    }


@pytest.mark.parametrize("path", FILES, ids=place)
def test_rules_reports_and_nouns_do_not_know_torch(path):
    free = ("rules/", "report/", "types/", "rule.py", "judge.py", "settings.py")
    free += ("errors.py", "address.py", "survey/checkpoint.py", "survey/census.py")
    if place(path).startswith(free):
        assert not [name for name, _ in imports(path) if name.startswith("torch")]


@pytest.mark.parametrize(
    "path", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=lambda p: p.name
)
def test_a_file_has_at_most_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_file_is_a_drawer_for_odds_and_ends():
    odds = {"utils", "util", "helpers", "helper", "common", "misc", "base"}
    assert not odds & {path.stem for path in FILES}


def test_public_names_are_sorted_complete_and_there():
    names = [name for name in plumbob.__all__ if name != "design"]
    assert plumbob.__all__ == sorted({*names, "design"})
    assert plumbob.design is sys.modules["plumbob.design"]
    assert set(names) == set(plumbob._HOME)
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert typed == {*names, "design"}
    assert all(getattr(plumbob, name).__name__ == name for name in names)
    assert set(names) <= set(dir(plumbob))
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        plumbob.chekc  # ruff: ignore[useless-expression]


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import plumbob", ("torch", "numpy", "rich", "typer")),
        ("import plumbob.cli", ("torch", "jinja2")),
        ("import plumbob.rules", ("torch",)),
        ("import plumbob.survey.checkpoint", ("torch",)),
    ],
)
def test_what_an_import_does_not_load(code, absent):
    show = f"import sys; {code}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_generated_pages_are_fresh():
    path = ROOT / "scripts" / "rule_docs.py"
    spec = importlib.util.spec_from_file_location("rule_docs", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.stale() == [], "run scripts/rule_docs.py"


def test_the_readme_starts_with_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    install = (
        "python3 -m venv .venv && .venv/bin/python -m pip install -c constraints.txt"
    )
    assert [line for line in lines if line.startswith("python3")] == [
        f'{install} -e ".[demo]" && .venv/bin/plumbob demo',
        f'{install} -e ".[dev]" && .venv/bin/python -m pytest',
    ]
