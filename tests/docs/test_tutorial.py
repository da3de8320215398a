"""The tutorial: its scripts held to the reference, its pages to what they are made of,
and both seen in a browser."""

import re
import runpy
import subprocess
import sys
import tomllib
from itertools import combinations
from pathlib import Path

import pytest

from backends.process import child_environment
from backends.process.parent import PROJECT
from backends.process.tuned import tuned_for_any
from common.run import BUNDLED_RUN
from tests.conftest import AT_LENGTH, IN_TUTORIAL, OVERFLOW, Open

TUTORIAL = PROJECT / "docs" / "tutorial"
TOLERANCE = 1e-10  # relative, of a loss
# Packages that users of a framework import beside it.
BESIDE = {"jax": {"flax", "optax", "orbax"}}
# What the page says of the blocks of the scripts' code,
# of which the first comes before the first title.
BLOCKS = tomllib.loads((TUTORIAL / "blocks.toml").read_text(encoding="utf-8"))["block"]
# The loss of the third step shows what one would usually write; to compile Keras's step would take
# longer than both. At length alone, since each script compiles anew.
QUICKER = [
    ("num_steps = 64, 10", "num_steps = 64, 3"),
    ("model.compile(", "model.compile(run_eagerly=True, "),
]
# Runs scripts one after another in one process,
# since importing a framework takes longer than most of them.
RUN_EACH = """
import runpy, sys
run, out, *scripts = sys.argv[1:]
for script in scripts:
    print("next script")
    sys.argv = [script, run, out, "--dtype", "float64"]
    runpy.run_path(script, run_name="__main__")
"""
# Of each block's columns: whether it is seen, and its lines: text, top, size, size of letters, and
# by how much it is wider than what is seen of it.
COLUMNS = """
[...document.querySelectorAll('.columns')].map(block =>
  [...block.querySelectorAll('.column')].map(column => {
    const lines = [...column.querySelectorAll('.line')].map(line => [
      line.textContent, line.getBoundingClientRect().top, line.offsetWidth, line.offsetHeight,
      parseFloat(getComputedStyle(line).fontSize), line.scrollWidth - line.clientWidth]);
    return [column.checkVisibility({visibilityProperty: true}), lines];
  }))
"""
# Strings of the code that go on in a second line.
BROKEN = """
[...document.querySelectorAll('.column .literal')].filter(text =>
  new Set([...text.getClientRects()].filter(part => part.width).map(part => part.top)).size > 1
).map(text => text.textContent)
"""
# The loss of each step, and the translations after the last one.
Outcome = tuple[list[float], dict[str, str]]


