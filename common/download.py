"""Sentence pairs of manythings.org/anki, downloaded once into the user's cache."""

import zipfile
from importlib.metadata import version
from pathlib import Path

from common.errors import CannotBeginError
from common.files import write_atomically

ANKI_URL = "https://www.manythings.org/anki"


def download(name: str) -> Path:
    """The zip of a pair such as "fra-eng". Raises CannotBeginError when it cannot be had.

    The site publishes no checksum, so the one of the first download is kept and verified from then on.
    """
    import pooch
    import requests

    cache = Path(pooch.os_cache("rosetta"))
    archive, checksum = cache / f"{name}.zip", cache / f"{name}.zip.sha256"
    known = checksum.read_text(encoding="utf-8").strip() if checksum.exists() else None
    pooch.get_logger().setLevel("WARNING")
    url = f"{ANKI_URL}/{name}.zip"
    # The site answers 406 to the user agents of Python's libraries.
    headers = {"User-Agent": f"rosetta-s2s/{version('rosetta-s2s')}"}
    bar = _ProgressBar()
    try:
        downloader = pooch.HTTPDownloader(progressbar=bar, headers=headers, timeout=60)
        pooch.retrieve(url, known, fname=archive.name, path=cache, downloader=downloader)
    except requests.RequestException as error:
        raise CannotBeginError(f"{url} cannot be downloaded: {_one_line(error)}") from error
    except ValueError as error:
        raise CannotBeginError(
            f"{url} is not the file that was downloaded first; to accept the new one, delete {checksum}"
        ) from error
    except OSError as error:
        raise CannotBeginError(f"{archive} cannot be written: {error.strerror or error}") from error
    finally:
        bar.close()
    if known is None:
        if not zipfile.is_zipfile(archive):  # a page that asks to log in, for one
            archive.unlink()
            raise CannotBeginError(f"{url} gave something that is not a zip; try again later, or give a file's path")
        write_atomically(checksum, pooch.file_hash(str(archive)) + "\n")
    return archive


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _ProgressBar:
    """A Rich bar under the names that pooch calls."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("downloading", total=None)
        self._progress.start()

    @property
    def total(self) -> float | None:
        return self._progress.tasks[0].total

    @total.setter
    def total(self, size: int) -> None:
        self._progress.update(self._task, total=size or None)

    def update(self, size: int) -> None:
        self._progress.update(self._task, advance=size)

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        self._progress.stop()
