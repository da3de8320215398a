"""Fixtures: real text, a corpus made ready,
one process a backend and precision for the whole session, a browser."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from backends import TABLE, Entry
from backends.process import shell_settings, translating
from backends.process.parent import PROJECT, BackendProcess, Runtime
from benchmarks.measure.quiet import LOCK_VARIABLE
from benchmarks.parity.cases import QUICK, Size
from common.corpus import Corpus, Material, read_corpus
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.tensors import Batch, model_config
from common.terminal import ENDING
from tests.support import needs
from tests.support.planted import entry_of
from tests.support.sharing import CASE_SETTINGS, Processes, Sharing, SharingCases, shared_processes

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FRAMEWORKS = [name for name, entry in TABLE.items() if entry.extra and ":" not in name]
IN_TUTORIAL = [
    name for name in FRAMEWORKS if Path(PROJECT, "docs", "tutorial", f"{name}_seq2seq.py").exists()
]
LATENT_DIM = 64  # few units, so that tests are quick; parity is compared with the example's 256 too
SETTINGS = TrainConfig(seed=7)
# Names frameworks that need not be installed, separated by commas.
ALLOW_MISSING = "ROSETTA_ALLOW_MISSING"
# As `make nightly` sets it: what holds for all is held for each.
AT_LENGTH = "ROSETTA_AT_LENGTH" in os.environ

# Fixtures that start a framework or a browser.
STARTING = {"processes", "rendered", "browser"}

# In a page: its content's width, and the window's.
OVERFLOW = "[document.documentElement.scrollWidth, innerWidth]"

# Each process of `make test` keeps to a core of its own, and so do the backends that it starts:
# threads of two frameworks that share cores spin while they wait for one another.
if PROCESS := os.environ.get("PYTEST_XDIST_WORKER"):
    CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {CORES[int(PROCESS.removeprefix("gw")) % len(CORES)]})
# Of NumPy, which counted the cores before; more threads than cores wait for one another.
threadpool_limits(1)

StartBackend = Callable[[str, str], Any]  # a BackendProcess, or what is as one to whoever asks it
CasesOf = Callable[..., SharingCases]
Plant = Callable[[str], str]
Open = Callable[..., "Page"]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests that start a framework or a browser,
    and group those of one process of `make test`.

    Tests marked `at_length` are left out but by `make nightly`.
    `make check` leaves out tests marked `starts`. Tests of a group run in one process, so that what
    stays for the whole session is started once. JAX, which compiles for a minute, has a group of
    its own.
    """
    if not AT_LENGTH:
        long = [item for item in items if item.get_closest_marker("at_length")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    for item in items:
        names = STARTING.intersection(item.fixturenames)  # type: ignore[attr-defined]
        if names:
            item.add_marker("starts")
        if names and PROCESS:
            of_jax = "processes" in names and "jax" in item.name
            item.add_marker(pytest.mark.xdist_group("jax" if of_jax else min(names)))


@pytest.fixture(scope="session", autouse=True)
def places_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For what programs that tests start leave, and for what is compiled, which the user has
    perhaps compiled before; and a lock, so that no benchmark elsewhere is waited for."""
    temporary = tmp_path_factory.mktemp("temporary")
    lock = temporary / "lock"
    lock.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setenv(LOCK_VARIABLE, str(lock))
        for name in shell_settings():  # of which a benchmark warns; threadpoolctl sets one, too
            patch.delenv(name)
        # Which XDG_CACHE_HOME would move.
        patch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(needs.playwright_folder()))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """By programs that tests start, which inherit what is ignored:
    SIGINT by a shell's jobs in the background."""
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has NumPy translate in this process, where what its own does is not what is tested."""
    monkeypatch.setattr(
        translating,
        "BackendProcess",
        lambda name, model, settings, _, load: Sharing(name, model, settings, pytest.fail, load),
    )


@pytest.fixture
def session_processes(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has commands use the session's processes of frameworks, in place of new ones."""
    for name in FRAMEWORKS:
        processes(TABLE[name])
    for module in (
        "backends.process.parent",
        "backends.process.translating",
        "benchmarks.parity.cases",
    ):
        monkeypatch.setattr(
            f"{module}.BackendProcess",
            lambda name, model, settings, *_, load=None: Sharing(
                name, model, settings, processes, load
            ),
        )


@cache
def material(dtype: str) -> Material:
    """1,500 pairs of the phrasebook, short and long ones."""
    data = DataConfig(num_samples=100_000, split="grouped")
    pairs = read_corpus(data).pairs
    rows = np.random.default_rng(1).choice(len(pairs), 1500, replace=False)
    return Material.of_corpus(
        Corpus([pairs[row] for row in rows], "ab" * 32), data, SETTINGS.seed, dtype
    )


def model(dtype: str) -> ModelConfig:
    """The model that fits `material`."""
    data = material(dtype)
    return model_config(data.batch, data.decoder_vocabulary, LATENT_DIM, dtype)


def batch_of(num_rows: int, dtype: str) -> Batch:
    """The first rows of `material`."""
    return material(dtype).batch.take(slice(num_rows))


def require_framework(entry: Entry) -> None:
    """Fail a test of a backend whose framework is missing,
    or skip it where ROSETTA_ALLOW_MISSING names it.

    Frameworks have the names of their plain backends: jax is missing for keras:on-jax, too.
    """
    missing = [
        name for name in entry.extra.split(",") if name and not find_spec(TABLE[name].package)
    ]
    names = ",".join(missing)
    if missing and {*missing} <= {*os.environ.get(ALLOW_MISSING, "").split(",")}:
        pytest.skip(f"{names} is not installed, as {ALLOW_MISSING} allows")
    if missing:
        pytest.fail(
            f"{names} is not installed; try: make set-up, or leave its tests out by "
            f"{ALLOW_MISSING}={names}"
        )


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """The process of each framework that backends share; started once,
    where `require_framework` lets it."""
    with shared_processes() as started:

        def of_installed(entry: Entry) -> BackendProcess:
            require_framework(entry)
            return started(entry)

        yield of_installed


@pytest.fixture(scope="session")
def cases_of(processes: Processes) -> Iterator[CasesOf]:
    """Make the cases of parity once for all tests.
    A small model shows what holds of a model of any size."""
    with ExitStack() as stack:

        @cache
        def cases(
            latent_dim: int, padding: str, size: Size, settings: TrainConfig, model: str
        ) -> SharingCases:
            arguments = DataConfig(), settings, latent_dim, size, Runtime(threads=1), padding
            return stack.enter_context(SharingCases(*arguments, model=model, processes=processes))

        def with_defaults(
            latent_dim: int = LATENT_DIM,
            padding: str = "space",
            size: Size = QUICK,
            settings: TrainConfig = CASE_SETTINGS,
            model: str = ModelConfig.model,
        ) -> SharingCases:
            return cases(latent_dim, padding, size, settings, model)

        yield with_defaults


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Enter a mistake of tests/support/planted.py into the table of backends,
    as a variant; gives its name there."""

    def enter(name: str) -> str:
        monkeypatch.setitem(TABLE, name, entry_of(name))
        return name

    return enter


@pytest.fixture(scope="session")
def backend_of(processes: Processes) -> Iterator[StartBackend]:
    """A backend with a model for `material`, on one thread, made once: NumPy's in a process of its
    own, those of a framework in the one that they share."""
    with ExitStack() as stack:

        @cache
        def backend(name: str, dtype: str) -> Any:
            if name == "numpy":
                return stack.enter_context(
                    BackendProcess(name, model(dtype), SETTINGS, Runtime(threads=1))
                )
            return Sharing(name, model(dtype), SETTINGS, processes)

        yield backend


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """A browser; tests that need it are skipped where there is none. `make test` installs it."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs a browser and playwright; try: make needs"
    )
    path = needs.browser()
    if path is None:
        pytest.skip("needs a browser; try: make needs")
    with api.sync_playwright() as playwright:
        # Without a sandbox since tests run as root in a container; the page is our own.
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


def note_wrongs(page: "Page", wrong: list[str], expected: str, asked: tuple[str, ...]) -> None:
    """Note in a list what a page does wrong: errors, dialogs, words on the console but the
    `expected` ones, and requests of other addresses than those that begin so."""
    page.on(
        "console",
        lambda said: re.search(expected, said.text) or wrong.append(f"console: {said.text}"),
    )
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(asked) or wrong.append(request.url))


@pytest.fixture(scope="module")
def opened(browser: "Browser") -> Iterator[Open]:
    """Opens a file offline in a window of this width; what pages did wrong fails in the end."""
    wrong: list[str] = []
    with ExitStack() as stack:

        def open_page(path: Path, width: int) -> "Page":
            context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
            page = stack.enter_context(context).new_page()
            note_wrongs(page, wrong, "^$", ("file:", "blob:", "data:"))
            page.goto(path.as_uri())
            return page

        yield open_page
    assert wrong == []
