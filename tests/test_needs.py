"""What the tests need is found, else installed, else asked for at once; here by programs made up for these tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import needs

Program = Callable[..., Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes a program, by default onto a PATH with nothing else on it; this user is root, and nothing is there."""
    for name in "path", "home":
        (tmp_path / name).mkdir()

    def write(name: str, script: str = "", folder: Path = tmp_path / "path") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return folder / name

    for name in "XDG_CACHE_HOME", "PLAYWRIGHT_BROWSERS_PATH", "PLAYWRIGHT_DOWNLOAD_HOST", "CXX":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    monkeypatch.setattr(needs, "DOWNLOADS", (tmp_path / "gone").as_uri())
    monkeypatch.setattr(needs.signal, "signal", lambda *_: None)
    write("env", 'exec /usr/bin/env "$@"')
    return write


def apt(program: Program, *known: str) -> Path:
    """An apt-get that installs the `known` packages; returns the file of its calls."""
    installed = program("apt-get").parent
    calls = installed / "calls"
    program("install", f"printf '#!/bin/sh\\n' > {installed}/$1; /bin/chmod 755 {installed}/$1")
    cases = "".join(f"*' {package}') install {package};; " for package in known)
    refusal = "*) echo 'E: no package' >&2; exit 100"
    program("apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {calls}\ncase "$*" in *update*) ;; {cases}{refusal};; esac')
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
    calls = apt(program)
    needs.main()
    assert needs.browser() == str(found)
    assert capsys.readouterr() == ("", "")
    assert not calls.exists()


@pytest.mark.parametrize("user", ["root", "of sudo without a password"])
def test_what_is_missing_is_installed_by_apt(program: Program, monkeypatch, capsys, user: str) -> None:
    calls = apt(program, "chromium", "g++")
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
    assert "by apt-get" in capsys.readouterr().out


@pytest.mark.parametrize("sudo", [None, "exit 1"])
def test_without_root_a_compiler_is_asked_for(program: Program, monkeypatch, capsys, sudo: str | None) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    calls = apt(program, "chromium", "g++")
    if sudo:
        program("sudo", sudo)
    said = asked(capsys)
    assert "a browser (chromium" in said
    assert "and a C++ compiler (g++)" in said
    assert "this user is not root and cannot use sudo without a password" in said
    assert "as root: apt-get update && apt-get install chromium g++\n" in said
    assert not calls.exists()


def test_what_apt_refuses_and_what_it_lacks_is_said(program: Program, capsys) -> None:
    apt(program, "g++")
    said = asked(capsys)
    assert "E: no package; " in said
    assert "gone, from where playwright downloads its own, cannot be reached" in said
    assert said.endswith("apt-get install chromium\n"), "g++ is there now"


def test_a_compiler_that_the_environment_names_is_not_replaced(program: Program, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CXX", "clang++-77")
    assert "CXX names the compiler clang++-77, which is not there. Unset CXX" in asked(capsys)


def test_playwright_downloads_a_browser_after_the_set_up(program: Program, tmp_path, monkeypatch, capsys) -> None:
    program("g++")
    assert "gone, from where playwright downloads its own, cannot be reached" in asked(capsys), "before the set-up"
    monkeypatch.setattr(needs, "DOWNLOADS", (tmp_path / "path/g++").as_uri())
    needs.main()
    assert "after the set-up" in capsys.readouterr().out

    monkeypatch.setattr(needs, "find_spec", lambda name: name)
    monkeypatch.setattr(needs.sys, "executable", str(program("python", "echo 'Error: a full disk' >&2; exit 1")))
    assert "Installing failed: there is no apt-get; Error: a full disk" in asked(capsys)
    folder = tmp_path / "home/.cache/ms-playwright/chromium-7/chrome-linux64"
    browser = program("chrome", "exit 127", folder)
    program("python")
    assert "the browser that playwright has downloaded does not start" in asked(capsys)
    program(
        "python", f"[ \"$*\" = '-m playwright install --no-shell chromium' ] && printf '#!/bin/sh\\n' > {browser}"
    )
    needs.main()
    assert needs.browser() == str(browser)
