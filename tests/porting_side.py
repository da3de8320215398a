"""One framework's side of the tests of porting, which does in one process what would need many:
`python -m tests.porting_side FRAMEWORK` reads requests, a line of JSON each, and answers each with a line."""

import importlib
import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any


def script(folder: str, arguments: list[str]) -> None:
    """Run a script of the guide as if it were the whole program."""
    os.chdir(folder)
    sys.argv = arguments
    sys.path.insert(0, folder)
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    finally:
        sys.path.remove(folder)


def main(framework: str, replies: int) -> None:
    module = importlib.import_module(f"tests.porting_{framework}")
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        answer = ""
        try:
            module.reset()
            script(**request["script"]) if "script" in request else module.record(**request["record"])
        except Exception:  # whatever a script raises is the tests' to tell
            answer = traceback.format_exc()
        os.write(replies, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    own = os.dup(1)
    os.dup2(2, 1)  # frameworks print where the answers go
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1], own)
