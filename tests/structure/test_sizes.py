import ast

from sources import ROOT, methods, modules, shipped

LONGEST_MODULE = 500
LONGEST_FUNCTION = 60


def test_no_module_is_too_long() -> None:
    assert {str(m.path): n for m in modules() if (n := len(m.text.splitlines())) > LONGEST_MODULE} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{module.at(node)} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {place: length for place, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert [str(m.path) for m in modules() if m.path.stem in ("utils", "misc", "helpers")] == []


def test_every_shipped_module_says_what_it_is() -> None:
    assert [str(m.path) for m in shipped() if not ast.get_docstring(m.tree)] == []


def test_code_and_settings_are_plain_ascii() -> None:
    patterns = ("*.py", "*.sh", "*.yaml", "*.toml")
    folders = [ROOT / name for name in ("bench", "common", "configs", "download", "script", "tests", *methods())]
    files = [path for folder in folders for pattern in patterns for path in folder.rglob(pattern)]
    files += [ROOT / name for name in ("pyproject.toml", "environment.yaml", ".pre-commit-config.yaml", ".ci/run")]
    assert len(files) > 100
    assert [str(path.relative_to(ROOT)) for path in files if not path.read_bytes().isascii()] == []
