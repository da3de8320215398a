"""Who may import whom, and what is never imported before it is needed."""

import ast
import re
import subprocess
import sys
import tomllib
from difflib import SequenceMatcher
from itertools import chain
from pathlib import Path

import pytest

from backends import TABLE
from backends.process.parent import PROJECT
from common.interface import Backend
from common.machine import OTHER_EXTRAS

# The packages that a file of backends/ may import if its name begins with the framework's, such as keras_xla.py.
PACKAGES_OF = {name: {name, entry.package} for name, entry in TABLE.items() if entry.extra and ":" not in name}
FRAMEWORKS = {"jax", *chain(*PACKAGES_OF.values())}  # jax may be installed beside Keras, and no file may import it
HEAVY = FRAMEWORKS | set(
    "scipy altair sacrebleu pooch requests cpuinfo rapidfuzz jinja2 vl_convert flask waitress".split()
)
# A package may import those to its right: tests, rosetta, benchmarks, backends, common. The recorder stands alone.
ORDER = ["tests", "rosetta", "benchmarks", "backends", "common", "rosetta_record"]
# So may the storeys of benchmarks.
STOREYS = ["commands", "comparing", "report", "measure", "compare"]
# The lessons: the plain model in each framework.
LESSONS = {name: PROJECT / "backends" / f"{name}_backend.py" for name in TABLE if ":" not in name}
PREFIX = re.compile(r"\b(torch|paddle|tf|tensorflow|keras|ops|nn|F|layers)\.|(Torch|Paddle|Keras|torch|paddle|keras)")


def sources() -> list[Path]:
    files = [PROJECT / "rosetta.py", PROJECT / "rosetta_record.py"]
    for package in ("benchmarks", "backends", "common"):
        files += sorted((PROJECT / package).rglob("*.py"))
    return files


