"""Downloads from a server on this machine: once, into the cache, under our own user agent."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock

import pytest
import requests

from common import corpus
from common.corpus import Pair, download, read_corpus
from common.errors import CannotBeginError
from common.settings import DataConfig
from tests.support.foreign_files import zipped

PAIRS = [("Go.", "Va !"), ("Run!", "Cours !")]
PATH = "/anki/fra-eng.zip"


def archive_of(pairs: list[Pair]) -> bytes:
    lines = "".join(f"{source}\t{target}\tCC-BY\n" for source, target in pairs)
    return zipped({"_about.txt": b"About.", "fra.txt": lines.encode()})


class Site(ThreadingHTTPServer):
    """Answers as manythings.org does, or worse."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.files = {PATH: archive_of(PAIRS)}
        self.asked: list[str] = []
        self.breaks_off_after: int | None = None  # bytes


class Visit(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path, b"")
        agent_is_ours = self.headers["User-Agent"].startswith("rosetta-s2s/")
        self.send_response(406 if not agent_is_ours else 200 if content else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.breaks_off_after])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with Site() as server:
        monkeypatch.setattr(corpus, "ANKI_URL", f"http://127.0.0.1:{server.server_port}/anki")
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where downloads go; the folder that the user stands in is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "cache" / "rosetta"


def pairs() -> list[Pair]:
    return list(read_corpus(DataConfig("fra-eng")).pairs)


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*"))


def refused() -> str:
    with pytest.raises(CannotBeginError) as caught:
        download("fra-eng")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_corpus_is_downloaded_again_only_if_the_cache_changed(site: Site, cache: Path) -> None:
    assert [pairs() for _ in range(3)] == [PAIRS] * 3
    assert site.asked == [PATH]
    assert kept(cache) == ["fra-eng.zip", "fra-eng.zip.sha256"]
    assert list(Path.cwd().iterdir()) == []
    download("fra-eng").write_bytes(archive_of([("Changed.", "Changé.")]))
    assert pairs() == PAIRS
    assert len(site.asked) == 2
    Path("fra-eng").write_text("Wow!\tWaouh !\n", encoding="utf-8")
    assert pairs() == [("Wow!", "Waouh !")], "a file of that name comes first"


def test_another_file_on_the_site_is_not_taken_for_the_first_one(site: Site, cache: Path) -> None:
    archive, checksum = download("fra-eng"), cache / "fra-eng.zip.sha256"
    first = checksum.read_bytes()
    site.files[PATH] = archive_of([("Other.", "Autre.")])
    archive.unlink()
    assert f"delete {checksum}" in refused()
    assert kept(cache) == ["fra-eng.zip.sha256"]
    assert checksum.read_bytes() == first
    checksum.unlink()
    assert pairs() == [("Other.", "Autre.")]


FAULTS: dict[str, dict[str, Any]] = {
    "the site has no such pair": {"files": {}},
    "the answer is no zip": {"files": {PATH: b"<html>Please log in</html>"}},  # of a hotel, say
    "the site sends more than 1 MiB": {"files": {PATH: bytes(1 << 22)}},
    "the connection failed (ChunkedEncodingError)": {"breaks_off_after": 100},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_download_says_what_to_do_and_keeps_nothing(
    fault: str, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "LARGEST_ARCHIVE", 1 << 20)
    for name, value in FAULTS[fault].items():
        monkeypatch.setattr(site, name, value)
    assert_not_downloaded(fault, cache)


def test_a_site_that_does_not_answer_is_a_failed_connection(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests.get", Mock(side_effect=requests.ReadTimeout))
    assert_not_downloaded("the connection failed (ReadTimeout)", cache)


def assert_not_downloaded(fault: str, cache: Path) -> None:
    url = f"{corpus.ANKI_URL}/fra-eng.zip"
    by_hand = (
        f"to fetch it by hand, open {url} in a browser, save the file, and give its path: --data "
        "fra-eng.zip"
    )
    assert refused() == f"{url} cannot be downloaded: {fault}; {by_hand}"
    assert kept(cache) == []


def test_a_cache_that_cannot_be_written_is_an_error(site: Site, cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be", encoding="utf-8")
    assert "cannot be written" in refused()
