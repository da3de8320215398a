"""in_the_wild.md as a function of in_the_wild.jsonl, which a run of all pairs writes."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill, shorten

from wild.compare import Place, Result
from wild.pairs import DIFFERENCES, MISSES, PAIRS, SHIPPED, Difference, Pair

WILD = Path(__file__).resolve().parent
WIDTH = 118  # characters of a line of prose
NOTHING = "none"
SAVED, PAGE = WILD / "in_the_wild.jsonl", WILD / "in_the_wild.md"

ABOUT = """\
<!-- Written by `make wild`. -->
# In the wild

Models that other projects ship under one name in two frameworks, compared as
[the guide](../guide.md) says: recorded, carried, replayed, and mended difference by difference
until both compute the same. Weights are random, from fixed seeds; sizes are small. All is on the
CPU, and in float64 but for mamba2-jax, which computes in float32.
This folder has the programs. Its table [`pairs.py`](pairs.py) says what is expected.
`make wild` runs all of it and writes this page from [`in_the_wild.jsonl`](in_the_wild.jsonl).
"""


WRITTEN = """\
## What a user wrote

A side is a program that makes the model, says what its loss is, and records it:
[torchvision](torchvision_side.py), [paddle.vision](paddle_side.py),
[keras.applications](applications_side.py), [transformers](transformers_side.py),
[keras-hub](keras_hub_side.py) and [mamba2-jax](mamba2_jax_side.py). `MENDS` of each are
the changes to models as they are shipped, and `PLANTS` the mistakes of ours. torchvision's comes
down to

