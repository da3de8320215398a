import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PORTING = Path(__file__).resolve().parents[2]
PORTS = PORTING / "ports"  # the worked ports


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in a folder while the block runs. contextlib has this from Python 3.11 on."""
    former = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(former)
