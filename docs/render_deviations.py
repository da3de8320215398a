"""Write deviations.md from deviations.toml."""

import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REGISTER, PAGE = HERE / "deviations.toml", HERE / "deviations.md"


def render() -> str:
    """The page: a table of all entries, then a section for each of them, in the order of the register."""
    register = tomllib.loads(REGISTER.read_text(encoding="utf-8"))
    entries = register["deviation"]
    lines = ["<!-- Written by render_deviations.py from deviations.toml. -->", "# Deviations", "", register["about"]]
    lines += ["| entry | frameworks | rung |", "| --- | --- | --- |"]
    lines += [f"| [{e['id']}](#{e['id']}) | {', '.join(e['framework'])} | {e['rung']} |" for e in entries]
    for entry in entries:
        lines += ["", f"## {entry['id']}", "", *section(entry)]
    return "\n".join(lines) + "\n"


def section(entry: dict[str, Any]) -> list[str]:
    """The lines of an entry's section, without its heading."""
    versions = zip(entry["framework"], entry["version"], strict=True)
    return [
        entry["what"],
        "",
        f"- **Effect**: {flat(entry['effect'])}",
        f"- **What Rosetta does**: {flat(entry['we'])}",
        f"- **Rung**: {entry['rung']}",
        f"- **Test**: {', '.join(map(linked, entry['test'])) or 'none, since only speed is affected'}",
        f"- **Evidence**: {', '.join(map(evidence, entry['evidence']))}",
        f"- **Versions**: {', '.join(' '.join(pair) for pair in versions)}",
    ]


def flat(text: str) -> str:
    """The text in one line, for an item of a list."""
    return " ".join(text.split())


def linked(test: str) -> str:
    """A link to the file of a test, given as file::function."""
    return f"[`{test}`](../{test.partition('::')[0]})"


def evidence(source: str) -> str:
    """A link to an issue, or the file and symbol of an installed package."""
    if not source.startswith("https://"):
        return f"`{source}`"
    owner, repository, _, number = source.removeprefix("https://github.com/").split("/")
    return f"[{owner}/{repository}#{number}]({source})"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
