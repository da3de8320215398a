"""Write index.html and sentence.html beside this file.

The code comes from the four scripts, the words from blocks.toml, the drawings from docs/drawings,
the table from porting/lstm_returns.md, the colours from the table of backends, and all numbers from
the NumPy backend in float64 on the run that is bundled.
"""

import re
import tomllib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from columns import level
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape
from numpy.typing import NDArray
from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, String
from walk import Reference, Walk

from backends import colour_of
from common.files import write_atomically

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent
# By the names of their files.
SCRIPTS = {"keras": "Keras", "torch": "PyTorch", "paddle": "Paddle", "jax": "JAX"}
TABLE = "What `return_sequences` and `return_state` mean"
SENTENCE = "I love you!"
VISIBLE = {"\t": "⇥", "\n": "⏎", " ": "␣", "\u202f": "~"}
# Of lines, by the number of columns that have the same one.
KINDS = {1: "own", 2: "some", 3: "some", 4: "all"}
OPTIONS = re.compile(r"^parser = [\s\S]*?^args = .*\n", re.MULTILINE)
COLOURS = {"comment": Comment, "string": String, "keyword": Keyword}


@dataclass(frozen=True)
class Line:
    """A line of a column; all columns of a block have as many."""

    # Of KINDS; "none": only other columns have a line here; "space": an empty line in all of them.
    kind: str
    indent: int = 0  # characters
    html: str = ""  # the code


def results() -> tuple[Walk, list[float], dict[str, str]]:
    """The numbers on the pages: the walk of one sentence,
    and the losses and the translations of the scripts."""
    reference = Reference()
    walk = reference.walk(SENTENCE)
    losses = reference.train()  # after which it decodes as the scripts do
    sentences = re.findall(r"for text in (.*):\n", source("keras"))[0]
    return (
        walk,
        losses,
        {text: reference.translate(text) for text in re.findall(r'"([^"]*)"', sentences)},
    )


def source(name: str) -> str:
    return (HERE / f"{name}_seq2seq.py").read_text(encoding="utf-8")


def render(walk: Walk, losses: list[float], translations: dict[str, str]) -> dict[str, str]:
    """The pages by their files' names."""
    sources = [source(name) for name in SCRIPTS]
    (options,) = {OPTIONS.findall(code)[0] for code in sources}  # the same in all
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        function.__name__: function for function in (markdown, visible, percent, signed, drawing)
    }
    environment.globals["colours"] = {name: colour_of(name) for name in SCRIPTS}
    copy = (HERE / "templates" / "copy.js").read_text(encoding="utf-8")
    index = environment.get_template("index.html").render(
        blocks=blocks([OPTIONS.sub("", code) for code in sources]),
        options=[marked(line) for line in options.splitlines()],
        scripts=SCRIPTS,
        title=TABLE,
        table=table(),
        losses=losses,
        translations=translations,
        copy=Markup(copy),
        copy_sha256="sha256-" + b64encode(sha256(copy.encode()).digest()).decode(),
    )
    sentence = environment.get_template("sentence.html").render(
        walk=walk,
        grid=grid(walk),
        strips={
            "state_h": strip(walk.state_h, walk.state_h),
            # The outputs depend on state_c through its tanh alone.
            "state_c": strip(walk.state_c, np.tanh(walk.state_c)),
        },
    )
    return {"index.html": index, "sentence.html": sentence}


def blocks(sources: list[str]) -> list[dict[str, Any]]:
    """Return the words of blocks.toml on each block,
    and the lines of the block's code in each script."""
    described = tomllib.loads((HERE / "blocks.toml").read_text(encoding="utf-8"))["block"]
    parts = zip(
        *(re.split(r"^# \d\. .*\n", code, flags=re.MULTILINE) for code in sources), strict=True
    )
    for number, (block, codes) in enumerate(zip(described, parts, strict=True)):
        block["number"] = number
        block["code"] = dict(zip(SCRIPTS, zip(*lines(codes), strict=True), strict=True))
    return described


def lines(codes: Sequence[str]) -> Iterator[list[Line]]:
    """Rows with a line of each column."""
    # A line begins with the empty lines before it.
    for number, row in enumerate(level([re.findall(r"\n*.+", code) for code in codes])):
        if number and any(text and text.startswith("\n\n") for text in row):
            yield [Line("space")] * len(row)
        texts = [text and text.strip("\n") for text in row]
        yield [
            Line(KINDS[texts.count(text)], len(text) - len(text.lstrip()), marked(text))
            if text
            else Line("none")
            for text in texts
        ]


def marked(text: str) -> Markup:
    """A line of code with comments, strings and keywords marked,
    which may go on below after an opening bracket.

    A string stays in one line, with what it formats.
    """
    indent, usually, code = re.fullmatch(r"(\s*)(# Usually:)?(.*)", text).groups("")  # type: ignore[union-attr]
    html, within = Markup("<b>{}</b>").format(usually) if usually else Markup(indent), False
    for kind, piece in PythonLexer(stripnl=False, ensurenl=False).get_tokens(code):
        name = next((name for name, of in COLOURS.items() if kind in of), None)
        # It begins there, or it is whole.
        ends = kind is String.Doc or (kind in String and piece == '"')
        if ends and not within:
            html += Markup('<span class="literal">')
        html += Markup('<span class="{}">{}</span>').format(name, piece) if name else escape(piece)
        if ends and (within or kind is String.Doc):
            html += Markup("</span>")
        within ^= ends and kind is not String.Doc
    return Markup(re.sub(r"[(\[](?=[^)\]<]|<span)", r"\g<0><wbr>", str(html)))


