"""Who may import whom, and what is never imported before it is needed."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from backends import TABLE
from backends.process.parent import PROJECT
from common.machine import OTHER_EXTRAS

# The packages that a file of backends/ may import if its name begins with the framework's,
# such as keras_example.py.
PACKAGES_OF = {
    name: {name, entry.package} for name, entry in TABLE.items() if entry.extra and ":" not in name
}
PACKAGES_OF["jax"] |= {"optax"}
FRAMEWORKS = {*chain(*PACKAGES_OF.values())}
ONNX = {"onnx", "onnxruntime", "onnxscript"}
HEAVY = FRAMEWORKS | ONNX | set("sacrebleu requests jinja2".split())
# Of each folder: a part may import those to its right.
ORDERS = {
    ".": "tests rosetta benchmarks backends common",
    "benchmarks": "__main__ tuning racing commands report measure parity measure_in_child schema",
    "backends": "commands serve native groups variants process profiling interface decoding",
}


def sources() -> list[Path]:
    files = [PROJECT / "rosetta.py"]
    for package in ("benchmarks", "backends", "common"):
        files += sorted((PROJECT / package).rglob("*.py"))
    return files


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


@pytest.mark.parametrize("folder", ORDERS)
def test_arrows_run_one_way(folder: str) -> None:
    order, within = ORDERS[folder].split(), "" if folder == "." else f"{folder.replace('/', '.')}."
    met = set()
    for path in [path for path in sources() if path.is_relative_to(PROJECT / folder)]:
        part = path.relative_to(PROJECT / folder).parts[0].removesuffix(".py")
        imported = packages(path, within) & {*order}
        assert imported <= ({*order[order.index(part) :]} if part in order else set()), path
        met |= imported
    assert len(met) >= 3, "arrows are read from the files"


def test_a_report_imports_nothing_that_measures() -> None:
    files = (PROJECT / "benchmarks" / "report").glob("*.py")
    measuring = {part for path in files for part in packages(path, "benchmarks.measure.")}
    assert measuring == {"measurement", "statistics"}
    assert not imported_by("import benchmarks.report.page, benchmarks.report.race_results") & {
        "psutil",
        "subprocess",
    }


def test_what_runs_in_a_backends_process_is_in_files_of_its_own() -> None:
    for path in sources():
        functions = [
            node.args.args
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        ]
        called = [
            names for names in functions if [name.arg for name in names[:2]] == ["backend", "emit"]
        ]
        assert bool(called) == path.stem.endswith("_in_child"), path
        starting = {"parent", "group", "translating", "side_by_side", "child_process"}
        assert not (called and packages(path, "backends.process.") & starting), path


def test_a_framework_is_imported_only_in_files_of_its_name() -> None:
    for path in sources():
        package = path.relative_to(PROJECT).parts[0]
        expected = (
            PACKAGES_OF.get(path.stem.partition("_")[0], set()) if package == "backends" else set()
        )
        assert packages(path) & FRAMEWORKS <= expected, path


def test_help_of_a_batch_has_the_shape_of_every_field() -> None:
    files = sorted((PROJECT / "backends").glob("*_model.py"))
    assert len(files) == len([name for name in TABLE if ":" not in name])
    for path in files:
        module = ast.parse(path.read_text(encoding="utf-8"))
        (batch,) = (
            node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Batch"
        )
        fields = [node.target.id for node in batch.body if isinstance(node, ast.AnnAssign)]  # type: ignore[union-attr]
        described = re.findall(r"^(\w+) +\(", ast.get_docstring(batch) or "", re.MULTILINE)
        assert described == fields, (
            f"the docstring of Batch in {path.name} has a line `field (shape)` for each field"
        )


def test_keras_runs_one_program_under_its_engines() -> None:
    assert packages(PROJECT / "backends" / "variants" / "keras_example.py") & FRAMEWORKS == {
        "keras"
    }
    engines = {entry.engine for name, entry in TABLE.items() if name.startswith("keras:")}
    assert engines == {"tensorflow", "jax", "torch"}
    assert {
        (entry.file, entry.driver) for name, entry in TABLE.items() if name.startswith("keras:")
    } == {("backends.variants.keras_example", "backends.variants.keras_example:Example")}


# On a socket between both.
OWN_PICKLES = {"backends/process/parent.py", "backends/process/child.py"}


def test_files_of_others_are_read_where_they_are_not_trusted() -> None:
    """HDF5 may link to any file and a pickle may run anything, so each is opened in one place."""
    readers = {
        "h5py": {"backends/native/keras.py"},
        "pickle": {
            "backends/native/paddle.py",
            *OWN_PICKLES,
        },
    }
    for package, expected in readers.items():
        importers = {
            str(path.relative_to(PROJECT)) for path in sources() if package in packages(path)
        }
        assert importers == expected
    readers_of_files = [
        path for path in sources() if str(path.relative_to(PROJECT)) not in OWN_PICKLES
    ]
    text = "".join(path.read_text(encoding="utf-8") for path in readers_of_files)
    # For a user's own files.
    text = re.sub(r'^LOADS\w* = """.*?"""', "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(
        r"paddle\.load\(|pickle\.(loads?|Unpickler)\(|load_model\(|allow_pickle", text
    )
    loads = re.findall(r"torch\.load\(.*", text)
    assert loads
    assert all("weights_only=True" in load for load in loads)


# The files that use the porting tool, which may be missing.
TOOL = {"rosetta_diff", "rosetta_record", "rosetta_turns"}
USERS_OF_TOOL = {"benchmarks/measure/proof.py", "backends/native/torch_onnx.py"}


def test_the_porting_tool_is_used_through_two_files() -> None:
    assert {
        str(path.relative_to(PROJECT)) for path in sources() if packages(path) & TOOL
    } == USERS_OF_TOOL


def imported_by(statement: str, folder: Path = PROJECT) -> set[str]:
    """The top-level packages that a process has imported after it."""
    program = (
        f"{statement}\nimport sys; print('|'.join(sorted({{m.partition('.')[0] for m in "
        f"sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.strip().splitlines()[-1].split("|"))


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    modules = """
        common backends benchmarks rosetta common.run backends.process.train_in_child
        backends.commands.training backends.process.translating backends.native.convert_in_child
        backends.serve.server benchmarks.measure.bench benchmarks.report.results
        benchmarks.report.page
    """
    assert not imported_by(f"import {', '.join(modules.split())}") & HEAVY
    commands = """
