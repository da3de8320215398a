"""The table of backends, by name: NAME or NAME:VARIANT.
A framework is imported only when a backend is opened."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

from common.errors import CannotBeginError

EXAMPLE = "keras:example"  # the official example's own way of training
OTHER_COLOUR = "#7c5cff"  # of a framework that has none in the table


@dataclass(frozen=True)
class Entry:
    """All that is to know of a backend without importing its framework."""

    file: str  # the module of the model file
    package: str  # the package that must be importable
    # The extra of rosetta-s2s that installs this package; empty where it is always there.
    extra: str
    driver: str = "backends.interface:Backend"  # "module:Class" of what drives the model file
    # The framework under which Keras runs, which its process reads in KERAS_BACKEND.
    engine: str = ""

    # Names and looks
    # The name that sentences use of a framework; a variant is called by its name in the table.
    title: str = ""
    # A framework's in every chart and page, on light and dark paper; a variant has its framework's.
    colour: str = ""
    aliases: tuple[str, ...] = ()  # other names that users call the framework

    # Abilities
    # Of common.models; the file of a further one is named for it.
    models: tuple[str, ...] = ("lstm",)
    threads: tuple[str, ...] = ()  # the variables that set the framework's number of threads
    # "module:Class" of the group of workers that the backend joins; empty where it trains alone
    group: str = ""
    native: bool = False  # True if the framework has a format of its own for weights
    # Why it is compared with the reference in float32 alone; empty where float64 is, too.
    float32_only: str = ""
    masks_padding: bool = True  # False if padding always counts
    decodes_batches: bool = True  # False if it decodes one sentence after another
    # True if Keras's `fit` trains, on tensors that are made
    # before and without counting the real positions.
    uses_fit: bool = False

    def file_of(self, model: str) -> str:
        """The module of the file of a model that the backend has."""
        return self.file if model == "lstm" else self.file.removesuffix("model") + model


def _example(engine: str, extra: str, colour: str = "") -> Entry:
    """The official example's program under one of Keras's engines."""
    return Entry(
        "backends.variants.keras_example",
        "keras",
        extra,
        driver="backends.variants.keras_example:Example",
        engine=engine,
        colour=colour,
        float32_only="the example trains in float32",
        masks_padding=False,
        decodes_batches=False,
        uses_fit=True,
    )


# The colours are Okabe and Ito's, which can be told apart with every common colour blindness;
# the example's is grey.
TABLE = {
    "numpy": Entry(
        "backends.numpy_model",
        "numpy",
        "",
        title="NumPy",
        colour="#cc79a7",
        models=("lstm", "attention", "transformer"),
        threads=("OPENBLAS_NUM_THREADS",),
    ),
    "keras": Entry(
        "backends.keras_model",
        "tensorflow",
        "keras",
        engine="tensorflow",
        title="Keras",
        colour="#d55e00",
        models=("lstm", "attention", "transformer"),
        aliases=("tensorflow",),
        threads=("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
        group="backends.groups.keras:KerasGroup",
        native=True,
    ),
    "keras:example": _example("tensorflow", "keras", "#7b818c"),
    "keras:on-jax": _example("jax", "keras,jax"),
    "keras:on-torch": _example("torch", "keras,torch"),
    "torch": Entry(
        "backends.torch_model",
        "torch",
        "torch",
        title="PyTorch",
        colour="#0072b2",
        models=("lstm", "attention", "transformer"),
        aliases=("pytorch",),
        threads=("OMP_NUM_THREADS", "MKL_NUM_THREADS"),
        group="backends.groups.torch:TorchGroup",
        native=True,
    ),
    "paddle": Entry(
        "backends.paddle_model",
        "paddle",
        "paddle",
        title="Paddle",
        colour="#009e73",
        models=("lstm", "attention", "transformer"),
        aliases=("paddlepaddle",),
        threads=("OMP_NUM_THREADS", "FLAGS_paddle_num_threads"),  # of loops, and of matrix products
        group="backends.groups.paddle:PaddleGroup",
        native=True,
    ),
    "jax": Entry(
        "backends.jax_model",
        "flax",
        "jax",
        title="JAX",
        colour="#e69f00",
        models=("lstm", "attention", "transformer"),
        threads=("NPROC",),  # of XLA
        native=True,
    ),
}
UNKNOWN = Entry("", "", "")  # in place of a backend that a stranger's measurement names
NATIVE = tuple(name for name, entry in TABLE.items() if entry.native)


def resolved(name: str) -> str:
    """A backend's name in the table, of one that a user typed: torch for PyTorch or pytorch."""
    typed, colon, variant = name.strip().partition(":")
    framework = typed.lower()
    named = (known for known, entry in TABLE.items() if framework in entry.aliases)
    return next(named, framework) + colon + variant