def table() -> Markup:
    """The page on what an LSTM returns, without its heading."""
    page = (DOCS.parent / "porting" / "lstm_returns.md").read_text(encoding="utf-8")
    html = MarkdownIt("commonmark").enable("table").render(page.partition("\n\n")[2])
    return Markup(
        html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace(
            "</table>", "</table></div>"
        )
    )


def markdown(text: str) -> Markup:
    """Paragraphs without the first opening and the last closing tag, which the templates have."""
    return Markup(MarkdownIt("commonmark").render(text).removeprefix("<p>").removesuffix("</p>\n"))


def drawing(name: str) -> Markup:
    """An image that is part of the page and keeps its styles to itself,
    described as the drawing describes itself."""
    svg = (DOCS / "drawings" / name).read_text(encoding="utf-8")
    width, height = re.findall(r'^<svg .*? width="(\d+)" height="(\d+)"', svg)[0]
    description = Markup(re.findall(r"<desc .*?>(.*?)</desc>", svg, flags=re.DOTALL)[0]).unescape()
    encoded = b64encode(svg.encode("utf-8")).decode("ascii")
    return Markup(
        '<img src="data:image/svg+xml;base64,{}" width="{}" height="{}" alt="{}">'
    ).format(encoded, width, height, description)


def visible(text: str) -> str:
    """With a sign for each character that is not seen."""
    return "".join(VISIBLE.get(character, character) for character in text)


def signed(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


def percent(probability: float) -> str:
    if probability > 0.99995:
        return "> 99.99\u00a0%"
    return f"{100 * probability:.2f}\u00a0%" if probability >= 0.00005 else "< 0.01\u00a0%"


def grid(walk: Walk) -> Markup:
    """The sentence's one-hot tensor (T_enc, V_enc): a row for each time step,
    a column for each character."""
    cell, left, top = 12, 74, 22
    width, height = cell * len(walk.vocabulary), cell * len(walk.ids)
    parts = [f'<rect class="frame" x="{left}" y="{top}" width="{width}" height="{height}"/>']
    vertical = "".join(
        f"M{left + cell * column} {top}v{height}" for column in range(1, len(walk.vocabulary))
    )
    horizontal = "".join(f"M{left} {top + cell * row}h{width}" for row in range(1, len(walk.ids)))
    parts.append(f'<path class="lines" d="{vertical}{horizontal}"/>')
    for column, character in enumerate(walk.vocabulary):
        x = left + cell * column + cell / 2
        parts.append(
            f'<text class="middle" x="{x:g}" y="{top - 6}">{escape(visible(character))}</text>'
        )
    for row, (character, number) in enumerate(
        zip(walk.sentence.ljust(len(walk.ids)), walk.ids, strict=True)
    ):
        y, kind = top + cell * row, "hot" if row < len(walk.sentence) else "padding"
        parts.append(f'<text class="end" x="{left - 44}" y="{y + 9.5}">{row}</text>')
        parts.append(
            f'<text class="middle" x="{left - 30}" '
            f'y="{y + 9.5}">{escape(visible(character))}</text>'
        )
        parts.append(f'<text class="end" x="{left - 6}" y="{y + 9.5}">{number}</text>')
        parts.append(
            f'<rect class="{kind}" x="{left + cell * number}" y="{y}" width="{cell}" '
            f'height="{cell}"/>'
        )
    return svg(
        "grid",
        left + width + 1,
        top + height + 1,
        parts,
        f"{len(walk.ids)} rows, each with a single one",
    )


def strip(state: NDArray[np.floating], shown: NDArray[np.floating]) -> Markup:
    """A state's numbers, 64 a row, in colours by what is `shown` of them,
    which lies between -1 and 1."""
    cell, columns = 14, 64
    parts = []
    for unit, (value, colour) in enumerate(zip(map(float, state), shown, strict=True)):
        y, x = (cell * place for place in divmod(unit, columns))
        kind = "positive" if value > 0 else "negative"
        parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" '
            f'fill-opacity="{abs(colour):.2f}"><title>unit {unit}: {value:.4f}</title></rect>'
        )
    height = cell * -(-len(state) // columns)
    return svg(
        "strip",
        cell * columns,
        height,
        parts,
        f"{len(state)} numbers from {state.min():.2f} to {state.max():.2f}",
    )


def svg(kind: str, width: float, height: float, parts: list[str], label: str) -> Markup:
    opening = (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">'
    )
    return Markup("\n".join([opening, *parts, "</svg>"]))


if __name__ == "__main__":
    for name, page in render(*results()).items():
        write_atomically(HERE / name, page)
