"""Write the five ports as people first write them,
beside the finished scripts: `python first_tries.py`.

`tagger_keras_first.py` is `tagger_keras.py` without the changes that README.md shows,
and so are the others.
"""

import re
from pathlib import Path

FOLDER = Path(__file__).parent
DIFF = re.compile(r"^```diff\n--- (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def hunks(diff: str) -> list[tuple[str, str]]:
    """The lines before and after each change of a unified diff."""
    parts = [part.splitlines(True) for part in re.split(r"^@@.*\n", diff, flags=re.MULTILINE)[1:]]
    sides = [
        ["".join(line[1:] for line in part if line[0] in (" ", sign)) for sign in "-+"]
        for part in parts
    ]
    return [(before, after) for before, after in sides]


def replaced(script: str, old: str, new: str) -> str:
    """The script with new lines in place of old ones, which it must have once."""
    assert script.count(old) == 1, f"it stands {script.count(old)} times in the script:\n{old}"
    return script.replace(old, new)


if __name__ == "__main__":
    scripts: dict[str, str] = {}
    for name, diff in reversed(DIFF.findall((FOLDER / "README.md").read_text("utf-8"))):
        scripts.setdefault(name, (FOLDER / name.replace("_first", "")).read_text("utf-8"))
        for before, after in reversed(hunks(diff)):
            scripts[name] = replaced(scripts[name], after, before)
    for name, script in scripts.items():
        (FOLDER / name).write_text(script, "utf-8")
