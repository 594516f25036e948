"""What the shell scripts ask about datasets: which are there, and where the runs on one of them lie."""

import argparse
import sys
from pathlib import Path

from common.data.open import open_source
from common.data.tasks import task_id
from common.experiment.names import slug
from dass.evaluate import UNSEEN
from metad2a.labels import PUBLISHED
from mfkd.search import PUBLISHED as MFKD_PUBLISHED
from tans.evaluate import UNSEEN as TANS_UNSEEN

SETS = {"dass": UNSEEN, "metad2a": PUBLISHED, "mfkd": MFKD_PUBLISHED, "tans": TANS_UNSEEN}
"""Sets that each method was published with."""


def present(names: tuple[str, ...], data_root: Path | None) -> list[str]:
    """Those of the known sets that are in the data root."""
    found = []
    for name in names:
        try:
            open_source(name, data_root=data_root)
        except FileNotFoundError:
            continue
        except ValueError:  # there but damaged, which the step will say
            pass
        found.append(name)
    return found


def run_folder(method: str, step: str, data: str, data_root: Path | None, space: str = "") -> Path:
    """Folder that a step on a dataset takes when it is given no other."""
    task = task_id(data, data_root=data_root)
    return Path("exp") / method / step / slug(f"{space}-{task}" if space else task)


def main() -> int:
    """Print the answer; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="lookup", help="who asks; errors begin with it")
    parser.add_argument("--data-root", type=Path)
    questions = parser.add_subparsers(dest="question", required=True)
    listing = questions.add_parser("present", help="the sets of a method's publication that are in the data root")
    listing.add_argument("method")
    folder = questions.add_parser("folder", help="run folder of a step on a dataset")
    for name in ("method", "step", "data"):
        folder.add_argument(name)
    folder.add_argument(
        "space", nargs="?", default="", help="of the architectures, where runs on it have folders apart"
    )
    asked = parser.parse_args()
    try:
        if asked.question == "present":
            print(*present(SETS.get(asked.method, ()), asked.data_root))
        else:
            print(run_folder(asked.method, asked.step, asked.data, asked.data_root, asked.space))
    except (OSError, ValueError, RuntimeError) as error:
        print(f"{asked.program}: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
