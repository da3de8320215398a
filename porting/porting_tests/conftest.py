"""Fixtures: one process a framework for the whole session, in which models are recorded."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from porting_tests.support.side import FRAMEWORKS, Side

AT_LENGTH = "ROSETTA_AT_LENGTH" in os.environ  # as `make nightly` sets it

# Each process of `make test` keeps to a core of its own, and so do the frameworks that it starts:
# threads of two frameworks that share cores spin while they wait for one another.
if PROCESS := os.environ.get("PYTEST_XDIST_WORKER"):
    CORES = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {CORES[int(PROCESS.removeprefix("gw")) % len(CORES)]})
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # of the programs that tests start
    os.environ[variable] = "1"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests that start a framework with `starts`, which `make check` leaves out; and leave out
    tests marked `at_length` but by `make nightly`. Tests that need all frameworks run in one
    process of `make test`, and those that need one in another, so that few frameworks start
    twice."""
    if not AT_LENGTH:
        long = [item for item in items if item.get_closest_marker("at_length")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    for item in items:
        if "side_of" in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker("starts")
            if PROCESS:
                item.add_marker(
                    pytest.mark.xdist_group("all" if "started" in item.fixturenames else "one")
                )


@pytest.fixture(scope="session", autouse=True)
def folders_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For temporary files of programs that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        yield


@pytest.fixture(scope="session")
def side_of() -> Iterator[Callable[[str], Side]]:
    """The process of a framework, such as "torch" or "keras:jax",
    in which models are recorded; started once."""
    with ExitStack() as stack:

        @cache
        def started(name: str) -> Side:
            side = Side(name)
            stack.callback(side.end)
            return side

        yield started


@pytest.fixture
def started(side_of: Callable[[str], Side]) -> dict[str, Side]:
    """The processes of torch, Paddle and Keras."""
    return {name: side_of(name) for name in FRAMEWORKS}
