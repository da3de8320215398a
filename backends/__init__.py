"""The table of backends, by name: NAME or NAME:VARIANT. A framework is imported only when a backend is opened."""

from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

from common.errors import CannotBeginError

EXAMPLE = "keras:example"  # the official example's own way of training


@dataclass(frozen=True)
class Entry:
    """Where a backend's model file is found, and what it needs to run."""

    file: str  # the module of the model file
    package: str  # the package that must be importable
    extra: str  # the extra of rosetta-s2s that installs this package; empty where it is always there
    title: str = ""  # the name that sentences use of a framework; a variant is called by its name in the table
    colour: str = ""  # a framework's in every chart and page, on light and dark paper; a variant has its framework's
    driver: str = "backends.interface:Backend"  # "module:Class" of what drives the model file
    engine: str = ""  # the framework under which Keras runs, which its process reads in KERAS_BACKEND
    float32_only: str = ""  # why it is compared with the reference in float32 alone; empty where float64 is, too


def _example(engine: str, extra: str, colour: str = "") -> Entry:
    """The official example's program under one of Keras's engines."""
    return Entry(
        "backends.variants.keras_example",
        "keras",
        extra,
        colour=colour,
        driver="backends.variants.keras_example:Example",
        engine=engine,
        float32_only="the example trains in float32",
    )


TF = "tensorflow"

# The colours are Okabe and Ito's, which can be told apart with every common colour blindness; the example's is grey.
TABLE = {
    "numpy": Entry("backends.numpy_model", "numpy", "", "NumPy", "#cc79a7"),
    "keras": Entry("backends.keras_model", "tensorflow", "keras", "Keras", "#d55e00", engine=TF),
    "keras:example": _example(TF, "keras", "#7b818c"),
    "keras:on-jax": _example("jax", "keras,jax"),
    "keras:on-torch": _example("torch", "keras,torch"),
    "torch": Entry("backends.torch_model", "torch", "torch", "PyTorch", "#0072b2"),
    "paddle": Entry("backends.paddle_model", "paddle", "paddle", "Paddle", "#009e73"),
    "jax": Entry("backends.jax_model", "flax", "jax", "JAX", "#e69f00"),
}
ALIASES = {"pytorch": "torch", "tensorflow": "keras", "paddlepaddle": "paddle"}  # what users call a framework
ENGINES = "keras:on-"  # begins the name of Keras under one of its engines
NATIVE = ("keras", "torch", "paddle", "jax")  # the frameworks that have a format of their own
OTHER_COLOUR = "#7c5cff"  # of a framework that has none in the table


def resolved(name: str) -> str:
    """A backend's name in the table, of one that a user typed: torch for PyTorch or pytorch."""
    framework, colon, variant = name.strip().partition(":")
    return ALIASES.get(framework.lower(), framework.lower()) + colon + variant


def find(name: str) -> Entry:
    """Return the entry of an installed backend. Raises CannotBeginError for one that is unknown or missing."""
    require_known(name)
    entry = TABLE[name]
    missing = [package for package in (entry.package, entry.engine or entry.package) if not find_spec(package)]
    if missing:
        raise CannotBeginError(
            f"backend {name} needs {missing[0]}, which is not installed; "
            f'run: pip install -e ".[{entry.extra}]" in the clone of Rosetta'
        )
    return entry


def title_of(name: str) -> str:
    """The name of a backend in sentences: "PyTorch" for torch, and keras:example as it is."""
    return TABLE[name].title or name if name in TABLE else name


def colour_of(name: str) -> str:
    """A backend's colour; a variant without one has its framework's."""
    entries = [TABLE[known] for known in (name, framework_of(name)) if known in TABLE]
    return next((entry.colour for entry in entries if entry.colour), OTHER_COLOUR)


def require_known(name: str) -> None:
    """Raise CannotBeginError for a backend that the table does not have."""
    if name not in TABLE:
        raise CannotBeginError(f"there is no backend {name!r}; choose one of {', '.join(TABLE)}")


def framework_of(name: str) -> str:
    """The part of a name before the colon, such as keras of keras:example; a name without a colon as it is."""
    return name.partition(":")[0]


def runs_example(name: str) -> bool:
    """True if a backend is the official example's program, under any engine."""
    return name == EXAMPLE or name.startswith(ENGINES)


def installed(variants: bool = True) -> list[str]:
    """The backends that can run here, since their packages are installed, with or without those that have a colon."""
    can_run = []
    for name in TABLE if variants else dict.fromkeys(map(framework_of, TABLE)):
        with suppress(CannotBeginError):
            find(name)
            can_run.append(name)
    return can_run


def frameworks() -> list[str]:
    """The installed backends that are compared by default: the frameworks, and the official example."""
    return [name for name in installed() if TABLE[name].extra and name in (framework_of(name), EXAMPLE)]


def of_run(backend: str) -> str:
    """The backend that opens a run by default: the run's, else an installed framework, else NumPy."""
    can_run = installed()
    return next(name for name in [backend, *frameworks(), "numpy"] if name in can_run)


# What belongs to a framework stands in the files that bear its name.


def native_tool(framework: str, verb: str) -> Any:
    """The function that writes a backend's weights and slots into a folder, or reads them from paths, for "write" or
    "read". Raises CannotBeginError where the framework has no format of its own."""
    if framework not in NATIVE:
        raise CannotBeginError(
            f"{framework} has no format of its own; choose one of {', '.join(NATIVE)} (numpy can open any run)"
        )
    return resolve_name(f"backends.native.{framework}:{verb}_{framework}")