import contextlib, rosetta, sys
for command in {}:
    sys.argv = ["rosetta", *command.split()]
    with contextlib.suppress(SystemExit):
        rosetta.main()
"""
    of_help = commands.format(["--help", "train --help", "bench --help"])
    assert not imported_by(of_help) & {*HEAVY, "numpy"}, "help needs no NumPy either"
    of_demo = imported_by(commands.format(["diff"]))
    assert of_demo & {*HEAVY, "numpy"} == {"numpy"}, "the demo needs no framework"


OURS = ("rosetta", "backends", "benchmarks", "common")
MOST_MODULES = 24  # of ours, packages counted, in the process that was started


def test_a_translation_imports_few_modules_and_no_benchmarks() -> None:
    program = """
import atexit, rosetta, sys
atexit.register(lambda: print(*sys.modules, sep="|"))
sys.argv = ["rosetta", "translate", "--backend", "numpy", "Go."]
rosetta.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    modules = {
        name for name in done.stdout.splitlines()[-1].split("|") if name.partition(".")[0] in OURS
    }
    assert not any(name.startswith("benchmarks") for name in modules)
    assert len(modules) <= MOST_MODULES, sorted(modules)


def test_each_extra_and_all_install_the_frameworks() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra for entry in TABLE.values() if entry.extra for extra in entry.extra.split(",")}
    assert project["optional-dependencies"].keys() == extras | OTHER_EXTRAS
    (every,) = project["optional-dependencies"]["all"]
    assert set(re.findall(r"\w+", every.partition("[")[2])) == (extras | OTHER_EXTRAS) - {
        "all",
        "dev",
    }


@pytest.mark.xdist_group("jax")
def test_tests_of_a_group_stay_together(request: pytest.FixtureRequest) -> None:
    """pytest-xdist then adds a test's group to its name,
    as for `--dist loadgroup` of `make test`."""
    is_grouped = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@jax") == is_grouped
