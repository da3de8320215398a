"""Write site/, static pages that work from files: guides, tutorial,
reports, and the files that they lead to.

The pages are as the repository has them: README.md becomes index.html, docs/using.md becomes
docs/using.html. A file of code becomes a page with its text; a folder, a page with the names in it.
A link that leads nowhere is an error.
"""

import re
import shutil
import sys
from html import escape, unescape
from itertools import pairwise
from os.path import normpath, relpath
from pathlib import Path
from urllib.parse import unquote

from benchmarks.report.render import document, parser_of_pages

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
CARRIED = {".html", ".svg", ".png", ".jsonl"}  # endings of files that are carried as they are
# The pages for each goal, which every page leads to.
GOALS = {
    "Rosetta": "README.md",
    "Compare": "docs/benchmark/demo.html",
    "Translate": "docs/using.md#the-trained-run",
    "Learn": "docs/tutorial/index.html",
    "One sentence": "docs/tutorial/sentence.html",
    "Port": "porting/README.md",
}
NAVIGATION = (
    "max-width: 72rem; margin: 0 auto; padding: .75rem 1.5rem; font: .875rem/1.8 system-ui, "
    "sans-serif"
)
LINK = re.compile(r'(<(?:a|img)\b[^>]*? (?:href|src)=")([^"]*)(")')
ELSEWHERE = re.compile(r"[a-z]+:")  # how an address that is not a page of the site begins


def place(source: str) -> str:
    """Where the site has a file or folder of the repository."""
    if source == "README.md":
        return "index.html"
    path = Path(source)
    if path.suffix == ".md":
        return str(path.with_suffix(".html"))
    if path.suffix in CARRIED:
        return source
    return f"{source}/index.html" if (ROOT / source).is_dir() else f"{source}.html"


def page(source: str) -> tuple[str, list[str]]:
    """A file or folder of the repository as the text of a page,
    and what files and folders it leads to."""
    path = ROOT / source
    if path.suffix == ".html":
        text = path.read_text("utf-8")
    elif path.suffix == ".md":
        text = guide(path.read_text("utf-8"))
    else:
        names = (
            sorted(entry.name for entry in path.iterdir() if entry.name != "__pycache__")
            if path.is_dir()
            else []
        )
        shown = "\n".join(names) if names else path.read_text("utf-8")
        text = document(
            "guide", source, f"<h1>{escape(source)}</h1>\n<pre><code>{escape(shown)}</code></pre>"
        )
    links = " · ".join(
        f'<a href="{relpath(goal, Path(source).parent)}">{name}</a>' for name, goal in GOALS.items()
    )
    text = re.sub(r"<body[^>]*>", rf'\g<0>\n<nav style="{NAVIGATION}">{links}</nav>', text, count=1)
    targets: list[str] = []

    def moved(link: re.Match[str]) -> str:
        before, address, after = link.groups()
        if ELSEWHERE.match(address) or address.startswith("#"):
            return link[0]
        target, hash_sign, anchor = unescape(address).partition("#")
        targets.append(normpath(Path(source).parent / unquote(target)))
        there = relpath(place(targets[-1]), Path(place(source)).parent)
        return f"{before}{escape(there + hash_sign + anchor)}{after}"

    return LINK.sub(moved, text), targets


def guide(markdown: str) -> str:
    """A Markdown file as a page, whose headings have the anchors that GitHub gives them."""
    parser = parser_of_pages(html=True)
    tokens = parser.parse(markdown)
    title = ""
    for heading, content in pairwise(tokens):
        if heading.type == "heading_open":
            words = "".join(child.content for child in content.children)
            heading.attrSet("id", re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
            title = title or words
    return document("guide", title, parser.renderer.render(tokens, parser.options, {}))


def build(site: Path) -> None:
    """Write the site anew into a folder."""
    shutil.rmtree(site, ignore_errors=True)
    guides = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]
    waiting = ["README.md", *guides, *(goal.partition("#")[0] for goal in GOALS.values())]
    written = set[str]()
    while waiting:
        source = waiting.pop()
        if (ROOT / place(source)).is_file():  # a report, which is there as Markdown too
            source = place(source)
        # A link that leads nowhere is named in the end.
        if source in written or not (ROOT / source).exists():
            continue
        written.add(source)
        file = site / place(source)
        file.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).suffix in CARRIED - {".html"}:
            shutil.copyfile(ROOT / source, file)
        else:
            text, targets = page(source)
            file.write_text(text, "utf-8")
            waiting += targets


def dead_links(site: Path) -> list[str]:
    """Each link of a page that leads to no file of the site,
    or to an anchor that its page does not have."""
    texts = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    dead = []
    for path, text in texts.items():
        for _, address, _ in LINK.findall(text):
            if not ELSEWHERE.match(address):
                name, _, anchor = unescape(address).partition("#")
                target = Path(normpath(path.parent / name)) if name else path
                if not target.is_file() or (anchor and f' id="{anchor}"' not in texts[target]):
                    dead.append(f"{path.relative_to(site)}: {address}")
    return dead


if __name__ == "__main__":
    build(SITE)
    dead = dead_links(SITE)
    if dead:
        sys.exit("links that lead nowhere:\n" + "\n".join(dead))
    print(f"{SITE / 'index.html'} is written")