def imports(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_arrows_run_one_way(path: Path) -> None:
    package = path.relative_to(PROJECT).parts[0].removesuffix(".py")
    allowed = set(ORDER[ORDER.index(package) :])
    if path.name == "__main__.py" and package == "benchmarks":
        allowed.add("rosetta")  # `python -m benchmarks` is `rosetta bench`
    assert imports(path) & set(ORDER) <= allowed


def storeys_imported(path: Path) -> set[str]:
    """The storeys of benchmarks that a file imports from, wherever in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module.split(".")[1] for module in modules if module.startswith("benchmarks.")} & set(STOREYS)


def benchmark_sources() -> list[Path]:
    return [path for path in sources() if path.parts[len(PROJECT.parts)] == "benchmarks"]


@pytest.mark.parametrize("path", benchmark_sources(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_within_the_benchmark_arrows_run_one_way(path: Path) -> None:
    storey = path.relative_to(PROJECT / "benchmarks").parts[0].removesuffix(".py")
    if storey in ("__init__", "__main__"):
        assert not storeys_imported(path)
    else:
        assert storeys_imported(path) <= set(STOREYS[STOREYS.index(storey) :])


def test_the_storeys_are_read_from_the_files() -> None:
    """What the test above would find of a file that breaks it."""
    assert storeys_imported(PROJECT / "benchmarks" / "report" / "results.py") == {"measure", "compare", "report"}
    assert storeys_imported(Path(__file__).with_name("fake_processes.py")) == {"measure"}
    assert {path.parent.name for path in benchmark_sources()} == {"benchmarks", *STOREYS[2:]}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_framework_is_imported_only_in_the_file_that_bears_its_name(path: Path) -> None:
    package = path.relative_to(PROJECT).parts[0]
    expected = PACKAGES_OF.get(path.stem.partition("_")[0], set()) if package == "backends" else set()
    assert imports(path) & FRAMEWORKS <= expected


def test_files_of_others_are_read_where_they_are_not_trusted() -> None:
    """HDF5 may link to any file and a pickle may run anything, so each is opened in one place."""
    readers = {
        "h5py": {"backends/native/keras.py"},
        "pickle": {"backends/native/files.py", "backends/native/paddle.py"},  # the former for its exception
    }
    for package, expected in readers.items():
        importers = {str(path.relative_to(PROJECT)) for path in sources() if package in imports(path)}
        assert importers == expected
    text = "".join(path.read_text(encoding="utf-8") for path in sources())
    assert not re.search(r"paddle\.load\(|pickle\.(loads?|Unpickler)\(|load_model\(|allow_pickle", text)
    loads = re.findall(r"torch\.load\(.*", text)
    assert loads
    assert all("weights_only=True" in load for load in loads)


def test_the_recorder_is_a_file_to_copy() -> None:
    """It needs two small libraries, and no framework even where it works with one."""
    assert imports(PROJECT / "rosetta_record.py") - sys.stdlib_module_names == {"numpy", "safetensors"}


def imported_by(statement: str) -> set[str]:
    """The top-level packages that a process has imported after it."""
    program = f"{statement}\nimport sys; print('|'.join(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(done.stdout.strip().splitlines()[-1].split("|"))


@pytest.mark.parametrize(
    "statement",
    [
        "import common, backends, benchmarks, rosetta",
        "import backends.commands.training, backends.commands.translating",
        "import backends.native.convert, backends.serve.server",
        "import benchmarks.measure.bench, benchmarks.report.results, benchmarks.report.page",
        "import backends.process.in_child, common.run_directory",
        "import rosetta_record",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(statement: str) -> None:
    assert not imported_by(statement) & HEAVY


@pytest.mark.parametrize("command", [[], ["train"], ["bench"]])
def test_help_imports_nothing_heavy_nor_numpy(command: list[str]) -> None:
    program = f"import rosetta, sys; sys.argv = {['rosetta', *command, '--help']}"
    assert not imported_by(f"{program}\ntry: rosetta.main()\nexcept SystemExit: pass") & {*HEAVY, "numpy"}


def public_methods(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    backend = next(c for c in classes if any(isinstance(b, ast.Name) and b.id == "Backend" for b in c.bases))
    return [
        node.name
        for node in backend.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and not any(isinstance(d, ast.Name) and d.id in ("property", "cached_property") for d in node.decorator_list)
    ]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_the_interfaces_methods_in_the_same_order(name: str) -> None:
    expected = [method for method, value in vars(Backend).items() if getattr(value, "__isabstractmethod__", False)]
    assert public_methods(LESSONS[name]) == expected


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_is_the_plain_model(name: str) -> None:
    """Devices, precisions, groups and variants are chosen and wrapped from outside."""
    source = LESSONS[name].read_text(encoding="utf-8")
    assert len(re.findall(r"^from (?:backends|common)\b", source, re.MULTILINE)) <= 8
    assert not re.search(r"\bif\b.*(variant|device|dtype|group)|import .*(group|sharing)", source)


def lines_without_prefixes(path: Path) -> list[str]:
    """The lines of a lesson that are not empty, comments and docstrings too, without the names of frameworks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [PREFIX.sub("", line).strip() for line in lines if line.strip()]


@pytest.mark.parametrize(("other", "least"), [("paddle", 0.7), ("keras", 0.5)])
def test_the_lessons_are_alike_line_by_line(other: str, least: float) -> None:
    torch, another = (lines_without_prefixes(LESSONS[name]) for name in ("torch", other))
    assert SequenceMatcher(None, torch, another, autojunk=False).ratio() >= least


def test_each_extra_of_the_table_installs_its_framework_and_so_does_all() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {entry.extra for entry in TABLE.values() if entry.extra}
    assert project["optional-dependencies"].keys() == extras | OTHER_EXTRAS
    (every,) = project["optional-dependencies"]["all"]
    assert set(re.findall(r"\w+", every.partition("[")[2])) == (extras | OTHER_EXTRAS) - {"all", "dev"}
