"""The tutorial: its scripts held to the referee, its pages to what they are made of, and both seen in a browser."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from backends.process.environment import child_environment
from backends.process.parent import PROJECT
from common.run_directory import BUNDLED_RUN
from tests.conftest import FRAMEWORKS, OVERFLOW, Open

TUTORIAL = PROJECT / "docs" / "tutorial"
TOLERANCE = 1e-10  # relative, of a loss
BLOCKS = ["Read and encode", "Model", "Load weights", "Loss and step", "Save", "Decode"]
# Traps that the scripts' comments name: the right code, and the wrong one.
TRAPS = {
    "keras": [("map(float, np.float32([1e-3, 0.9, 1e-7]))", "1e-3, 0.9, 1e-7")],
    "torch": [('(v + group["eps"]).sqrt()', 'v.sqrt() + group["eps"]'), (".requires_grad_(False)", "")],
    "paddle": [("parameters=trained", "parameters=model.parameters()")],
}
# The loss of the third step shows them; to compile Keras's step would take longer than both.
QUICKER = [("num_steps = 64, 10", "num_steps = 64, 3"), ("model.compile(", "model.compile(run_eagerly=True, ")]
# Runs scripts one after another in one process, since importing a framework takes longer than most of them.
RUN_EACH = """
import runpy, sys
run, out, *scripts = sys.argv[1:]
for script in scripts:
    print("next script")
    sys.argv = [script, run, out, "--dtype", "float64"]
    runpy.run_path(script, run_name="__main__")
"""
# Of each block's columns: the lines, left and right edge, and the width of the code and of what is seen of it.
COLUMNS = """
[...document.querySelectorAll('.columns')].map(block => [...block.querySelectorAll('.column')].map(column => {
  const box = column.getBoundingClientRect(), code = column.querySelector('pre');
  const lines = [...code.querySelectorAll('.line')].map(line => line.textContent);
  return [lines, box.left, box.right, code.scrollWidth, code.clientWidth];
}))
"""
Outcome = tuple[list[float], dict[str, str]]  # the loss of each step, and the translations after the last one


@pytest.fixture(scope="session")
def rendered() -> tuple[dict[str, str], Outcome]:
    """The pages that their sources make, and what the referee made of the run for them, as the scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TUTORIAL)
        render = runpy.run_path(str(TUTORIAL / "render.py"))["render"]
    losses, translations = list[float](), dict[str, str]()

    class Heard(render.__globals__["Referee"]):  # type: ignore[misc]
        def train(self) -> list[float]:
            losses.extend(super().train())
            return losses

        def translate(self, sentence: str) -> str:
            return translations.setdefault(sentence, super().translate(sentence))

    render.__globals__["Referee"] = Heard
    return render(), (losses, translations)


def source(name: str) -> str:
    return (TUTORIAL / f"{name}_seq2seq.py").read_text(encoding="utf-8")


def outcomes(scripts: list[Path], out: Path) -> list[Outcome]:
    """What scripts of one framework print, in float64 on one thread."""
    environment = child_environment("matched", 1, "cpu") | {"PYTHONUTF8": "1"}
    command = [sys.executable, "-c", RUN_EACH, BUNDLED_RUN, out, *scripts]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = []
    for printed in done.stdout.split("next script\n")[1:]:
        losses = re.findall(r"^step \d+: loss (\S+)$", printed, re.MULTILINE)
        found.append((list(map(float, losses)), dict(re.findall("^(.*) -> (.*)$", printed, re.MULTILINE))))
    return found


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_script_gives_the_referees_results_and_what_its_comments_warn_of_is_seen(
    name: str, tmp_path: Path, rendered: tuple[dict[str, str], Outcome]
) -> None:
    """It stands alone and has the blocks, too."""
    expected, expected_translations = rendered[1]

    def furthest(losses: list[float]) -> float:
        """The largest relative difference from the referee's losses of the same steps."""
        return float(np.abs(np.array(losses) / expected[: len(losses)] - 1).max())

    assert set(re.findall(r"^(?:import|from) (\w+)", source(name), re.MULTILINE)) == {
        *("argparse", "pathlib", "numpy", "safetensors"),
        name,
    }
    titles = [f"# {number}. {title}" for number, title in enumerate(BLOCKS, 1)]
    assert re.findall(r"^# \d.*$", source(name), re.MULTILINE) == titles
    scripts = [TUTORIAL / f"{name}_seq2seq.py"]
    for number, (right, wrong) in enumerate(TRAPS[name]):
        assert source(name).count(right) == 1
        training = source(name).partition("# 5. Save")[0].replace(right, wrong)
        for whole, quick in QUICKER:
            training = training.replace(whole, quick)
        scripts.append(tmp_path / f"wrong-{number}.py")
        scripts[-1].write_text(training, encoding="utf-8")
    (losses, translations), *trapped = outcomes(scripts, tmp_path / "out")
    assert any((tmp_path / "out").iterdir()), "nothing was saved"
    assert len(losses) == len(expected) == 10
    assert furthest(losses) <= TOLERANCE
    assert translations == expected_translations
    assert len(set(translations.values())) == 3
    assert [len(losses) for losses, _ in trapped] == [3] * len(TRAPS[name])
    assert all(furthest(losses) > TOLERANCE for losses, _ in trapped)


def test_the_pages_are_what_their_sources_make(rendered: tuple[dict[str, str], Outcome]) -> None:
    """Every block says what differs, and leads into the register; and links lead somewhere."""
    blocks = tomllib.loads((TUTORIAL / "blocks.toml").read_text(encoding="utf-8"))["block"]
    assert [block["title"] for block in blocks][1:] == BLOCKS
    for block in blocks:
        assert "(../deviations.md#" in " ".join(block[name] for name in ("differs", *FRAMEWORKS)), block["title"]
    for page, text in rendered[0].items():
        assert (TUTORIAL / page).read_text(encoding="utf-8") == text
        links = re.findall(r'href="(?!https://)([^"]+)"', text)
        assert links
        for link in links:
            path, _, anchor = link.partition("#")
            target = TUTORIAL / (path or page)
            there = f"\n## {anchor}\n" if path.endswith(".md") else f' id="{anchor}"'
            assert target.exists(), link
            assert not anchor or there in target.read_text(encoding="utf-8"), link


@pytest.mark.parametrize("width", [390, 1400])
def test_every_line_of_the_scripts_is_in_its_column_and_nothing_is_wider_than_the_page(
    opened: Open, width: int
) -> None:
    for name, drawings in ("sentence.html", []), ("index.html", [[900, True]] * 2):
        page = opened(TUTORIAL / name, width=width)
        content, window = page.evaluate(OVERFLOW)
        assert content <= window
        drawn = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt.length > 40])")
        assert drawn == drawings
    blocks = page.evaluate(COLUMNS)
    assert len(blocks) == 1 + len(BLOCKS)
    for column, name in enumerate(FRAMEWORKS):
        lines = [line for block in blocks for line in block[column][0] if line]
        assert lines == [line for line in source(name).splitlines() if line and not re.match(r"# \d", line)]
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