```python
def loss_of(model, batch):
    logits = model(torch.from_numpy(batch["images"]))
    return F.cross_entropy(logits, torch.from_numpy(batch["labels"])), {"logits": logits}


def optimizer(weights):
    return torch.optim.SGD(weights, RATE, MOMENTUM)


Record(folder).training(model, batches, loss_of, optimizer, STEPS)
```
"""


LEFT_OUT = """\
Inception v3 of torchvision and `keras.applications` is not in the table. `carry` pairs layers of
one kind and shape in the order in which they ran. A functional model of Keras runs its layers by
their depth, so that 165 such guesses have mistakes, which a mapping file of 94 convolutions and
their norms would have to mend.
"""


@dataclass(frozen=True)
class Saved:
    """The results of a run of all pairs, with versions."""

    versions: dict[str, str]
    results: list[Result]
    # By the name of a difference: its source line, and what its script prints.
    finds: dict[str, dict[str, str]]

    def of(self, pair: Pair) -> list[Result]:
        return [result for result in self.results if result.pair == pair.name]


def write(saved: Saved) -> None:
    """Write in_the_wild.jsonl in the order of the table of pairs."""
    finds = ({"name": name, "find": find} for name, find in saved.finds.items() if pairs_with(name))
    results = ({"result": asdict(result)} for pair in PAIRS for result in saved.of(pair))
    lines = ({"versions": saved.versions}, *finds, *results)
    SAVED.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8"
    )


def read() -> Saved:
    """Return what in_the_wild.jsonl has; nothing where it is not there."""
    text = SAVED.read_text("utf-8") if SAVED.exists() else '{"versions": {}}'
    lines = [json.loads(line) for line in text.splitlines()]
    results = [line["result"] for line in lines if "result" in line]
    places = ([Place(**place) for place in result["places"]] for result in results)
    return Saved(
        next(line["versions"] for line in lines if "versions" in line),
        [Result(**{**result, "places": of}) for result, of in zip(results, places, strict=True)],
        {line["name"]: line["find"] for line in lines if "find" in line},
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return (
        "\n".join(
            f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |"
            for line in lines
        )
        + "\n"
    )


def counts(saved: Saved) -> list[tuple[str, object]]:
    """The counts on top: each difference counts once a pair."""
    pairs = [pair for pair in SHIPPED if saved.of(pair)]
    names = {pair.name for pair in pairs}
    results = [result for result in saved.results if result.pair in names]
    equal = [pair for pair in pairs if all(last.passed for last in last_of_modes(saved, pair))]
    shown = {(result.pair, name) for result in results for name in result.seen}
    named = {(result.pair, name) for result in results for name in result.named}
    tested = {(pair, name) for pair, name in named if is_tested(saved, pair, name)}
    expected = sum(len(pair.differences) for pair in pairs)
    judged = [result for result in results if not result.refused]
    of_planted = [result for result in saved.results if result.pair not in names]
    return [
        ("pairs", len(pairs)),
        ("pairs that are equal as they are shipped", sum(not pair.differences for pair in equal)),
        (
            "pairs that are equal after what differs is mended",
            sum(bool(pair.differences) for pair in equal),
        ),
        ("comparisons, each with a replay", len(judged)),
        ("differences, once for each pair", expected),
        ("of them placed", len(shown)),
        (
            "of them named, by causes and settings that were written with these pairs at hand",
            len(named),
        ),
        ("of these, by a cause whose test passed", len(tested)),
        ("kinds of differences", len({name for pair in pairs for name in pair.differences})),
        ("false places in these pairs", sum(len(result.false_places) for result in judged)),
        (
            "false places in pairs with a planted mistake",
            sum(len(result.false_places) for result in of_planted),
        ),
        ("false causes, said to be likely", sum(len(result.false_causes) for result in judged)),
        ("pairs with a mapping file", sum(bool(pair.mapping) for pair in pairs)),
    ]


def is_tested(saved: Saved, pair: str, name: str) -> bool:
    """True if a cause whose test passed names the difference in a result of this pair."""
    likely = (cause for result in saved.results if result.pair == pair for cause in result.likely)
    return any(map(DIFFERENCES[name].is_named_by, likely))


def pairs_with(name: str) -> list[str]:
    return [pair.name for pair in SHIPPED if name in pair.differences]


def planted(saved: Saved) -> Iterator[tuple[str, ...]]:
    """Yield a row of each planted mistake: what it is, the pair, the place, and what names it."""
    for pair in PAIRS:
        if not pair.planted or not saved.of(pair):
            continue
        first, of = saved.of(pair)[0], DIFFERENCES[pair.planted]
        places = [
            f"{place.layer} {place.what}"
            for place in first.places
            if place.layer == first.breaks_at
        ]
        place = next((line for line in places if of.fits(line)), "")
        causes = (cause for place in first.places for cause in place.causes)
        cause = next(filter(of.is_named_by, causes), "")
        equal = "equal" if saved.of(pair)[-1].passed else "not equal"
        of_pair = pair.name.partition(" with ")[0]
        shown = [code(text) if text else NOTHING for text in (place.partition(":")[0], cause)]
        yield of.told, of_pair, *shown, equal


def count(rows: Iterable[Sequence[str]], column: int) -> int:
    """Return how many rows have something in a column."""
    return sum(row[column] != NOTHING for row in rows)


def difference(saved: Saved, name: str, of: Difference) -> str:
    """A section on one difference: what it is, where,
    how a comparison showed it first, and its own script."""
    find = saved.finds.get(name, {})
    lines = [f"### {name[0].upper()}{name[1:]}", "", fill(of.told, WIDTH), ""]
    lines += [f"- **Source**: {find['line']}"] if find.get("line") else []
    lines.append(f"- **Pairs**: {', '.join(pairs_with(name))}")
    first = next((result for result in saved.results if name in result.seen), None)
    place = (
        next((place for place in first.places if of.fits(f"{place.layer} {place.what}")), None)
        if first
        else None
    )
    if place:
        lines.append(f"- **First shown**: {code(f'{place.layer} {place.what}')}")
        lines += [
            f"- **Cause**: {code(cause)}"
            for cause in dict.fromkeys(place.causes)
            if of.is_named_by(cause)
        ]
    lines.append(f"- **Mended by**: {of.mended}")
    if find.get("output"):
        lines.append(
            f"- **By itself**: [`{of.script}`](finds/{of.script}) prints {code(find['output'])}"
        )
    return "\n".join([*lines, ""])


def code(text: str) -> str:
    """A line as a code span."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def last_of_modes(saved: Saved, pair: Pair) -> list[Result]:
    return [[result for result in saved.of(pair) if result.mode == mode][-1] for mode in pair.modes]


