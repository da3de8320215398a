"""Install the browser that the tests need. `make test` does this after its set-up.

apt-get installs it for root and for users of sudo without a password; for others playwright downloads it. If neither
does, the program ends with status 2.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Waits for others that install, and not for a network that is not there.
APT = "env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=0"


def playwright_folder() -> Path:
    """The folder in which playwright keeps the browsers that it has downloaded."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path(cache, "ms-playwright"))


def browser() -> str | None:
    """The path of a browser that starts: of one on the PATH, or else of one that playwright has downloaded."""
    downloaded = sorted(map(str, playwright_folder().glob("chromium-*/chrome-linux*/chrome")), reverse=True)
    paths = [*filter(None, map(shutil.which, BROWSERS)), *downloaded]
    return next((path for path in paths if not failure(path, "--version")), None)


def failure(*command: str) -> str:
    """Run a command. Returns "" if it succeeds, and else a line that says why it failed."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except OSError as error:
        return str(error)
    errors = [line for line in done.stderr.splitlines() if line.startswith("E")]  # "E: ..." or "Error: ..."
    return "" if done.returncode == 0 else [*errors, f"{' '.join(command)} failed"][0]


def install_by_apt() -> str:
    """Install Debian's browser. Returns what went wrong."""
    sudo = "" if os.geteuid() == 0 else "sudo -n "
    if not shutil.which("apt-get"):
        return "there is no apt-get"
    if sudo and failure("sudo", "-n", "true"):
        return "this user is not root and cannot use sudo without a password"
    print("Installing chromium by apt-get for the tests; this takes a minute", flush=True)
    tasks = ["update -qq", "install -qq --yes --no-install-recommends chromium"]
    return "; ".join(dict.fromkeys(filter(None, (failure(*f"{sudo}{APT} {task}".split()) for task in tasks))))


def install_by_playwright() -> str:
    """Download playwright's own browser, and for root the libraries that it needs. Returns what went wrong."""
    print("Downloading playwright's own browser, since there is no other; this takes a minute", flush=True)
    libraries = ["--with-deps"] if os.geteuid() == 0 and shutil.which("apt-get") else []
    wrong = failure(sys.executable, "-m", "playwright", "install", "--no-shell", *libraries, "chromium")
    return wrong or ("" if browser() else "the browser that playwright has downloaded does not start")


def main() -> None:
    """Install the browser if it is missing, and exit with 2 if it is still missing then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    wrong = []
    for install in (install_by_apt, install_by_playwright):
        if browser() is None:
            wrong.append(install())
    if browser() is None:
        by_hand = "as root: apt-get update && apt-get install" if shutil.which("apt-get") else "to install"
        reasons = "; ".join(filter(None, wrong))
        print(f"The tests need chromium. Installing failed: {reasons}.\nTry {by_hand} chromium", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
