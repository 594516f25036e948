"""`python -m dna STEP`: the commands of DNA."""

import sys

from common.experiment.commands import Step, main
from dna.import_official import ImportConfig, import_official
from dna.validate import ValidateConfig, validate

STEPS = {
    "validate": Step(ValidateConfig, validate, "measure the accuracy of a retrained network"),
    "import-official": Step(ImportConfig, import_official, "bring a released checkpoint into our format"),
}
_FIRST = {"validate": "data", "import-official": "source"}


def name_first(step: str, arguments: list[str]) -> list[str]:
    """Arguments in which a bare first one has become the flag that it stands for."""
    if arguments and not arguments[0].startswith("-"):
        return [f"--{_FIRST[step]}", *arguments]
    return arguments


if __name__ == "__main__":
    sys.exit(main("dna", STEPS, aliases=name_first))
