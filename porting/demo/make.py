"""Make the records that `rosetta-diff` without arguments compares:
`python demo/make.py`, with torch and Paddle.

They go into rosetta_diff/demo/: `torch-block`, the port as first tried,
`paddle-block`, and mended, `mended-block`.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
RECORDS = HERE.parent / "rosetta_diff" / "demo"
FIXES = {"(q, k, v)\n": "(q, k, v, is_causal=True)\n", "approximate=True": ""}


def make(folder: Path) -> None:
    """Record both sides in the folder, the port twice with torch's weights:
    as first tried, and as mended."""

    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], cwd=folder, check=True)

    def rosetta(command: str, *words: str) -> None:
        subprocess.run(
            [Path(sys.executable).with_name(f"rosetta-{command}"), *words], cwd=folder, check=True
        )

    for script in ("block_torch.py", "block_paddle.py"):
        shutil.copy(HERE / script, folder)
    port = folder / "block_paddle.py"
    run("block_torch.py", "torch-block")
    run("block_paddle.py", "paddle-block")
    rosetta(
        "carry", "torch-block", "--to", "paddle", "--like", "paddle-block", "-o", "block.pdparams"
    )
    run("block_paddle.py", "paddle-block")
    rosetta("diff", "torch-block", "paddle-block", "--feed", "feed")
    run("block_paddle.py", "paddle-block")
    mended = port.read_text(encoding="utf-8")
    for mistake, fix in FIXES.items():
        assert mistake in mended, mistake
        mended = mended.replace(mistake, fix)
    port.write_text(mended, encoding="utf-8")
    run("block_paddle.py", "mended-block")


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        make(Path(scratch))
        for record in ("torch-block", "paddle-block", "mended-block"):
            shutil.rmtree(RECORDS / record, ignore_errors=True)
            shutil.copytree(Path(scratch) / record, RECORDS / record)
