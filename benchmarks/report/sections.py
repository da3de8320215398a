"""The page of a benchmark as one Markdown string, which GitHub, a browser and a terminal show.

Above the first line `---` is what one shows in a talk: the answer, and why. Below it is what supports the answer, in
sections that a browser folds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.compare.certificate import Rung
from benchmarks.report.answer import alone_of, answer, machine_of, to_baseline
from benchmarks.report.results import Kind, Pair, Results, RowResults, times
from benchmarks.report.why import PARTS
from benchmarks.report.words import (
    MISSING,
    SPACE,
    code,
    count,
    digits,
    duration,
    interval,
    joined,
    megabytes,
    noted,
    origin,
    percent,
    quantity,
    ratio,
    safe,
    table,
)
from common.text import printable

MOST_KERNELS = 3  # kernels that are listed of each row
FAR = 0.55  # a translation with more edits for each character of its reference has no marks, which would hide it


def page(results: Results) -> str:
    """The whole page. What was not measured has no section."""
    folded = [f"## {title}\n\n{body}" for title, section in FOLDED.items() if (body := section(results))]
    return joined(answer(results), "---", *folded) + "\n"


def summary(results: Results) -> str:
    """What a terminal shows of the page: the answer, and the decoded sentences."""
    return joined(answer(results), _sentences(results))


def machines(all: Sequence[tuple[str, Results]]) -> str:
    """Recordings of several machines side by side, each with a name. Nothing is compared across machines."""
    answers = [f"- **{safe(name)}**, {machine_of(results)}: {safe(results.headline)}" for name, results in all]
    columns = [
        {row.label: f"{quantity(row.epoch)}, {to_baseline(results, row)}" for row in results.rows if row.epoch}
        for _, results in all
    ]
    labels = dict.fromkeys(label for column in columns for label in column)
    lines = [(safe(label), *(column.get(label, MISSING) for column in columns)) for label in labels]
    note = (
        "Beside the time of an epoch: how many times as fast the row trains as the baseline on the same machine. "
        "Times of different machines are not compared."
    )
    figures = noted(table(("an epoch", *(safe(name) for name, _ in all)), lines), note)
    return joined(f"# {count(len(all), 'machine')} side by side", "\n".join(answers), figures) + "\n"


def verdict(pair: Pair, rounds: int) -> str:
    """The verdict on a pair in words."""
    farthest = max(pair.ratio.high, 1 / pair.ratio.low) - 1
    return {
        "faster": f"{times(pair.ratio.value)} times as fast",
        "slower": f"takes {times(pair.ratio.inverse.value)} times as long",
        "same": f"the same within {percent(farthest)}",
        "not told apart": f"**not told apart yet**: ±{percent(pair.ratio.half_width)} after {count(rounds, 'round')}",
    }[pair.word]


def _by_row(rows: Iterable[RowResults], columns: Mapping[str, Callable[[RowResults], str]]) -> str:
    """A table with a line for each row of which something was measured."""
    lines = [(safe(row.label), *(cell(row) for cell in columns.values())) for row in rows]
    return table(("row", *columns), [line for line in lines if set(line[1:]) - {"", MISSING}])


TIMES: Mapping[str, Callable[[RowResults], str]] = {
    "an epoch": lambda row: interval(row.epoch),
    "a step": lambda row: interval(row.step),
    "pairs a second": lambda row: digits(row.pairs_per_second),
    "not compared because": lambda row: safe(row.why_not),
}


def _speed(results: Results) -> str:
    note = (
        "An interval comes from all rows and rounds together; the one from two rows alone stands beside it. Where an "
        "interval contains 1, either row may be the faster one."
    )
    found = _by_row([row for row in results.rows if not row.row.reduced], TIMES)
    return joined(found, noted(_verdicts(results, results.pairs, "frameworks"), note))


def _reduced(results: Results) -> str:
    note = (
        "These rows compute matrix products and LSTMs with fewer bits than float32 has. Since that is other work, "
        "each is compared with the same framework in float32 only."
    )
    found = _by_row([row for row in results.rows if row.row.reduced], TIMES)
    return joined(found, noted(_verdicts(results, results.pairs, "reduced"), note))


def _verdicts(results: Results, pairs: Iterable[Pair], kind: Kind = "frameworks") -> str:
    """A table of the pairs of one kind."""
    lines = [
        (safe(pair.left), safe(pair.right), verdict(pair, results.rounds), ratio(pair.ratio), ratio(pair.pairwise))
        for pair in pairs
        if pair.kind == kind
    ]
    return table(("row", "compared with", "verdict", "times as fast", "from these two rows alone"), lines)


def _installed(results: Results) -> str:
    note = "These rows have no setting for speed: this is what a user gets who installs the framework and starts."
    advice = []
    for text in results.advice:
        said, _, typed = text.rpartition(": ")  # what to type comes last
        advice.append(f"- {safe(said)}: {code(typed)}")
    return joined(noted(_verdicts(results, results.pairs, "installed"), note), "\n".join(advice))


def _decoding(results: Results) -> str:
    note = (
        'Characters are those that a row puts out, with the "\\n" that ends a sentence. Alone is the held-out '
        "sentence with the longest output; a row that cannot decode a batch is measured once instead, with the "
        "sentences that are shown."
    )
    columns: Mapping[str, Callable[[RowResults], str]] = {
        "a character in a batch": lambda row: interval(row.batch),
        "characters a second": lambda row: digits(1 / row.batch.value if row.batch else None),
        "sentences": lambda row: f"{row.sentences:,}" if row.batch else MISSING,
        "a character alone": lambda row: interval(alone_of(row)),
    }
    batch, alone = _verdicts(results, results.decoding), _verdicts(results, results.alone)
    verdicts = joined(batch and f"**In a batch**\n\n{batch}", alone and f"**Alone**\n\n{alone}")
    return joined(noted(_by_row(results.rows, columns), note), verdicts)


def _sentences(results: Results) -> str:
    """A table of sentences that were trained on and one of those held out, with a line for each translation."""
    quality = (
        f" On all held-out sources these reach a chrF of {results.scores['chrf']:.1f} of 100."
        if results.scores
        else ""
    )
    parts = [f"All rows decode with {safe(results.head.corpus.weights)}.{quality}"]
    for held_out, known in ((False, "trained on"), (True, "held out of training")):
        lines = [
            (
                safe(one.source),
                *difference(words, one.references),
                "all" if by == [*one.translations] else safe(", ".join(by)),
            )
            for one in results.sentences
            if one.held_out == held_out
            for by, words in one.distinct
        ]
        parts.append(table((known, "translation", "nearest reference", "by"), lines))
    note = "Words that are ~~struck~~ are missing, **bold** ones are added." if "**" in joined(*parts) else ""
    return joined(*parts, note) if results.sentences else ""


def difference(translation: str, references: Sequence[str]) -> tuple[str, str]:
    """A translation with its differences from the nearest reference, and this reference; "exact" if they are equal.

    Words that are missing are struck through, and words that are added are bold.
    """
    from rapidfuzz.distance import Levenshtein

    if not translation or translation in references or not references:
        beside = "exact" if translation in references else " / ".join(references)
        return safe(translation) or "(nothing)", safe(beside)
    nearest = min(references, key=lambda reference: Levenshtein.distance(translation, reference))
    if Levenshtein.distance(translation, nearest) > FAR * len(nearest):
        return safe(translation), safe(nearest)
    marked: list[str] = []
    words, others = nearest.split(), translation.split()
    for step in Levenshtein.opcodes(words, others):
        missing, added = words[step.src_start : step.src_end], others[step.dest_start : step.dest_end]
        if step.tag == "equal":
            marked += map(safe, added)
        else:
            marked += [f"~~{safe(word)}~~" for word in missing] + [f"**{safe(word)}**" for word in added]
    return " ".join(marked), safe(nearest)


def _start(results: Results) -> str:
    columns: Mapping[str, Callable[[RowResults], str]] = {
        "starting Python": lambda row: quantity(row.start["process"]),
        "importing": lambda row: quantity(row.start["import"]),
        "building the model": lambda row: quantity(row.start["build"]),
        "the first step": lambda row: quantity(row.start["first step"]),
        "in all": lambda row: quantity(sum(row.start.values())),
        "memory after import": lambda row: megabytes(row.memory["after import"]),
        "after build": lambda row: megabytes(row.memory["after build"]),
        "at its peak": lambda row: megabytes(row.memory["peak"]),
    }
    note = "The first step includes all compiling. Memory is that of the whole process."
    return noted(_by_row(results.rows, columns), note)


def _parts(results: Results) -> str:
    lines = []
    for row in results.rows:
        if total := sum(row.step_parts.values()):
            shares = [
                f"{quantity(size)} ({percent(size / total)})" if size else "" for size in row.step_parts.values()
            ]
            lines.append((safe(row.label), quantity(total), *shares))
    note = (
        "Shares are from a few steps under the framework's own profiler, times are these shares of a step without "
        "it. A fused LSTM computes products and gates in one kernel, so they cannot be told apart."
    )
    return noted(table(("row", "a step", *PARTS.values()), lines), note)


def _peak(results: Results) -> str:
    columns: Mapping[str, Callable[[RowResults], str]] = {
        "share of the peak": lambda row: percent(row.peak_share),
        "GFLOP a step": lambda row: digits(row.flop / 1e9) if row.flop and row.peak_share else MISSING,
    }
    found = _by_row(results.rows, columns)
    if not found:
        return ""
    peak = results.peaks[0]
    shape = " × ".join(f"{size:,}" for size in peak.shape)
    return joined(
        found,
        f"The peak is the fastest matrix product that was measured: {digits(peak.flops / 1e9)}{SPACE}GFLOP/s in "
        f"{safe(peak.backend)} with m × k × n = {shape}. The operations of a step are counted by formula.",
    )


def _parity(results: Results) -> str:
    certificates = {row.label: row.certificate for row in results.rows if row.certificate}
    rungs = dict.fromkeys(rung for one in certificates.values() for rung in one.rungs)
    lines = [
        (safe(label), "passed" if one.passed else "**broken**", *(_rung(one.rungs.get(rung)) for rung in rungs))
        for label, one in certificates.items()
    ]
    referees = safe(", ".join(dict.fromkeys(one.referee for one in certificates.values())))
    note = (
        f"On each rung of the ladder: the distance from the referee, {referees}, that came nearest to its tolerance."
    )
    return noted(table(("row", "parity", *map(safe, rungs)), lines), note)


def _rung(rung: Rung | None) -> str:
    """The error of a rung and its tolerance; "" where the row did not reach it."""
    if rung is None or rung.error is None:
        return "differs" if rung else ""
    return f"{rung.error:.1e} {'≤' if rung.passed else '>'} {rung.tolerance:.1e}" if rung.error else "equal"


def _settings(results: Results) -> str:
    columns: Mapping[str, Callable[[RowResults], str]] = {
        "version": lambda row: safe(row.facts.version),
        "device": lambda row: safe(row.facts.device),
        "precision": lambda row: safe(row.facts.precision),
        "Python": lambda row: safe(row.facts.python_version),
        "threads": lambda row: str(row.facts.threads),
        "all, busy": lambda row: "{}, {}".format(*row.threads),
        "libraries": lambda row: ", ".join(map(safe, row.facts.libraries)),
        "longest kernels": lambda row: ", ".join(code(kernel.name) for kernel in row.kernels[:MOST_KERNELS]),
        "settings, read back from the framework": lambda row: ", ".join(
            code(f"{name}={value}") for name, value in row.facts.settings.items()
        ),
    }
    note = (
        "All, busy: the threads of the process, and those that worked while it trained. Kernels are those that took "
    )
    note += "longest under the framework's own profiler."
    return joined(_by_row(results.rows, columns), note) if results.rows else ""


def _measured(results: Results) -> str:
    controls = [
        f"One row was measured twice: {safe(pair.left)} is {ratio(pair.ratio)} as fast as {safe(pair.right)}. "
        "Without a bias the interval contains 1."
        for pair in results.pairs
        if pair.kind == "control"
    ]
    return joined(
        f"{count(results.rounds, 'round')} of new processes with {count(results.cycles, 'cycle')} in "
        f"{duration(results.seconds)}. {count(results.dropped, 'cycle')} dropped and "
        f"{count(results.again, 'turn')} taken again because of other programs, which used {results.others:.2f} "
        f"cores on average. Intervals should reach at most {percent(results.head.plan.within)} to either side.",
        *controls,
    )


def _again(results: Results) -> str:
    plan = results.head.plan
    command = "\n".join(map(printable, plan.command.split("\n")))
    facts = {
        "held out": percent(plan.data.validation_split),
        "SHA-256 of the corpus": results.head.corpus.sha256,
        "model": f"LSTM encoder-decoder, {plan.latent_dim} units, batches of {plan.settings.batch_size}",
        "score": results.scores["chrf_signature"] if results.scores else "",
    }
    return joined(f"```sh\n{command}\n```", origin(results.head, plan.data, facts))


FOLDED: Mapping[str, Callable[[Results], str]] = {
    "Every row and every pair": _speed,
    "As installed": _installed,
    "Less than float32": _reduced,
    "Decoding speed": _decoding,
    "Decoded sentences": _sentences,
    "Start-up and memory": _start,
    "Where a step's time goes": _parts,
    "Share of the machine's peak": _peak,
    "Parity with the referee": _parity,
    "Settings and kernels": _settings,
    "How it was measured": _measured,
    "Data, and how to measure the same again": _again,
}