def rounds(saved: Saved, pair: Pair) -> Iterable[tuple[object, ...]]:
    for mode in pair.modes:
        of_mode = [result for result in saved.of(pair) if result.mode == mode]
        shown = [name for result in of_mode for name in result.seen if name not in result.mended]
        last = of_mode[-1]
        verdict = (
            "equal"
            if last.passed
            else f"breaks at {last.breaks_at}"
            if last.breaks_at
            else "refused"
        )
        seconds = sum(result.seconds for result in of_mode)
        yield (
            pair.name,
            mode,
            ", ".join(dict.fromkeys(shown)) or "nothing",
            verdict,
            f"{last.judged} of {last.judged + last.not_judged}",
            last.guessed,
            f"{seconds:.0f} s",
            f"{max(result.peak for result in of_mode)} MiB",
        )


def misses(saved: Saved) -> str:
    rows = []
    for result in saved.results:
        for told in (
            *result.false_places,
            *result.false_causes,
            *([result.refused] if result.refused else []),
        ):
            reason = next((reason for pattern, reason in MISSES.items() if pattern in told), "")
            rows.append(
                (result.pair, result.mode, f"`{shorten(told, 160, placeholder=' …')}`", reason)
            )
    return (
        table(("pair", "mode", "what was printed", "why"), dict.fromkeys(rows))
        if rows
        else "None.\n"
    )


def page(saved: Saved) -> str:
    seconds = sum(result.seconds for result in saved.results)
    peak = max(result.peak for result in saved.results)
    reported = {name: of for name, of in DIFFERENCES.items() if of.fault and pairs_with(name)}
    others = {name: of for name, of in DIFFERENCES.items() if not of.fault and pairs_with(name)}
    versions = ", ".join(f"{name} {version}" for name, version in saved.versions.items())
    mistakes = [*planted(saved)]
    header = "pair, mode, differs in this order, then, layers judged, guesses, time, peak".split(
        ", "
    )
    return "\n".join(
        [
            ABOUT,
            fill(f"With {versions}.", WIDTH),
            f"All processes together take {seconds / 60:.0f} minutes of a core; the largest takes "
            f"{peak} MiB.",
            "",
            table(("counted", "number"), counts(saved)),
            "## To report",
            "",
            *(difference(saved, name, of) for name, of in reported.items()),
            "## Nobody's fault",
            "",
            *(difference(saved, name, of) for name, of in others.items()),
            "## Planted",
            "",
            "Mistakes of ours in the right side of pairs that are equal otherwise: "
            f"{len(mistakes)}, of which",
            f"{count(mistakes, 2)} are placed and {count(mistakes, 3)} named.",
            "",
            table(("mistake", "pair", "place", "cause", "without it"), mistakes),
            "## Pairs",
            "",
            "*Layers judged*: those of the replay, each by itself. *Guesses*: layers of one kind "
            "and shape that",
            "`carry` paired by the order in which they ran. *Time* is that of a core, in all "
            "processes.",
            "",
            table(
                header, (row for pair in SHIPPED if saved.of(pair) for row in rounds(saved, pair))
            ),
            *[f"No results are saved of {pair.name}.\n" for pair in PAIRS if not saved.of(pair)],
            WRITTEN,
            "## What is not as it should be",
            "",
            misses(saved),
            LEFT_OUT,
        ]
    )
