"""Install the browser that the tests need. `make test` does this after its set-up.

apt-get installs it for root and for users of sudo without a password; for others playwright
downloads it. If neither does, the program ends with status 2.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
IS_ROOT = os.geteuid() == 0
# Waits for others that install, and not for a network that is not there.
APT = f"{'' if IS_ROOT else 'sudo -n '}env DEBIAN_FRONTEND=noninteractive apt-get -qq"
APT += " -o DPkg::Lock::Timeout=300 -o Acquire::Retries=0"
WITH_DEPS = "--with-deps " if IS_ROOT else ""
INSTALL = (  # one after the other, until there is a browser
    f"{APT} update && {APT} install --yes --no-install-recommends chromium",
    f"{sys.executable} -m playwright install --no-shell {WITH_DEPS}chromium",
)


def playwright_folder() -> Path:
    """The folder in which playwright keeps the browsers that it has downloaded."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path(cache, "ms-playwright"))


def starts(path: str) -> bool:
    try:
        return subprocess.run([path, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


def browser() -> str | None:
    """The path of a browser that starts: of one on the PATH,
    or else of one that playwright has downloaded."""
    downloaded = sorted(
        map(str, playwright_folder().glob("chromium-*/chrome-linux*/chrome")), reverse=True
    )
    paths = [*filter(None, map(shutil.which, BROWSERS)), *downloaded]
    return next(filter(starts, paths), None)


def main() -> None:
    """Install the browser if it is missing, and exit with 2 if it is still missing then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for command in INSTALL:
        if browser() is None:
            print(f"Installing chromium for the tests; this takes a minute: {command}", flush=True)
            subprocess.run(command, shell=True)
    if browser() is None:
        print(
            "The tests need chromium. Try as root: apt-get update && apt-get install chromium",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
