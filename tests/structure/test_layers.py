import ast
from collections.abc import Iterable
from pathlib import Path

from sources import Module, methods, shipped

MAY_IMPORT = {
    "common": set[str](),
    "common.experiment": set[str](),
    "common.data": {"common.experiment"},
    "common.store": {"common.experiment"},
    "common.meta": set[str](),
    "common.spaces": {"common.experiment", "common.graphs"},
    "common.sets": {"common.experiment"},
    "common.graphs": {"common.experiment"},
    "common.kd": {"common.data", "common.experiment", "common.spaces", "common.store"},
    "common.supernet": {"common.data", "common.experiment", "common.kd", "common.spaces", "common.store"},
    "common.features": {"common.data", "common.experiment", "common.kd", "common.store"},
    "common.report": {"common.experiment.files"},
    "download": {"common.data", "common.experiment", "common.spaces", "common.store"},
}
"""Packages of ours that each package may import, itself apart."""
OURS = {"bench", "common", "download", "script", "tests"}


def crossings(module: Module, allowed: Iterable[str]) -> list[str]:
    """Imports of our packages, other than the module's own, that are not allowed."""
    found = []
    for place, target in module.imports():
        ours = target.split(".")[0] in {*OURS, *methods()}
        inside = target == module.package or target.startswith(f"{module.package}.")
        if ours and not inside and not any(target == name or target.startswith(f"{name}.") for name in allowed):
            found.append(f"{place}: {module.package} imports {target}")
    return found


def test_the_layers_below_the_methods_import_downwards_only() -> None:
    below = [module for module in shipped() if module.name.split(".")[0] in ("common", "download")]
    assert {module.package for module in below} <= {*MAY_IMPORT}, "say in MAY_IMPORT what a new package may import"
    assert [line for module in below for line in crossings(module, MAY_IMPORT[module.package])] == []


def test_a_method_imports_common_and_no_other_method() -> None:
    packages = [module for module in shipped() if module.package in methods()]
    assert packages
    assert [line for module in packages for line in crossings(module, ["common"])] == []


def test_only_scripts_benchmarks_and_tests_stand_above_the_methods() -> None:
    above = [module for module in shipped() if module.package in ("bench", "script")]
    assert [line for module in above for line in crossings(module, ["common", "download", *methods()])] == []


def test_a_forbidden_import_is_noticed_wherever_it_stands() -> None:
    text = "def later():\n    from dass import search\n    import common.data.tasks\nfrom common import kd\n"
    for package, wrong in (("common.store", ["dass.search", "common.data.tasks", "common.kd"]), ("dass", [])):
        module = Module(Path(package.replace(".", "/"), "new.py"), text, ast.parse(text))
        found = [line.split()[-1] for line in crossings(module, MAY_IMPORT.get(package, ["common"]))]
        assert sorted(found) == sorted(wrong)
    kd = Module(Path("common/kd/new.py"), text, ast.parse(text))
    assert crossings(kd, MAY_IMPORT["common.kd"]) == ["common/kd/new.py:2: common.kd imports dass.search"]


def test_packages_export_their_names_and_do_nothing_else() -> None:
    for module in shipped():
        if module.path.name != "__init__.py":
            continue
        for node in module.tree.body:
            documents = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            lists = isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]
            assert documents or lists or isinstance(node, ast.Import | ast.ImportFrom), module.at(node)
