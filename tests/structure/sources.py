"""The repository's own files, for the tests of its structure."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("bench", "common", "download", "script", "tests")
"""Folders with code that are no method."""


def methods() -> list[str]:
    """Packages of methods: every one is a command."""
    return sorted(path.parent.name for path in ROOT.glob("*/__main__.py") if path.parent.name not in FOLDERS)


@dataclass(frozen=True)
class Module:
    """One of our Python files."""

    path: Path
    """Relative to the root."""
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Dotted name, that of the package for an `__init__.py`."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        """`common.data`, `dass`: what the layers are drawn between."""
        parts = self.name.split(".")
        return ".".join(parts[:2] if parts[0] == "common" else parts[:1])

    def at(self, node: ast.AST) -> str:
        """Place of a node, as editors read it."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"

    def imports(self) -> list[tuple[str, str]]:
        """(place, dotted name) of all that is imported anywhere in it, functions included."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(self.at(node), alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self.name.split(".")[: -node.level or None] if node.level else []
                target = ".".join([*base, *([node.module] if node.module else [])])
                # `from common import kd` imports a module, `from common.kd import train` a name of one
                names = [f"{target}.{alias.name}" if is_ours(target, alias) else target for alias in node.names]
                found += [(self.at(node), name) for name in sorted({*names})]
        return found


def is_ours(package: str, alias: ast.alias) -> bool:
    """Whether an imported name is a module of ours."""
    place = ROOT.joinpath(*package.split("."), alias.name)
    return place.is_dir() or place.with_suffix(".py").is_file()


@cache
def modules() -> tuple[Module, ...]:
    """All Python files of the repository."""
    files = sorted(path for folder in (*FOLDERS, *methods()) for path in (ROOT / folder).rglob("*.py"))
    read = [(path.relative_to(ROOT), path.read_text(encoding="utf-8")) for path in files]
    return tuple(Module(path, text, ast.parse(text, filename=str(path))) for path, text in read)


def shipped() -> list[Module]:
    """All but the tests."""
    return [module for module in modules() if module.path.parts[0] != "tests"]
