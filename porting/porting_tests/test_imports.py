"""Imports of the tool, and the files of its wheel."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from porting_tests.support import PORTING

# The distribution's own packages.
OURS = {"rosetta_diff", "rosetta_record", "rosetta_pytest", "rosetta_turns"}
NEEDED = {"numpy", "safetensors", "msgspec", "typer", "rich", "pytest"}
LATE = {"h5py", "onnx", "onnxruntime"}  # within functions alone
FRAMEWORKS = {"torch", "paddle", "tensorflow", "keras", "jax", "flax"}
# Of each folder: a part may import those to its right.
ORDERS = {
    "rosetta_diff": "__main__ commands report diff alone feed carry explain judge pair read "
    "activations arrays helpers",
    "rosetta_diff/pair": "drafts pairing parents ways alignment by_value mapping skipping "
    "arrangement pairs",
    "rosetta_diff/read": "groups side precisions files description frameworks flax keras onnx "
    "paddle torch base rules view",
}


def sources() -> list[Path]:
    return [
        *(PORTING / f"{name}.py" for name in ("rosetta_pytest", "rosetta_turns")),
        *(path for name in OURS for path in sorted((PORTING / name).rglob("*.py"))),
    ]


@cache
def packages(path: Path, within: str = "") -> set[str]:
    """The top-level packages that a file imports, or the parts of a package,
    given with its dot, that it imports."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {
        module.removeprefix(within).partition(".")[0]
        for module in modules
        if module.startswith(within)
    }


def test_the_tool_stands_alone() -> None:
    imported = set().union(*map(packages, sources())) - sys.stdlib_module_names
    assert imported == OURS - {"rosetta_pytest"} | NEEDED | LATE


@pytest.mark.parametrize("folder", ORDERS)
def test_arrows_run_one_way(folder: str) -> None:
    order, within = ORDERS[folder].split(), f"{folder.replace('/', '.')}."
    met = set()
    for path in sorted((PORTING / folder).rglob("*.py")):
        part = path.relative_to(PORTING / folder).parts[0].removesuffix(".py")
        imported = packages(path, within) & {*order}
        assert imported <= ({*order[order.index(part) :]} if part in order else set()), path
        met |= imported
    assert len(met) >= 3, "arrows are read from the files"


REGISTER = set(
    re.findall(
        r"^## (\S+)$", (PORTING.parent / "docs" / "deviations.md").read_text("utf-8"), re.MULTILINE
    )
)
NAMES = re.compile("torch|paddle|keras|tensorflow|flax|optax|jax|onnx", re.IGNORECASE)
# Files beside those that bear a framework's name, and why they name one.
NAMING = {
    "rosetta_record/values.py": "which file knows the objects of a package",
    "rosetta_record/watching.py": "models that come with a framework",
    "rosetta_record/run.py": "what may be recorded",
    "rosetta_record/record.py": "exported models",
    "rosetta_turns.py": "versions that a race shows",
    "rosetta_diff/read/frameworks.py": "the table",
    "rosetta_diff/read/description.py": "what record.json may say",
    "rosetta_diff/carry.py": "the kinds of files that it writes",
    "rosetta_diff/commands.py": "the demo, and the values of --to",
}


def words_in(path: Path) -> Iterator[str]:
    """The identifiers and the texts in a file's code,
    without docstrings and entries of the register."""
    nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
    docstrings = [node.value for node in nodes if isinstance(node, ast.Expr)]
    for node in nodes:
        yield from (
            value
            for name in ("id", "attr", "name", "arg", "module")
            if (value := getattr(node, name, None))
        )
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node not in docstrings
        ):
            yield from {node.value} - REGISTER


def test_one_file_has_all_of_a_framework() -> None:
    naming = {}
    for path in sources():
        words = [
            word for word in words_in(path) if NAMES.search(re.sub(r"\(docs/[^)]*\)", "", word))
        ]
        if words and not NAMES.match(path.stem):
            naming[path.relative_to(PORTING).as_posix()] = words
    assert naming.keys() == NAMING.keys(), naming


def imported_by(statement: str, folder: Path) -> set[str]:
    """The top-level packages that a process has imported after it."""
    program = (
        f"{statement}\nimport sys; print('|'.join(sorted({{m.partition('.')[0] for m in "
        f"sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.strip().splitlines()[-1].split("|"))


def test_the_recorder_is_a_folder_to_copy(tmp_path: Path) -> None:
    """It needs two small libraries, and no framework even where it works with one;
    the file beside it needs none."""
    needed = {"numpy", "safetensors"}
    recorder = sorted((PORTING / "rosetta_record").glob("*.py"))
    assert set().union(*map(packages, recorder)) - sys.stdlib_module_names - LATE == {
        *needed,
        "rosetta_turns",
    }
    shutil.copy(PORTING / "rosetta_turns.py", tmp_path)
    shutil.copytree(PORTING / "rosetta_record", tmp_path / "vendored" / "recorder")
    record = "from vendored.recorder import Record, tap"
    turns = "from vendored.recorder import take_turns"
    for statement, expected in (
        (record, needed),
        (turns, set()),
        ("from rosetta_turns import take_turns", set()),
    ):
        imported = imported_by(statement, tmp_path)
        assert imported & {*needed, *FRAMEWORKS, *LATE, "rosetta_record"} == expected


def test_the_demo_needs_no_framework(tmp_path: Path) -> None:
    demo = (
        "import sys; sys.argv[1:] = []\ntry:\n import rosetta_diff.__main__\nexcept SystemExit: "
        "pass"
    )
    assert imported_by(demo, tmp_path) & {*FRAMEWORKS, *LATE, "numpy"} == {"numpy"}


BUILD = "import sys; from setuptools import setup; setup(script_args=sys.argv[1:])"


def test_the_wheel_holds_the_tool_and_nothing_else(tmp_path: Path) -> None:
    """It is built in a folder of its own: in the clone's,
    files of former builds would come into it."""
    options = [
        "--quiet",
        "build",
        "--build-base",
        tmp_path / "build",
        "bdist_wheel",
        "--dist-dir",
        tmp_path,
    ]
    subprocess.run([sys.executable, "-c", BUILD, *options], cwd=PORTING, check=True)
    (wheel,) = tmp_path.glob("rosetta_diff-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = [
        "git",
        "ls-files",
        "rosetta_diff",
        "rosetta_record",
        "rosetta_pytest.py",
        "rosetta_turns.py",
    ]
    assert names == {
        *subprocess.run(
            listed, cwd=PORTING, capture_output=True, text=True, check=True
        ).stdout.split()
    }
