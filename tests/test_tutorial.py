"""The tutorial: its scripts held to the backends, its pages to what they are made of, and both seen in a browser."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from backends.process.environment import child_environment
from backends.process.parent import PROJECT, BackendProcess, Runtime
from benchmarks.compare.in_child import record
from common.config import TrainConfig
from common.decoding import max_decoded_length, text_of, translate
from common.run_directory import BUNDLED_RUN, RunDirectory
from common.tensors import Batch
from common.weights import ModelState
from tests import child
from tests.conftest import FRAMEWORKS, OVERFLOW, Open

DOCS = PROJECT / "docs"
TUTORIAL = DOCS / "tutorial"
BATCH_SIZE, NUM_STEPS = 64, 10
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
# What is fed in each step, and the three best characters with their probabilities.
STEPS = """
[...document.querySelectorAll('.steps tbody tr')].map(row => [
  row.querySelector('.fed').textContent,
  [...row.querySelectorAll('[data-probability]')].map(
    cell => [cell.querySelector('b').textContent, Number(cell.dataset.probability)]),
])
"""
STATE = "id => [...document.querySelectorAll(`#${id} title`)].map(title => title.textContent)"
# The columns of the tensor's ones, from the top.
ONES = """
(() => {
  const left = Number(document.querySelector('.grid .frame').getAttribute('x'));
  return [...document.querySelectorAll('.grid .hot, .grid .padding')]
    .map(one => (one.getAttribute('x') - left) / one.getAttribute('width'));
})()
"""
INVISIBLE = {"⇥": "\t", "⏎": "\n", "␣": " ", "~": "\u202f"}

frameworks = pytest.mark.parametrize("name", FRAMEWORKS)


@dataclass(frozen=True)
class Outcome:
    """What a script prints."""

    losses: list[float]  # of each step
    translations: dict[str, str]  # after the last one


class Bundled:
    """The bundled run in float64, and backends with a process each for it."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.run = RunDirectory.open(BUNDLED_RUN)
        self.encoder_vocabulary, self.decoder_vocabulary = self.run.vocabularies()
        self.corpus = self.batch(self.run.pairs())
        self.outcome = cache(self._outcome)
        self.process = cache(self._process)

    @cached_property
    def state(self) -> ModelState:
        return self.run.read_state("last", "float64")[0]

    def batch(self, pairs: list[tuple[str, str]]) -> Batch:
        return Batch.of_pairs(pairs, self.encoder_vocabulary, self.decoder_vocabulary, "float64")

    def _process(self, name: str) -> BackendProcess:
        model = replace(self.run.model_config, dtype="float64")
        return self.stack.enter_context(BackendProcess(name, model, TrainConfig(), Runtime(threads=1)))

    def _outcome(self, name: str, texts: tuple[str, ...]) -> Outcome:
        """What a script that is right prints of these texts."""
        rows = self.corpus.take(slice(NUM_STEPS * BATCH_SIZE))
        ids, lengths = self.encoder_vocabulary.encode(texts, self.corpus.encoder_ids.shape[1])
        longest = max_decoded_length(self.corpus.decoder_input_ids.shape[1])
        process = self.process(name)
        trained = process.call(child.steps, state=self.state, batch=rows, batch_size=BATCH_SIZE)
        decoded = process.call(translate, encoder_ids=ids, encoder_lengths=lengths, max_length=longest)
        translations = [text_of(row, self.decoder_vocabulary) for row in decoded]
        return Outcome(list(trained.losses), dict(zip(texts, translations, strict=True)))


@pytest.fixture(scope="module")
def bundled() -> Iterator[Bundled]:
    with ExitStack() as stack:
        yield Bundled(stack)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory):
    """What the script of a framework prints of the bundled run."""
    return cache(lambda name: outcome(script(name), BUNDLED_RUN, tmp_path_factory.mktemp(name)))


def script(name: str) -> Path:
    return TUTORIAL / f"{name}_seq2seq.py"


