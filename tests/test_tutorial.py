"""The tutorial: its scripts held to the referee, its pages to what they are made of, and both seen in a browser."""

import ast
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from backends.process.environment import child_environment
from backends.process.parent import PROJECT
from common.run_directory import BUNDLED_RUN
from docs.tutorial.walk import NUM_STEPS, Referee
from tests.conftest import FRAMEWORKS, OVERFLOW, Open

TUTORIAL = PROJECT / "docs" / "tutorial"
TOLERANCE = 1e-10  # relative, of a loss
BLOCKS = ["Read and encode", "Model", "Load weights", "Loss and step", "Save", "Decode"]
# A trap that a script's comments name, undone.
TRAPS = {
    "constants are not rounded": ("keras", "map(float, np.float32([1e-3, 0.9, 1e-7]))", "1e-3, 0.9, 1e-7"),
    "epsilon is outside the root": ("torch", '(v + group["eps"]).sqrt()', 'v.sqrt() + group["eps"]'),
    "both biases are trained in torch": ("torch", ".requires_grad_(False)", ""),
    "both biases are trained in Paddle": ("paddle", "parameters=trained", "parameters=model.parameters()"),
}
# Of each block's columns: the lines, left and right edge, and the width of the code and of what is seen of it.
COLUMNS = """
[...document.querySelectorAll('.columns')].map(block => [...block.querySelectorAll('.column')].map(column => {
  const box = column.getBoundingClientRect(), code = column.querySelector('pre');
  const lines = [...code.querySelectorAll('.line')].map(line => line.textContent);
  return [lines, box.left, box.right, code.scrollWidth, code.clientWidth];
}))
"""

frameworks = pytest.mark.parametrize("name", FRAMEWORKS)


@dataclass(frozen=True)
class Outcome:
    """What a script prints."""

    losses: list[float]  # of each step
    translations: dict[str, str]  # after the last one


@cache
def expected() -> Outcome:
    """What the referee makes of the same run; the pages show its numbers."""
    referee = Referee()
    losses = referee.train()
    sentences = re.findall(r"^for text in (.*):$", script("torch").read_text(encoding="utf-8"), re.MULTILINE)[0]
    return Outcome(losses, {text: referee.translate(text) for text in ast.literal_eval(sentences)})


def script(name: str) -> Path:
    return TUTORIAL / f"{name}_seq2seq.py"


def outcome(path: Path, out: Path) -> Outcome:
    """Of a script in a process of its own, in float64 on one thread."""
    environment = child_environment("matched", 1, "cpu") | {"PYTHONUTF8": "1"}
    command = [sys.executable, path, BUNDLED_RUN, out, "--dtype", "float64"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert any(out.iterdir()), "nothing was saved"
    losses = re.findall(r"^step \d+: loss (\S+)$", done.stdout, re.MULTILINE)
    translations = dict(line.split(" -> ") for line in done.stdout.splitlines() if " -> " in line)
    assert len(losses) == NUM_STEPS
    return Outcome(list(map(float, losses)), translations)


def furthest(got: Outcome) -> float:
    """The largest difference of two losses, relative."""
    return float(np.abs(np.array(got.losses) / expected().losses - 1).max())


@frameworks
def test_a_script_gives_the_referees_losses_and_translations(name: str, tmp_path: Path) -> None:
    got = outcome(script(name), tmp_path / "out")
    assert furthest(got) <= TOLERANCE
    assert got.translations == expected().translations
    assert len(set(got.translations.values())) == 3


@pytest.mark.parametrize("trap", TRAPS)
def test_what_a_comment_warns_of_would_be_seen(trap: str, tmp_path: Path) -> None:
    name, right, wrong = TRAPS[trap]
    source = script(name).read_text(encoding="utf-8")
    assert source.count(right) == 1
    (tmp_path / "wrong.py").write_text(source.replace(right, wrong), encoding="utf-8")
    assert furthest(outcome(tmp_path / "wrong.py", tmp_path / "out")) > TOLERANCE


@frameworks
def test_a_script_stands_alone_has_the_blocks_and_is_short(name: str) -> None:
    source = script(name).read_text(encoding="utf-8")
    imported = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
    assert set(imported) == {"argparse", "pathlib", "numpy", "safetensors", name}
    titles = [f"# {number}. {title}" for number, title in enumerate(BLOCKS, 1)]
    assert re.findall(r"^# \d.*$", source, re.MULTILINE) == titles
    assert sum(bool(line.strip()) for line in source.splitlines()) <= 105


def test_the_pages_are_what_their_sources_make() -> None:
    command = [sys.executable, TUTORIAL / "render.py", "--check"]
    environment = child_environment("matched", 1, "cpu") | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_block_says_what_differs_and_leads_into_the_register() -> None:
    blocks = tomllib.loads((TUTORIAL / "blocks.toml").read_text(encoding="utf-8"))["block"]
    assert [block["title"] for block in blocks][1:] == BLOCKS
    for block in blocks:
        text = " ".join(block[name] for name in ("differs", *FRAMEWORKS))
        assert "(../deviations.md#" in text, block["title"]


@pytest.mark.parametrize("page", ["index.html", "sentence.html"])
def test_links_lead_somewhere(page: str) -> None:
    text = (TUTORIAL / page).read_text(encoding="utf-8")
    links = re.findall(r'href="(?!https://)([^"]+)"', text)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = TUTORIAL / (path or page)
        there = f"\n## {anchor}\n" if path.endswith(".md") else f' id="{anchor}"'
        assert target.exists(), link
        assert not anchor or there in target.read_text(encoding="utf-8"), link


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("page", ["index.html", "sentence.html"])
def test_nothing_is_wider_than_the_page_and_the_drawings_are_there(opened: Open, page: str, width: int) -> None:
    seen = opened(TUTORIAL / page, width=width)
    content, window = seen.evaluate(OVERFLOW)
    assert content <= window
    drawn = seen.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt.length > 40])")
    assert drawn == ([[900, True]] * 2 if page == "index.html" else [])


@pytest.mark.parametrize("width", [390, 1400])
def test_every_line_of_the_scripts_is_in_its_column(opened: Open, width: int) -> None:
    page = opened(TUTORIAL / "index.html", width=width)
    blocks = page.evaluate(COLUMNS)
    assert len(blocks) == 1 + len(BLOCKS)
    for column, name in enumerate(FRAMEWORKS):
        lines = [line for block in blocks for line in block[column][0] if line]
        source = script(name).read_text(encoding="utf-8").splitlines()
        assert lines == [line for line in source if line and not re.match(r"# \d", line)]
    for block in blocks:
        edges = [edge for _, left, right, _, _ in block for edge in (left, right)]
        assert edges == sorted(edges), "columns are not side by side"
        assert all(code <= seen for _, _, _, code, seen in block), "code is cut off"
        assert edges[1] <= width
        assert (edges[-1] <= width) == (width == 1400), "all three are seen at once only where there is room"
    # On a narrow page the other columns are pushed into view.
    page.locator("#block-4 .columns").evaluate("block => { block.scrollLeft = block.scrollWidth; }")
    box = page.locator("#block-4 .column.paddle").bounding_box()
    page.locator("#block-4 .columns").evaluate("block => { block.scrollLeft = 0; }")
    assert box is not None
    assert 0 <= box["x"] <= box["x"] + box["width"] <= width
