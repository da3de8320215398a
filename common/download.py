"""Sentence pairs of manythings.org/anki, downloaded once into the user's cache."""

import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from common.archives import LARGEST_ARCHIVE
from common.errors import CannotBeginError, why
from common.files import write_atomically
from common.text import PIECE

if TYPE_CHECKING:
    import requests

ANKI_URL = "https://www.manythings.org/anki"


def download(name: str) -> Path:
    """Return the path of the zip of a language pair such as "fra-eng".

    Raises CannotBeginError when the zip cannot be downloaded or kept.

    The site publishes no checksum, so the one of the first download is kept and verified from then on.
    """
    import pooch
    import requests
    from rich.console import Console

    cache = Path(pooch.os_cache("rosetta"))
    archive, checksum = cache / f"{name}.zip", cache / f"{name}.zip.sha256"
    known = checksum.read_text(encoding="utf-8").strip() if checksum.exists() else None
    pooch.get_logger().setLevel("WARNING")
    url = f"{ANKI_URL}/{name}.zip"
    # The site answers 406 to the user agents of Python's libraries.
    headers = {"User-Agent": f"rosetta-s2s/{version('rosetta-s2s')}"}

    by_hand = f"to fetch it by hand, open {url} in a browser, save the file, and give its path: --data {name}.zip"

    def fetch(url: str, file: str, _: object) -> None:
        """Write what the site answers into a file that pooch names."""
        with requests.get(url, headers=headers, timeout=60, stream=True) as answer, open(file, "wb") as written:
            answer.raise_for_status()
            for piece in answer.iter_content(PIECE):
                written.write(piece)
                if written.tell() > LARGEST_ARCHIVE:
                    raise CannotBeginError(
                        f"{url} cannot be downloaded: the site sends more than {LARGEST_ARCHIVE >> 20} MiB; {by_hand}"
                    )

    try:
        with Console(stderr=True).status(f"downloading {url}"):
            pooch.retrieve(url, known, fname=archive.name, path=cache, downloader=fetch)
    except requests.RequestException as error:
        raise CannotBeginError(f"{url} cannot be downloaded: {_in_words(error)}; {by_hand}") from error
    except ValueError as error:
        raise CannotBeginError(
            f"{url} is not the file that was downloaded first; to accept the new one, delete {checksum}"
        ) from error
    except OSError as error:
        raise CannotBeginError(f"{archive} cannot be written: {why(error)}") from error
    if known is None:
        if not zipfile.is_zipfile(archive):  # a page that asks to log in, for one
            archive.unlink()
            raise CannotBeginError(f"{url} cannot be downloaded: the answer is no zip; {by_hand}")
        write_atomically(checksum, pooch.file_hash(str(archive)) + "\n")
    return archive


def _in_words(error: "requests.RequestException") -> str:
    """Why a download failed."""
    from requests import exceptions

    if error.response is not None:
        status = error.response.status_code
        known = {404: "it has no such pair", 406: "it refuses programs"}
        return f"the site answers with status {status}, {known.get(status, error.response.reason)}"
    reasons = {
        exceptions.Timeout: "the site does not answer in time",
        exceptions.ProxyError: "the proxy that the environment names does not answer",
        exceptions.SSLError: "the site's certificate is not accepted",
        exceptions.ChunkedEncodingError: "the connection broke off",
    }
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), "the site cannot be reached")
