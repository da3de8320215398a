"""`python -m wild [PATTERN...]` compares the pairs whose names match,
and says what is not as pairs.py expects.

Results go to in_the_wild.jsonl, in the place of those of the same pairs, and from there to
in_the_wild.md; `--page` writes the page alone.
The exit status is 1 where anything is not as expected.
"""

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from threading import Lock

from wild.compare import PACKAGES, Comparison, ProcessFailedError, Result, find
from wild.page import PAGE, page, read, write
from wild.pairs import MISSES, PAIRS, SHIPPED, Pair

WORKERS = 2
LOCK = Lock()  # of the file of results
COMPARED = (
    "torch torchvision paddlepaddle tensorflow keras keras-hub transformers flax mamba2-jax".split()
)


def compared(pair: Pair, scratch: Path) -> list[Result]:
    """Compare a pair in each of its modes. Folders are kept where a process failed."""
    results = []
    for mode in pair.modes:
        folder = scratch / re.sub(r"\W+", "-", f"{pair.name} {mode}")
        try:
            for result in Comparison(pair, mode, folder).rounds():
                results.append(result)
                print(told(result), flush=True)
        except ProcessFailedError as error:
            results.append(Result(pair.name, mode, [], refused=str(error)))
            print(told(results[-1]), flush=True)
        else:
            shutil.rmtree(folder)
    with LOCK:
        save(results)
    return results


def told(result: Result) -> str:
    mended = f" with {', '.join(result.mended)} mended" if result.mended else ""
    verdict = result.refused or (
        "equal" if result.passed else f"breaks at {result.breaks_at or 'the replay'}"
    )
    shown = f", shows {', '.join(result.seen)}" if result.seen else ""
    return (
        f"{result.pair}, {result.mode}{mended}: {verdict}{shown} ({result.seconds:.0f} s, "
        f"{result.peak} MiB)"
    )


def unexpected(pair: Pair, results: list[Result]) -> Iterator[str]:
    """Yield a line for everything that is not as the table of pairs says."""
    for mode in pair.modes:
        last = [result for result in results if result.mode == mode][-1]
        if not last.passed:
            yield f"{pair.name}, {mode}: not equal in the end"
    for name in {*pair.differences}.difference(*(result.seen for result in results)):
        yield f"{pair.name}: {name} is not shown"
    for result in results:
        for line in (*result.false_places, *result.false_causes, result.refused):
            if line and not any(part in line for part in MISSES):
                yield f"{pair.name}, {result.mode}: {line}"


def save(results: list[Result]) -> None:
    """Put results in the place of those of the same pairs, in in_the_wild.jsonl."""
    saved = read()
    pairs = {result.pair for result in results}
    kept = [result for result in saved.results if result.pair not in pairs]
    write(replace(saved, results=kept + results))


def save_finds() -> None:
    """Save versions, and of each difference its source line and what its script prints."""
    sys.path.insert(1, str(PACKAGES))  # for the versions
    versions = {name: version(name) for name in COMPARED}
    names = dict.fromkeys(name for pair in SHIPPED for name in pair.differences)
    # Takes a minute, in which another run may save its results.
    finds = {name: find(name) for name in names}
    write(replace(read(), versions=versions, finds=finds))


def main() -> None:
    patterns = sys.argv[1:]
    if patterns == ["--page"]:
        PAGE.write_text(page(read()), "utf-8")
        return
    chosen = [
        pair
        for pair in PAIRS
        if not patterns or any(re.search(pattern, pair.name) for pattern in patterns)
    ]
    if not chosen:
        print(
            f"no pair's name matches {' or '.join(patterns)}; such as {PAIRS[0].name!r}",
            file=sys.stderr,
        )
        sys.exit(2)
    start = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="rosetta-wild-"))
    with ThreadPoolExecutor(WORKERS) as pool:
        found = list(pool.map(lambda pair: compared(pair, scratch), chosen))
    wrong = [
        line
        for pair, results in zip(chosen, found, strict=True)
        for line in unexpected(pair, results)
    ]
    if not any(scratch.iterdir()):
        scratch.rmdir()
    save_finds()
    PAGE.write_text(page(read()), "utf-8")
    print(f"{len(chosen)} pairs, {time.monotonic() - start:.0f} s; not as expected: {len(wrong)}")
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
