import ast
from collections.abc import Callable, Iterator

import pytest
from sources import ROOT, Module, modules, shipped

PICKLES = {"cloudpickle", "cPickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def moves_to_a_fixed_gpu(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"


def pickles(node: ast.AST) -> bool:
    """Uses a pickling library for more than catching its error."""
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in PICKLES
    if isinstance(node, ast.Import):
        return any(alias.asname and alias.name in PICKLES for alias in node.names)
    taken = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PICKLES
    return taken and isinstance(node, ast.Attribute) and node.attr != "UnpicklingError"


def has_keyword(name: str, value: bool) -> Callable[[ast.AST], bool]:
    def found(node: ast.AST) -> bool:
        if not isinstance(node, ast.keyword) or node.arg != name:
            return False
        return not (isinstance(node.value, ast.Constant) and node.value.value is not value)

    return found


def loads_without_the_safe_reader(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != "torch.load":
        return False
    return "weights_only" not in [keyword.arg for keyword in node.keywords]


def catches_everything(node: ast.AST) -> bool:
    return isinstance(node, ast.ExceptHandler) and node.type is None


def runs_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec", "os.system")


def names_the_visible_gpus(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == "CUDA_VISIBLE_DEVICES"


BANNED = {
    ".cuda()": moves_to_a_fixed_gpu,
    "pickle": pickles,
    "allow_pickle=True": has_keyword("allow_pickle", True),
    "weights_only=False": has_keyword("weights_only", False),
    "torch.load without weights_only": loads_without_the_safe_reader,
    "bare except": catches_everything,
    "eval, exec, os.system": runs_text,
    "CUDA_VISIBLE_DEVICES outside the shell scripts": names_the_visible_gpus,
}


def places(module: Module, banned: Callable[[ast.AST], bool]) -> Iterator[str]:
    """Places of what is banned; keywords have one of their own."""
    return (module.at(node) for node in ast.walk(module.tree) if banned(node))


@pytest.mark.parametrize("what", BANNED)
def test_nothing_banned_is_used(what: str) -> None:
    assert [place for module in shipped() for place in places(module, BANNED[what])] == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (".cuda()", "network.to(0).cuda()"),
        ("pickle", "import pickle\npickle.loads(data)"),
        ("pickle", "from pickle import load"),
        ("pickle", "import dill as json"),
        ("allow_pickle=True", "np.load(path, allow_pickle=True)"),
        ("allow_pickle=True", "np.load(path, allow_pickle=trusted)"),
        ("weights_only=False", "torch.load(path, weights_only=False)"),
        ("torch.load without weights_only", "torch.load(path)"),
        ("bare except", "try:\n    pass\nexcept:\n    pass"),
        ("eval, exec, os.system", "eval(text)"),
        ("CUDA_VISIBLE_DEVICES outside the shell scripts", "os.environ['CUDA_VISIBLE_DEVICES'] = '0'"),
    ],
)
def test_what_is_banned_is_noticed(what: str, text: str) -> None:
    assert list(places(Module(modules()[0].path, text, ast.parse(text)), BANNED[what]))


@pytest.mark.parametrize("text", ["torch.cuda.is_available()", "network.eval()", "pickle.UnpicklingError"])
def test_what_is_allowed_passes(text: str) -> None:
    module = Module(modules()[0].path, text, ast.parse(text))
    assert [what for what, banned in BANNED.items() if any(places(module, banned))] == []


def steps() -> set[str]:
    """Modules that a command imports: its steps."""
    commands = [module for module in shipped() if module.path.name == "__main__.py"]
    return {target for module in commands for _, target in module.imports()}


def test_only_commands_print() -> None:
    talkers = {"bench", "download", "script"}
    quiet = [
        module
        for module in shipped()
        if module.package not in talkers and module.name not in {"common.experiment.commands", *steps()}
    ]
    printing = [
        module.at(node)
        for module in quiet
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert printing == []


def test_every_shell_script_stops_at_the_first_failure() -> None:
    scripts = sorted((ROOT / "script").glob("*.sh"))
    assert len(scripts) >= 7
    for script in scripts:
        text = script.read_text()
        strict = "set -euo pipefail" in text or 'source "$(dirname -- "$0")/common.sh"' in text
        assert strict, f"{script} neither sets -euo pipefail nor sources common.sh"
