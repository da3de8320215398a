"""Downloads from a site made up for these tests: once, into the cache, under our own user agent."""

from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import requests
import urllib3

from common import corpus
from common.corpus import Pair, download, read_corpus
from common.errors import CannotBeginError
from common.settings import DataConfig
from tests.support.foreign_files import zipped

PAIRS = [("Go.", "Va !"), ("Run!", "Cours !")]
URL = "https://www.manythings.org/anki/fra-eng.zip"


def archive_of(pairs: list[Pair]) -> bytes:
    lines = "".join(f"{source}\t{target}\tCC-BY\n" for source, target in pairs)
    return zipped({"_about.txt": b"About.", "fra.txt": lines.encode()})


class Site:
    """Answers as manythings.org does, or worse."""

    def __init__(self) -> None:
        self.files = {URL: archive_of(PAIRS)}
        self.asked: list[str] = []
        self.breaks_off_after: int | None = None  # bytes

    def get(self, url: str, headers: dict[str, str], **_: Any) -> requests.Response:
        self.asked.append(url)
        content, answer = self.files.get(url, b""), requests.Response()
        agent_is_ours = headers["User-Agent"].startswith("rosetta-s2s/")
        answer.status_code = 406 if not agent_is_ours else 200 if content else 404
        answer.headers["Content-Length"] = str(len(content))
        body = BytesIO(content[: self.breaks_off_after])
        answer.raw = urllib3.HTTPResponse(body, dict(answer.headers), preload_content=False)
        return answer


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site()
    monkeypatch.setattr("requests.get", lambda *arguments, **options: site.get(*arguments, **options))
    return site


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
    assert site.asked == [URL]
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
    site.files[URL] = archive_of([("Other.", "Autre.")])
    archive.unlink()
    assert f"delete {checksum}" in refused()
    assert kept(cache) == ["fra-eng.zip.sha256"]
    assert checksum.read_bytes() == first
    checksum.unlink()
    assert pairs() == [("Other.", "Autre.")]


FAULTS: dict[str, dict[str, Any]] = {
    "the site has no such pair": {"files": {}},
    "the answer is no zip": {"files": {URL: b"<html>Please log in</html>"}},  # of a hotel, say
    "the site sends more than 1 MiB": {"files": {URL: bytes(1 << 22)}},
    "the connection failed (ChunkedEncodingError)": {"breaks_off_after": 100},
    "the connection failed (ReadTimeout)": {"get": Mock(side_effect=requests.ReadTimeout)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_download_says_what_to_do_and_keeps_nothing(
    fault: str, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "LARGEST_ARCHIVE", 1 << 20)
    for name, value in FAULTS[fault].items():
        monkeypatch.setattr(site, name, value)
    by_hand = f"to fetch it by hand, open {URL} in a browser, save the file, and give its path: --data fra-eng.zip"
    assert refused() == f"{URL} cannot be downloaded: {fault}; {by_hand}"
    assert kept(cache) == []


def test_a_cache_that_cannot_be_written_is_an_error(site: Site, cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be", encoding="utf-8")
    assert "cannot be written" in refused()
