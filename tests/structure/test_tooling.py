import os
import re
import tomllib
from typing import Any

import pytest
import yaml
from sources import ROOT, methods

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_conda_and_pip_install_the_same_packages() -> None:
    environment = yaml.safe_load((ROOT / "environment.yaml").read_text())
    *from_conda, from_pip = environment["dependencies"]
    assert environment["name"] == PROJECT["project"]["name"]
    assert from_conda == [f"python{PROJECT['project']['requires-python']}", "pip"]
    assert from_pip == {"pip": [*PROJECT["project"]["dependencies"], "-e ."]}


def test_no_package_has_an_upper_bound() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    requirements = [*PROJECT["project"]["dependencies"], *(name for extra in extras for name in extra)]
    assert [name for name in requirements if re.search(r"<|==|~=|!=", name)] == []


def test_hooks_run_the_commands_of_the_test_script_and_no_other() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    stages = re.findall(r'"\$PY" -m (.*?)(?: \$\{selection.*)?$', (ROOT / "script/test.sh").read_text(), re.MULTILINE)
    assert [hook["entry"] for hook in hooks] == [f"python -m {stage}" for stage in stages]
    assert len(stages) == 4


def test_the_scripts_and_the_build_ask_for_the_same_python() -> None:
    text = (ROOT / "script/common.sh").read_text()
    assert re.findall(r"^OLDEST_PYTHON=(.*)$", text, re.MULTILINE) == [
        PROJECT["project"]["requires-python"].removeprefix(">=")
    ]


def test_every_method_is_built_checked_and_has_its_warnings_as_errors() -> None:
    find = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    for method in methods():
        assert f"{method}*" in find
        assert method in PROJECT["tool"]["mypy"]["files"]
        assert method in PROJECT["tool"]["ruff"]["lint"]["isort"]["known-first-party"]
        assert f"error:::{method}" in PROJECT["tool"]["pytest"]["ini_options"]["filterwarnings"]


@pytest.mark.parametrize("script", [".ci/run", *(f"script/{path.name}" for path in (ROOT / "script").glob("*.sh"))])
def test_scripts_can_be_started(script: str) -> None:
    text = (ROOT / script).read_text()
    if script == "script/common.sh":
        assert text.startswith("# shellcheck shell=bash\n"), "it is sourced, never started"
        return
    assert os.access(ROOT / script, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n")