def find(name: str) -> Entry:
    """Return the entry of an installed backend.
    Raises CannotBeginError for one that is unknown or missing."""
    require_known(name)
    entry = TABLE[name]
    missing = [
        package
        for package in (entry.package, entry.engine or entry.package)
        if not find_spec(package)
    ]
    if missing:
        raise CannotBeginError(
            f"backend {name} needs {missing[0]}, which is not installed; "
            f'run: pip install -e ".[{entry.extra}]" in the clone of Rosetta'
        )
    return entry


def require_model(name: str, model: str) -> None:
    """Raise CannotBeginError where a backend has no file of a model."""
    if model not in TABLE[name].models:
        raise CannotBeginError(
            f"{name} has no model {model!r}; choose one of {', '.join(having(TABLE, model))}"
        )


def having(names: Iterable[str], model: str) -> list[str]:
    """The backends of these that have a file of a model."""
    return [name for name in names if model in lookup(name).models]


def lookup(name: str) -> Entry:
    """Return the entry of a backend, installed or not;
    UNKNOWN for a name that the table does not have."""
    return TABLE.get(name, UNKNOWN)


def title_of(name: str) -> str:
    """The name of a backend in sentences: "PyTorch" for torch, and keras:example as it is."""
    return lookup(name).title or name


def colour_of(name: str) -> str:
    """A backend's colour; a variant without one has its framework's."""
    return lookup(name).colour or lookup(framework_of(name)).colour or OTHER_COLOUR


def require_known(name: str) -> None:
    """Raise CannotBeginError for a backend that the table does not have,
    with the one of the nearest name."""
    if name in TABLE:
        return
    known = {
        typed: backend for backend, entry in TABLE.items() for typed in (backend, *entry.aliases)
    }
    nearest = get_close_matches(name, known, n=1)
    hint = f"did you mean {known[nearest[0]]}? " if nearest else ""
    raise CannotBeginError(f"there is no backend {name!r}; {hint}choose one of {', '.join(TABLE)}")


def framework_of(name: str) -> str:
    """The part of a name before the colon, such as keras of keras:example;
    a name without a colon as it is."""
    return name.partition(":")[0]


def engine_of(name: str) -> str:
    """The framework that computes for a backend: under Keras its engine,
    such as tensorflow; else `framework_of`."""
    return lookup(name).engine or framework_of(name)


def installed(variants: bool = True) -> list[str]:
    """The backends that can run here, since their packages are installed,
    with or without those that have a colon."""
    can_run = []
    for name in TABLE if variants else dict.fromkeys(map(framework_of, TABLE)):
        with suppress(CannotBeginError):
            find(name)
            can_run.append(name)
    return can_run


def frameworks() -> list[str]:
    """The installed backends that are compared by default:
    the frameworks, and the official example."""
    return [
        name for name in installed() if TABLE[name].extra and name in (framework_of(name), EXAMPLE)
    ]


def of_run(backend: str) -> str:
    """The backend that opens a run by default: the run's,
    else an installed framework, else NumPy."""
    can_run = installed()
    return next(name for name in [backend, *frameworks(), "numpy"] if name in can_run)


# What belongs to a framework stands in the files that bear its name.


def native_tool(framework: str, verb: str) -> Any:
    """The function that writes a backend's weights and slots into a folder, or reads them from
    paths, for "write" or "read". Raises CannotBeginError where the framework has no format of its
    own."""
    if framework not in NATIVE:
        raise CannotBeginError(
            f"{framework} has no format of its own; choose one of {', '.join(NATIVE)} (numpy can "
            "open any run)"
        )
    return resolve_name(f"backends.native.{framework}:{verb}_{framework}")
