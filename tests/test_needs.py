"""What the tests need is found, else installed, else asked for at once; here by programs made up for these tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import needs

Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes a program onto a PATH with nothing else on it; this user is root, and no host answers."""

    def write(name: str, script: str = "") -> Path:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
        return tmp_path / name

    for name in "XDG_CACHE_HOME", "PLAYWRIGHT_BROWSERS_PATH", "PLAYWRIGHT_DOWNLOAD_HOST", "CXX":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    monkeypatch.setattr(needs, "DOWNLOADS", (tmp_path / "gone").as_uri())
    monkeypatch.setattr(needs.signal, "signal", lambda *_: None)
    write("env", 'exec /usr/bin/env "$@"')
    return write


def apt(program: Program, known: str) -> Path:
    """An apt-get that installs one package; returns the file of its calls."""
    path = program("apt-get")
    calls, installed = path.with_name("calls"), path.with_name(known)
    program("install", f"printf '#!/bin/sh\\n' > {installed}; /bin/chmod 755 {installed}")
    cases = f"*update*) ;; *' {known}') install;; *) echo 'E: no package' >&2; exit 100"
    program("apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {calls}\ncase "$*" in {cases};; esac')
    return calls


def asked(capsys: pytest.CaptureFixture[str]) -> str:
    """What `make test` says as it ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        needs.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_what_is_there_is_used_and_nothing_is_installed(program: Program, capsys) -> None:
    program("chromium", "exit 1")  # such as Ubuntu's, which only says how to install another
    found = program("google-chrome")
    program("g++")
    calls = apt(program, "chromium")
    needs.main()
    assert needs.browser() == str(found)
    assert capsys.readouterr() == ("", "")
    assert not calls.exists()


@pytest.mark.parametrize("user", ["root", "of sudo without a password"])
def test_what_is_missing_is_installed_by_apt(program: Program, monkeypatch, user: str) -> None:
    calls = apt(program, "chromium")
    if user != "root":
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        program("true")
        program("sudo", '[ "$1" = -n ] && shift && exec "$@"')
    program("g++")
    needs.main()
    assert needs.missing() == []
    update, install = calls.read_text().splitlines()
    assert update.startswith("noninteractive ")
    assert update.endswith("update -qq")
    assert install.endswith(" chromium")


def test_without_root_what_is_missing_is_asked_for(program: Program, monkeypatch, capsys) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    calls = apt(program, "chromium")
    program("sudo", "exit 1")
    said = asked(capsys)
    assert "this user is not root and cannot use sudo without a password" in said
    assert "as root: apt-get update && apt-get install chromium g++\n" in said
    assert not calls.exists()
    monkeypatch.setenv("CXX", "clang++-77")
    assert "CXX names the compiler clang++-77, which is not there. Unset CXX" in asked(capsys)


def test_what_apt_lacks_playwright_downloads_after_the_set_up(
    program: Program, tmp_path, monkeypatch, capsys
) -> None:
    apt(program, "g++")
    said = asked(capsys)
    assert "E: no package; " in said
    assert "gone, from where playwright downloads its own, cannot be reached" in said
    assert said.endswith("apt-get install chromium\n"), "g++ is there now"
    monkeypatch.setattr(needs, "DOWNLOADS", (tmp_path / "g++").as_uri())
    needs.main()
    assert "after the set-up" in capsys.readouterr().out
    monkeypatch.setattr(needs, "find_spec", lambda name: name)
    monkeypatch.setattr(needs.sys, "executable", str(program("python", "echo 'Error: a full disk' >&2; exit 1")))
    assert "Error: a full disk" in asked(capsys)
    browser = tmp_path / ".cache/ms-playwright/chromium-7/chrome-linux64/chrome"
    browser.parent.mkdir(parents=True)
    program("python", f"printf '#!/bin/sh\\n' > {browser}; /bin/chmod 755 {browser}")
    needs.main()
    assert needs.browser() == str(browser)