def outcome(path: Path, run: Path, out: Path) -> Outcome:
    """Of a script in a process of its own, in float64 on one thread."""
    environment = child_environment("matched", 1, "cpu") | {"PYTHONUTF8": "1"}
    command = [sys.executable, path, run, out, "--dtype", "float64"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert any(out.iterdir()), "nothing was saved"
    losses = re.findall(r"^step \d+: loss (\S+)$", done.stdout, re.MULTILINE)
    translations = dict(line.split(" -> ") for line in done.stdout.splitlines() if " -> " in line)
    assert (len(losses), len(translations)) == (NUM_STEPS, 3)
    return Outcome(list(map(float, losses)), translations)


def furthest(got: Outcome, expected: Outcome) -> float:
    """The largest difference of two losses, relative."""
    return float(np.abs(np.array(got.losses) / expected.losses - 1).max())


@frameworks
def test_a_script_gives_its_backends_losses_and_translations(name: str, printed, bundled: Bundled) -> None:
    got = printed(name)
    expected = bundled.outcome(name, tuple(got.translations))
    assert furthest(got, expected) <= TOLERANCE
    assert got.translations == expected.translations
    assert len(set(got.translations.values())) == 3


@pytest.mark.parametrize("trap", TRAPS)
def test_what_a_comment_warns_of_would_be_seen(trap: str, printed, bundled: Bundled, tmp_path: Path) -> None:
    name, right, wrong = TRAPS[trap]
    source = script(name).read_text(encoding="utf-8")
    assert source.count(right) == 1
    (tmp_path / "wrong.py").write_text(source.replace(right, wrong), encoding="utf-8")
    got = outcome(tmp_path / "wrong.py", BUNDLED_RUN, tmp_path / "out")
    assert furthest(got, bundled.outcome(name, tuple(printed(name).translations))) > TOLERANCE


@frameworks
def test_a_script_imports_nothing_of_ours(name: str) -> None:
    tree = ast.parse(script(name).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"argparse", "pathlib", "numpy", "safetensors", name}
    assert {module.partition(".")[0] for module in imported} == allowed


@frameworks
def test_a_script_has_the_blocks_and_is_short(name: str) -> None:
    lines = script(name).read_text(encoding="utf-8").splitlines()
    titles = [f"# {number}. {title}" for number, title in enumerate(BLOCKS, 1)]
    assert [line for line in lines if re.match(r"# \d", line)] == titles
    assert sum(bool(line.strip()) for line in lines) <= 105


def check(tutorial: Path) -> str:
    """What the pages' generator complains of."""
    command = [sys.executable, tutorial / "render.py", "--check"]
    environment = child_environment("matched", 1, "cpu") | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == bool(done.stderr), done.stderr
    return done.stderr


def test_the_pages_are_what_their_sources_make() -> None:
    assert check(TUTORIAL) == ""


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("docs/lstm_returns.md", "the caller keeps what it needs", "the caller keeps all"),
        ("docs/tutorial/torch_seq2seq.py", "optimizer.zero_grad()", "model.zero_grad()"),
    ],
)
def test_a_page_that_is_out_of_date_is_told(path: str, right: str, wrong: str, tmp_path: Path) -> None:
    for part in ("tutorial", "drawings"):
        shutil.copytree(DOCS / part, tmp_path / "docs" / part)
    shutil.copy(DOCS / "lstm_returns.md", tmp_path / "docs")
    text = (tmp_path / path).read_text(encoding="utf-8")
    assert right in text
    (tmp_path / path).write_text(text.replace(right, wrong), encoding="utf-8")
    assert "index.html is not what its sources make" in check(tmp_path / "docs" / "tutorial")


def test_every_block_says_what_differs_and_leads_into_the_register() -> None:
    blocks = tomllib.loads((TUTORIAL / "blocks.toml").read_text(encoding="utf-8"))["block"]
    assert [block["title"] for block in blocks][1:] == BLOCKS
    for block in blocks:
        text = " ".join(block[name] for name in ("differs", *FRAMEWORKS))
        assert "(../deviations.md#" in text, block["title"]


@pytest.mark.parametrize("page", ["index.html", "sentence.html"])
def test_links_lead_somewhere(page: str) -> None:
    text = (TUTORIAL / page).read_text(encoding="utf-8")
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    links = re.findall(r'href="([^"]+)"', text)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (TUTORIAL / path).resolve() if path else TUTORIAL / page
        assert target.exists(), link
        if path.endswith(".md") and anchor:
            assert f"\n## {anchor}\n" in target.read_text(encoding="utf-8"), link
        elif anchor:
            assert anchor in ids, link


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("page", ["index.html", "sentence.html"])
def test_nothing_is_wider_than_the_page_and_the_drawings_are_there(
    opened: Open, page: str, width: int, scheme: str
) -> None:
    seen = opened(TUTORIAL / page, width=width, scheme=scheme)
    content, window = seen.evaluate(OVERFLOW)
    assert content <= window
    drawn = seen.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt.length > 40])")
    assert drawn == ([[900, True]] * 2 if page == "index.html" else [])


