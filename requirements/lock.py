"""Make dev.lock and torch-cuda.lock anew from pyproject.toml.

Arguments go to `uv pip compile`: without any, a version that still fits is kept; `--upgrade` takes the newest ones.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# dev.lock has all packages but PyTorch, whose CPU build is in torch-cpu.lock. torch-cuda.lock has PyPI's build of the
# same version, with the libraries that only this build needs.
DEV, TORCH_CPU, TORCH_CUDA = (HERE / f"{name}.lock" for name in ("dev", "torch-cpu", "torch-cuda"))
OF_TORCH_CUDA = re.compile(r"(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==")


def pins(*locks: Path) -> dict[str, str]:
    """The version of each package in these locks."""
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", "".join(map(read, locks)), re.MULTILINE))


def read(lock: Path) -> str:
    return lock.read_text(encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "whole.lock")
        whole.write_text(read(DEV) + read(TORCH_CUDA), encoding="utf-8")  # uv keeps the versions that it finds here
        uv = str(Path(sys.executable).with_name("uv"))
        command = [uv, "pip", "compile", "--quiet", "--constraint=-", f"--output-file={whole}", "pyproject.toml"]
        torch = f"torch=={pins(TORCH_CPU)['torch']}"
        subprocess.run([*command, *sys.argv[1:]], input=torch, text=True, cwd=HERE.parent, check=True)
        packages = re.split(r"^(?=[a-z])", read(whole), flags=re.MULTILINE)
    for lock, of_cuda in ((DEV, False), (TORCH_CUDA, True)):
        chosen = [package for package in packages if bool(OF_TORCH_CUDA.match(package)) == of_cuda]
        lock.write_text("# Made by `make lock`.\n" + "".join(chosen), encoding="utf-8")


if __name__ == "__main__":
    main()