@pytest.fixture(scope="session")
def rendered() -> tuple[dict[str, str], Outcome]:
    """The pages that their sources make, and what the reference made of the run for them,
    as the scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TUTORIAL)
        program = runpy.run_path(str(TUTORIAL / "render.py"))
    walk, *outcome = program["results"]()
    return program["render"](walk, *outcome), tuple(outcome)


def source(name: str) -> str:
    return (TUTORIAL / f"{name}_seq2seq.py").read_text(encoding="utf-8")


def usual(code: str) -> list[str]:
    """The script once for each line that it says one would usually write,
    with this line in its place."""
    scripts = []
    for comment, line in re.findall(r"^(# Usually: (.*)\n)", code, re.MULTILINE):
        before, _, after = code.partition(comment)
        assignment = re.escape(line.partition(" = ")[0]) + " = .*\n"
        after, count = re.subn(assignment, lambda _, line=line: f"{line}\n", after, count=1)
        scripts.append(before + ("" if count else f"{line}\n") + after)
    return scripts


def outcomes(scripts: list[Path], out: Path) -> list[Outcome]:
    """Losses and translations that scripts of one framework print, in float64 on one thread."""
    environment = child_environment(tuned_for_any(1)) | {"PYTHONUTF8": "1"}
    command = [sys.executable, "-c", RUN_EACH, BUNDLED_RUN, out, *scripts]
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    printed_by_script = []
    for printed in done.stdout.split("next script\n")[1:]:
        losses = re.findall(r"^step \d+: loss (\S+)$", printed, re.MULTILINE)
        printed_by_script.append(
            (list(map(float, losses)), dict(re.findall("^(.*) -> (.*)$", printed, re.MULTILINE)))
        )
    return printed_by_script


# JAX and Keras compile in each script. At length alone, as Paddle's.
@pytest.mark.parametrize("name", IN_TUTORIAL if AT_LENGTH else ["torch"])
def test_only_a_script_as_written_gives_the_references_results(
    name: str, tmp_path: Path, rendered: tuple[dict[str, str], Outcome]
) -> None:
    """It stands alone and has the blocks, too."""
    expected, expected_translations = rendered[1]
    imported = set(re.findall(r"^(?:import|from) (\w+)", source(name), re.MULTILINE))
    assert imported - {"numpy"} == {"argparse", "pathlib", "safetensors", name} | BESIDE.get(
        name, set()
    )
    titles = [f"# {number}. {block['title']}" for number, block in enumerate(BLOCKS)]
    assert re.findall(r"^# \d.*$", source(name), re.MULTILINE) == titles[1:]
    training = source(name).partition("# 5. Save")[0]
    for whole, quick in QUICKER:
        training = training.replace(whole, quick)
    wrong = usual(training)
    assert len(wrong) == 2
    scripts = [TUTORIAL / f"{name}_seq2seq.py"]
    for number, text in enumerate(wrong if AT_LENGTH else []):
        scripts.append(tmp_path / f"wrong-{number}.py")
        scripts[-1].write_text(text, encoding="utf-8")
    (losses, translations), *trapped = outcomes(scripts, tmp_path / "out")
    assert any((tmp_path / "out").iterdir()), "nothing was saved"
    assert losses == pytest.approx(expected, rel=TOLERANCE)
    assert len(losses) == 10
    assert translations == expected_translations
    assert len(set(translations.values())) == 3
    for other_losses, _ in trapped:
        assert len(other_losses) == 3
        assert other_losses != pytest.approx(expected[:3], rel=TOLERANCE)


def test_the_pages_are_what_their_sources_make(rendered: tuple[dict[str, str], Outcome]) -> None:
    """Every block says what differs, and leads into the register."""
    for block in BLOCKS:
        assert "(../deviations.md#" in " ".join(
            block[name] for name in ("differs", *IN_TUTORIAL)
        ), block["title"]
    for page, text in rendered[0].items():
        assert (TUTORIAL / page).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("width", [390, 1400])
def test_columns_stand_side_by_side_with_similar_lines_level(opened: Open, width: int) -> None:
    page = opened(TUTORIAL / "index.html", width=width)
    content, window = page.evaluate(OVERFLOW)
    assert content <= window
    blocks, alike = page.evaluate(COLUMNS), 0
    assert len(blocks) == len(BLOCKS)
    for block in blocks:
        assert [seen for seen, _ in block] == [True, *[width == 1400] * 3]
        for _, lines in block:
            assert all(size >= 13 and wider <= 0 for *_, size, wider in lines), (
                "code is small or cut off"
            )
        places = [{text.strip(): top for text, top, *_ in lines if text} for _, lines in block]
        for left, right in combinations(places if width == 1400 else [], 2):
            both = left.keys() & right.keys()
            assert [left[text] for text in both] == [right[text] for text in both]
            alike += len(both)
    assert alike > 100 or width == 390
    assert page.evaluate(BROKEN) == []
    if width == 390:  # a tab shows another column
        assert (
            page.locator(".line.none").evaluate_all(
                "lines => lines.some(line => line.checkVisibility())"
            )
            is False
        )
        page.get_by_role("radio", name="JAX").check()
        seen = [[seen for seen, _ in block] for block in page.evaluate(COLUMNS)]
        assert seen == [[False, False, False, True]] * len(blocks)


def test_code_begins_within_a_screen_and_is_copied(opened: Open) -> None:
    for width, height in ((390, 844), (1400, 900)):
        page = opened(TUTORIAL / "index.html", width=width)
        assert page.locator(".column pre").first.bounding_box()["y"] < height  # type: ignore[index]
    page.evaluate("navigator.clipboard.writeText = text => { window.copied = text }")
    page.locator(".column.torch .copy").nth(1).click()
    copied, code = page.evaluate("window.copied"), source("torch")
    assert copied.count("\n") > 10
    assert [line for line in copied.split("\n") if line not in code.split("\n")] == []


def test_hidden_columns_leave_their_room_to_the_others(opened: Open) -> None:
    page = opened(TUTORIAL / "index.html", width=1400)
    for name in ("PyTorch", "Paddle"):
        page.get_by_role("checkbox", name=name).uncheck()
    for block in page.evaluate(COLUMNS):
        assert [seen for seen, _ in block] == [True, False, False, True]
        keras, jax = (lines for seen, lines in block if seen)
        assert all(width > 600 for _, _, width, *_ in (*keras, *jax))
        heights = [
            left[3] for left, right in zip(keras, jax, strict=True) if not left[0] and not right[0]
        ]
        assert all(height < 13 for height in heights), "a row of hidden columns has a height"