@pytest.mark.parametrize("width", [390, 1400])
def test_every_line_of_the_scripts_is_in_its_column(opened: Open, width: int) -> None:
    blocks = opened(TUTORIAL / "index.html", width=width).evaluate(COLUMNS)
    assert len(blocks) == 1 + len(BLOCKS)
    for column, name in enumerate(FRAMEWORKS):
        shown = [line for block in blocks for line in block[column][0] if line]
        source = script(name).read_text(encoding="utf-8").splitlines()
        assert shown == [line for line in source if line and not re.match(r"# \d", line)]
    for block in blocks:
        edges = [edge for _, left, right, _, _ in block for edge in (left, right)]
        assert edges == sorted(edges), "columns are not side by side"
        assert all(code <= seen for _, _, _, code, seen in block), "code is cut off"
        assert edges[1] <= width
        assert (edges[-1] <= width) == (width == 1400), (
            "all three are seen at once where there is room, and only there"
        )


def test_on_a_narrow_page_the_other_columns_are_pushed_into_view(opened: Open) -> None:
    page = opened(TUTORIAL / "index.html", width=390)
    columns = page.locator("#block-4 .columns")
    columns.evaluate("block => { block.scrollLeft = block.scrollWidth; }")
    box = page.locator("#block-4 .column.paddle").bounding_box()
    columns.evaluate("block => { block.scrollLeft = 0; }")
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390


def test_the_table_of_the_readme_is_there_and_so_are_the_scripts_losses(opened: Open, printed) -> None:
    page = opened(TUTORIAL / "index.html")
    rows = page.locator(".returns table").first.locator("tbody tr")
    cells = [rows.nth(row).locator("td").all_inner_texts() for row in range(rows.count())]
    assert [row[:2] for row in cells] == [["False", "False"], ["True", "False"], ["False", "True"], ["True", "True"]]
    got = printed("torch")
    figures = page.locator(".prints td").all_inner_texts()
    steps, losses = figures[: 2 * NUM_STEPS : 2], figures[1 : 2 * NUM_STEPS : 2]
    assert steps == [str(step + 1) for step in range(NUM_STEPS)]
    assert list(map(float, losses)) == pytest.approx(got.losses, abs=1e-8)
    pairs = figures[2 * NUM_STEPS :]
    assert dict(zip(pairs[::2], pairs[1::2], strict=True)) == got.translations


def plain(text: str) -> str:
    return "".join(INVISIBLE.get(character, character) for character in text)


def states(page: Page, name: str) -> list[float]:
    titles = [re.fullmatch(r"unit (\d+): (\S+)", title) for title in page.evaluate(STATE, name)]
    assert [int(title[1]) for title in titles] == list(range(len(titles)))
    return [float(title[2]) for title in titles]


@frameworks
def test_the_numbers_of_the_sentence_are_every_frameworks(opened: Open, bundled: Bundled, name: str) -> None:
    page = opened(TUTORIAL / "sentence.html")
    sentence, decoded = "Look at the skirt!", page.locator("p.result").text_content()
    ids, _ = bundled.encoder_vocabulary.encode([sentence], bundled.corpus.encoder_ids.shape[1])
    assert [int(number) for number in page.locator(".characters small").all_inner_texts()] == ids[0].tolist()
    shown = plain("".join(page.locator(".characters b").all_inner_texts()))
    assert shown == sentence.ljust(len(ids[0]))
    assert page.evaluate(ONES) == ids[0].tolist()

    batch = replace(bundled.batch([(sentence, decoded)]), encoder_ids=ids)
    asked = {"rung": "forward", "state": bundled.state, "corpus": batch, "rows": np.arange(1), "batch_size": 1}
    expected = bundled.process(name).call(record, **asked)
    for state in ("state_h", "state_c"):
        assert states(page, state) == pytest.approx(expected[state][0].tolist(), abs=1e-4)
    steps = page.evaluate(STEPS)
    assert plain("".join(fed for fed, _ in steps)) == "\t" + decoded
    assert plain("".join(best[0][0] for _, best in steps)) == decoded + "\n"
    for (_, best), probabilities in zip(steps, expected["probabilities"][0], strict=False):
        three = np.argsort(-probabilities)[:3]
        assert [plain(character) for character, _ in best] == [
            bundled.decoder_vocabulary.characters[i] for i in three
        ]
        assert [probability for _, probability in best] == pytest.approx(probabilities[three].tolist(), rel=1e-5)
