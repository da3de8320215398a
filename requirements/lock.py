"""Make dev.lock anew from pyproject.toml.

Arguments go to `uv pip compile`: without any, a version that still fits is kept;
`--upgrade` takes the newest ones.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# dev.lock has all packages but PyTorch, which torch.txt pins,
# and the libraries of its build for CUDA.
DEV, TORCH = HERE / "dev.lock", HERE / "torch.txt"
OF_TORCH = re.compile(r"(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==")


def pins(*locks: Path) -> dict[str, str]:
    """The version of each package in these locks."""
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", "".join(map(read, locks)), re.MULTILINE))


def read(lock: Path) -> str:
    return lock.read_text(encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "whole.lock")
        whole.write_text(read(DEV), encoding="utf-8")  # uv keeps the versions that it finds here
        uv = str(Path(sys.executable).with_name("uv"))
        command = [
            uv,
            "pip",
            "compile",
            "--quiet",
            f"--constraint={TORCH}",
            f"--output-file={whole}",
        ]
        made = subprocess.run(
            [*command, "pyproject.toml", *sys.argv[1:]], cwd=HERE.parent, check=False
        )
        if made.returncode:  # uv has said why
            sys.exit(made.returncode)
        packages = re.split(r"^(?=[a-z])", read(whole), flags=re.MULTILINE)
    locked = [package for package in packages if not OF_TORCH.match(package)]
    DEV.write_text("# Made by `make lock`.\n" + "".join(locked), encoding="utf-8")


if __name__ == "__main__":
    main()
