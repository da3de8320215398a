"""What a report says, in order, before it is HTML or Markdown: sections of text, tables, charts and sentences.

Both forms are made from these values, so that they hold the same figures. All text here is plain; the templates
escape it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from math import inf
from statistics import median
from typing import Any

from benchmarks import charts, scaling_content
from benchmarks.blocks import (
    Block,
    Chart,
    Code,
    Details,
    Line,
    Report,
    Section,
    Sentence,
    Table,
    Text,
    Warnings,
)
from benchmarks.climber import RUNGS
from benchmarks.differences import difference
from benchmarks.intervals import SMALLEST_EFFECT, Verdict
from benchmarks.plan import BASELINE, BATCHES, BUCKETED
from benchmarks.results import FULL, REDUCED, Decoded, Results, Row, among_bucketed, main_lane, seconds_to_target
from benchmarks.wording import (
    MISSING,
    SPACE,
    day,
    digits,
    interval,
    megabytes,
    percent,
    plain,
    quantity,
    scientific,
    times,
)

MOST_KERNELS = 8
CUT = " A very wide interval is drawn in part; the figures have it whole."


def report(results: Results) -> Report:
    """All that is said of a comparison."""
    names = _names(results) or "nothing"
    sections = [
        Section(name, title, blocks(results) or [Text("Not measured in this benchmark.")])
        for name, title, blocks in SECTIONS
    ]
    title, headline = f"Rosetta benchmark: {names}", plain(results.headline)
    return Report(title, headline, _facts(results), len(results.warnings), _speed(results), sections)


def _names(results: Results) -> str:
    """The backends of the rows, or of a sweep by itself."""
    curves = results.scaling.curves if results.scaling else []
    return ", ".join(dict.fromkeys([*(row.name for row in results.all_rows), *(curve.name for curve in curves)]))


def _facts(results: Results) -> dict[str, str]:
    data, machine, settings = results.data, results.machine, results.settings
    lanes = dict.fromkeys(charts.LANES.get(row.lane, row.lane) for row in results.rows)
    rounds = f"{results.rounds} of {results.planned_rounds} rounds" if results.planned_rounds else "a sweep alone"
    memory = f", {machine['memory'] / 2**30:.0f} GiB" if "memory" in machine else ""
    held_out = f"{100 * data.validation_split:.0f}{SPACE}%"
    split = {"tail": "the last rows", "grouped": "whole sources at random"}.get(data.split, data.split)
    return {
        "Compared": "; ".join(filter(None, (_names(results), " and ".join(lanes)))),
        "Model": f"LSTM encoder-decoder, {results.latent_dim} units, batches of {settings.batch_size}",
        "Corpus": f"{data.data}, up to {data.num_samples:,} pairs, {held_out} held out, {split}",
        "Machine": f"{machine.get('processor', 'unknown')}, {machine.get('cores', '?')} cores{memory}",
        "When": day(results.started),
        "Preset": f"{results.preset}, {rounds}",
    }


def _speed(results: Results) -> list[Block]:
    spec = charts.speed(results.rows)
    if spec is None:
        return [Text("Intervals take two rounds; there are none yet.")]
    ranked = [row for row in results.rows if row.ranked and row.step and row.lane == main_lane(results.rows)]
    fastest = ranked[0] if ranked else None
    title = (
        f"{fastest.label} trains an epoch in {quantity(fastest.train_seconds_per_epoch)}"
        if fastest
        else "Seconds an epoch"
    )
    title += ", the shortest median" if len(ranked) > 1 else ""
    title += " of the matched rows" if len(ranked) > 1 and len({row.lane for row in results.rows}) > 1 else ""
    table = _table(
        results.rows,
        ("seconds an epoch", "a warm step", "pairs a second", "ratio", "not ranked because"),
        lambda row: [
            _epoch(row),
            interval(row.step),
            digits(row.train_samples_per_second) if row.step else MISSING,
            _ratio(row.ratio, row),
            plain(row.why_not),
        ],
        words={0, 5},
        note="In brackets: 95 % intervals.",
    )
    key = "The whisker at a bar's end is the 95 % interval of the median."
    if any(row.ratio and row.ranked for row in results.rows):
        key += " After the seconds stands the ratio, where it is sure that there is a difference."
    if any(row.lane == "default" for row in results.rows):
        key += " Hollow: as installed, with nothing set."
    key += " Grey: not ranked." if any(not row.ranked for row in results.rows) else ""
    key += CUT if charts.cut([row.step for row in results.rows if row.step]) else ""
    note = ""
    if any(row.ratio for row in results.rows):
        note += f"Ratio: how many times as fast as {BASELINE} in the same lane a row is. "
    unranked = [f"{row.label} ({plain(row.why_not)})" for row in results.rows if not row.ranked]
    note += f"Not ranked: {'; '.join(unranked)}." if unranked else ""
    return [Chart("speed", title, spec, table, note, key)]


def _verdicts(results: Results) -> list[Block]:
    found: list[Block] = [Warnings([plain(warning) for warning in results.warnings])] if results.warnings else []
    if not results.rows:
        return found
    found.append(
        _table(
            results.rows,
            ("seconds an epoch", "ratio", "verdict", "evaluation, a pair", "threads", "version"),
            lambda row: [
                _epoch(row),
                _ratio(row.ratio, row),
                f"not ranked: {plain(row.why_not)}" if not row.ranked else _verdict(row.ratio, row),
                quantity(row.evaluate.value if row.evaluate else None),
                str(row.threads),
                row.version,
            ],
            words={0, 3, 6},
            title=f"Each row against {BASELINE} in the same lane"
            if any(row.ratio for row in results.rows)
            else "All rows",
            note="In brackets: 95 % intervals, by a bootstrap over processes and steps. A ratio above 1 is faster.",
        )
    )
    if results.pairs:
        rows = [
            [pair["first"], pair["second"], _ratio(pair["verdict"]), _verdict(pair["verdict"])]
            for pair in results.pairs
        ]
        title = "Each row against the next slower one"
        found.append(Table(title, ("row", "next slower row", "ratio", "verdict"), rows, frozenset({0, 1, 3})))
    else:
        found.append(Text("There are no two ranked rows to compare with each other."))
    controls = [row for row in results.rows if row.control]
    if controls:
        rows = [[row.label, interval(row.control, "×"), percent(row.floor)] for row in controls]
        note = "A difference that is smaller than the larger noise floor of the two, or than "
        note += f"{percent(SMALLEST_EFFECT)}, is not called one."
        columns = ("row", "ratio to itself", "noise floor")
        found.append(Table("The same program against itself", columns, rows, note=note))
    else:
        found.append(Text("No program was measured against itself, so the noise floor is not known."))
    return found


def _bucketed(results: Results) -> list[Block]:
    lead = "Batches of sentences of like lengths, trimmed to these, with padding left out of states and loss: "
    lead += "the same pairs an epoch in fewer positions. A step is other work than the example's, so that "
    lead += "these rows are ranked by themselves, and compared by the seconds that a pair takes."
    rows = among_bucketed(results.bucketed)
    return _apart("bucketed", rows, lead, "On bucketed batches", "shuffled", lambda row: row.bucketing)


def _reduced(results: Results) -> list[Block]:
    rows = results.reduced
    lead = f"Matrix products and LSTMs in fewer bits than {FULL} has, beside weights, optimizer and loss in it: the "
    lead += "same work, done less exactly, so that these rows have no place in the ranking. Here are their speed, "
    lead += "what they reach, and how far they are from the referee, within bounds of their own."
    speed = _apart("reduced", rows, lead, "In reduced precision", FULL, lambda row: row.reducing)
    if not speed:
        return []
    other = _table(
        rows,
        ("computes in", "decoding in a batch, a character", "ratio", "one sentence", "peak of memory"),
        lambda row: [
            row.precision,
            interval(row.decode_character),
            _ratio(row.decode_ratio),
            interval(row.latency.get(50)),
            megabytes(row.memory.get("peak")),
        ],
        words={0, 1},
        title="Decoding and memory",
        note="One sentence: warm, the median.",
    )
    scored = [_scores(results, trained)] if (trained := [row for row in rows if row.quality]) else []
    climbed = [_ladder(certified)] if (certified := [row for row in rows if row.certificate]) else []
    return [*speed, other, *scored, *climbed]


def _apart(
    name: str, rows: Sequence[Row], lead: str, where: str, own: str, over_own: Callable[[Row], Verdict | None]
) -> list[Block]:
    """The speed of rows that are not to be compared with the others, beside the same backends' `own` other ones."""
    if not rows:
        return []
    table = _table(
        rows,
        ("seconds an epoch", "pairs a second", "ratio", "verdict", f"against its own {own} row"),
        lambda row: [
            _epoch(row),
            digits(row.train_samples_per_second),
            _ratio(row.ratio),
            f"not ranked: {plain(row.why_not)}" if not row.ranked else _verdict(row.ratio),
            _ratio(over_own(row)),
        ],
        words={0, 4},
        note=f"In brackets: 95 % intervals. Ratio: how many times as fast as {BASELINE} a row is, a pair.",
    )
    spec, fastest = charts.speed(rows), rows[0]
    if spec is None:
        return [Text(lead), table]
    title = f"{where} {fastest.label} trains an epoch in {quantity(fastest.train_seconds_per_epoch)}"
    title += ", the shortest median" if len(rows) > 1 else ""
    key = CUT if charts.cut([row.step for row in rows if row.step]) else ""
    title = title if fastest.ranked else "Seconds an epoch"
    return [Text(lead), Chart(name, title, spec, table, key=key.strip())]


def _start(results: Results) -> list[Block]:
    spec = charts.start(results)
    if spec is None:
        return []
    rows = [row for row in results.rows if row.start]
    quickest = min(_answering(rows), key=lambda row: sum(row.start.values()))
    title = f"{quickest.label} is the first to have done a step, after {quantity(sum(quickest.start.values()))}"
    table = _table(
        results.rows,
        ("process", "import", "build", "first step", "together", "a warm step"),
        lambda row: [
            *(quantity(row.start.get(phase)) for phase in charts.PHASES),
            quantity(sum(row.start.values()) if row.start else None),
            interval(row.step),
        ],
    )
    note = "A process with NumPy, the framework's import, the model, and the first step with all that it compiles."
    found: list[Block] = [Chart("start", title, spec, table, note)]
    lines = charts.break_even(results)
    if lines is not None:
        shown = {row.label for row in results.rows if row.lane == main_lane(results.rows)}
        crossing = [o for o in results.overtakings if {o.slow_starter, o.overtakes} <= shown]
        first = min(crossing, key=lambda overtaking: overtaking.steps, default=None)
        title = "Who starts sooner stays ahead"
        if first:
            title = f"{first.slow_starter} starts later than {first.overtakes} and has caught up after "
            title += _steps(first.steps)
        rows_of = [[o.slow_starter, o.overtakes, _steps(o.steps)] for o in results.overtakings]
        columns = ("starts later", "overtakes", "after the first step and")
        key = "Lines begin when the first step is done and rise by a warm step each; ranked rows of one lane. "
        key += "Circles: one overtakes another."
        rows_of = rows_of or [["no row", "any other", "—"]]
        found.append(Chart("break_even", title, lines, Table("", columns, rows_of, frozenset({0, 1})), key=key))
    return found


def _decoding(results: Results) -> list[Block]:
    found: list[Block] = []
    spec = charts.decoding(results)
    if spec is not None:
        rows = [row for row in results.rows if row.decode_character and row.ranked]
        best = min(
            _answering(rows),
            key=lambda row: row.decode_character.value if row.decode_character else 0.0,
            default=None,
        )
        took = quantity(best.decode_character.value) if best and best.decode_character else ""
        title = f"In a batch {best.label} puts out a character every {took}" if best else "Decoding in a batch"
        table = _table(
            results.rows,
            ("a character", "ratio", "verdict", "sentences", "sentences a second"),
            lambda row: [
                interval(row.decode_character),
                _ratio(row.decode_ratio, row),
                _verdict(row.decode_ratio, row),
                f"{row.decode_sentences:,}",
                digits(row.decode_sentences_per_second),
            ],
            words={0, 3},
        )
        note = 'All with the same weights; characters up to and with the "\\n" that ends a sentence. '
        note += f"{BASELINE} has no batch and decodes sentence by sentence, with predict."
        key = CUT if charts.cut([row.decode_character for row in results.rows if row.decode_character]) else ""
        found.append(Chart("decoding", title, spec, table, note, key.strip()))
    else:
        found.append(Text("Decoding in a batch was not measured."))
    spec = charts.latency(results)
    if spec is None:
        return [*found, Text("The time of single sentences was not measured.")]
    rows = [row for row in results.rows if row.latency]
    best = min(_answering(rows), key=lambda row: (not row.ranked, min(row.latency.items())[1].value))
    took = quantity(min(best.latency.items())[1].value)
    title = f"{best.label} decodes a single sentence in {took}, the shortest median"
    percentiles = sorted({percentile for row in rows for percentile in row.latency})
    table = _table(
        results.rows,
        (*(f"p{percentile}" for percentile in percentiles), "longest, a character", "ratio", "verdict"),
        lambda row: [
            *(interval(row.latency.get(percentile)) for percentile in percentiles),
            interval(row.longest_character),
            _ratio(row.longest_ratio, row),
            _verdict(row.longest_ratio, row),
        ],
        words={0, len(percentiles) + 3},
    )
    missing = [row.label for row in results.rows if not row.latency]
    note = "One sentence a call, warm. 95th, 99th: so many of 100 sentences take no longer."
    longest = next((row.longest_output for row in rows if row.longest_output), None)
    note += f" Longest: the one source that puts out most, {longest} characters; ratios are of it." if longest else ""
    note += f" Percentiles not measured: {'; '.join(missing)}." if missing else ""
    return [*found, Chart("latency", title, spec, table, note)]


def _roofline(results: Results) -> list[Block]:
    spec, peak = charts.roofline(results), results.peak
    if spec is None or peak is None:
        return []
    rows = [row for row in results.rows if row.roofline and row.ranked]
    best = max(_answering(rows), key=lambda row: row.roofline.share if row.roofline else 0.0, default=None)
    title = "How much of the machine's peak a training step uses"
    if best and best.roofline:
        title = f"{best.label} does {percent(best.roofline.share)} of what this machine can"
    table = _table(
        results.rows,
        ("share of the peak", "GFLOP/s", "GFLOP a step"),
        lambda row: [
            percent(row.roofline.share) if row.roofline else MISSING,
            digits(row.roofline.flops / 1e9) if row.roofline else MISSING,
            digits(row.roofline.flop_a_step / 1e9) if row.roofline else MISSING,
        ],
    )
    note = f"The peak is {digits(peak['flops'] / 1e9)} GFLOP/s: {peak.get('backend', '')}'s product of "
    note += f"{_shape(peak.get('shape', ()))} matrices in float32 ({peak.get('library', 'library unknown')}). "
    note += "Operations of a step by formula, matrix products alone."
    rates = sorted(peak.get("rates", []), key=lambda rate: -rate["flops"])
    products = [
        [rate["backend"], str(rate.get("name", "")), _shape(rate["shape"]), digits(rate["flops"] / 1e9)]
        for rate in rates
    ]
    found: list[Block] = [Chart("roofline", title, spec, table, note)]
    if products:
        columns = ("backend", "which", "m × k × n", "GFLOP/s")
        found.append(Table("All matrix products that were measured", columns, products, frozenset({0, 1})))
    return found


def _parts(results: Results) -> list[Block]:
    spec = charts.time_parts(results)
    if spec is None:
        return []
    rows = [row for row in results.rows if row.time_parts]
    parts = charts.parts_of(rows)
    first = _answering(rows)[0]
    largest = max(parts, key=lambda part: first.time_parts[part])
    title = f"The largest part of a step of {first.label}: {parts[largest]}, {_part(first, largest)}"
    table = _table(
        rows,
        ("a step", *parts.values()),
        lambda row: [quantity(sum(row.time_parts.values())), *(_part(row, part) for part in parts)],
    )
    note = "Shares of a few steps under the framework's own profiler, laid on the median step without it. Kernels "
    note += "that run side by side share the time in which any of them runs. A fused LSTM has products and gates in "
    note += f"one kernel. Making tensors is measured by itself; {BASELINE} makes them before it trains."
    return [Chart("parts", title, spec, table, note)]


def _part(row: Row, part: str) -> str:
    seconds = row.time_parts[part]
    return f"{quantity(seconds)} ({percent(seconds / sum(row.time_parts.values()))})"


def _memory(results: Results) -> list[Block]:
    spec = charts.memory(results)
    if spec is None:
        return []
    rows = [row for row in results.rows if "peak" in row.memory]
    least = min(_answering(rows), key=lambda row: (not row.ranked, row.memory["peak"]))
    title = f"{least.label} takes {megabytes(least.memory['peak'])} at its peak, the least"
    columns = ("after_import", "after_build", "peak")
    table = _table(
        results.rows,
        ("after import", "after building the model", "peak of training", "growth since the import"),
        lambda row: [
            *(megabytes(row.memory.get(column)) for column in columns),
            megabytes(row.memory["peak"] - row.memory["after_import"]) if row.memory else MISSING,
        ],
    )
    note = (
        "Resident memory of the whole process, in megabytes of 1,000,000. The peak is of whole epochs; as installed, "
    )
    note += "and where no training was scored, of the timed steps."
    return [Chart("memory", title, spec, table, note)]


def _quality(results: Results) -> list[Block]:
    rows = [row for row in results.full_rows if row.quality]
    comparable = [row for row in results.rows if row.quality]  # a masked loss is a mean over other positions
    loss = charts.quality(comparable, "loss", "training loss")
    if not rows or loss is None:
        return []
    seeds = max(len(row.quality) for row in rows)
    target = _target(results)
    key = f"Thin: each of {seeds} trainings. Thick, with a point an epoch: their median."
    key = key if seeds > 1 else "A point an epoch."
    note = "Scoring is off the clock."
    found: list[Block] = [
        Chart(
            "loss",
            "The further left a curve lies, the sooner its loss was reached",
            loss,
            _epochs(comparable, "loss"),
            note,
            key,
        )
    ]
    chrf = charts.quality(rows, "chrf", "chrF of held-out sentences", results.target_chrf)
    if chrf is not None:
        ranked = [row for row in rows if row.ranked]
        first = min(ranked, key=lambda row: seconds_to_target(row.quality), default=None)
        title = "chrF against seconds of training"
        if first and len(rows) > 1 and seconds_to_target(first.quality) < inf:
            title = f"{first.label} is the first at {target}, by the median of its trainings"
        if results.target_chrf is not None:
            note = f"The target, {target}, is the median of what {BASELINE}'s trainings reach, or the worst row's."
        key += f" Dotted: {BUCKETED}." if len(rows) > len(comparable) else ""
        found.append(Chart("chrf", title, chrf, _epochs(rows, "chrf"), note, key))
    return [*found, _scores(results, rows)]


def _target(results: Results) -> str:
    return f"chrF {digits(results.target_chrf)}" if results.target_chrf is not None else "target"


def _scores(results: Results, rows: Sequence[Row]) -> Table:
    """What the trainings of rows have come to."""
    last = [
        [
            row.label,
            str(len(row.quality)),
            *(_median(row, name) for name in ("loss", "val_loss")),
            *(_median(row, name, 1) for name in ("chrf",)),
            *(_share(row, name) for name in ("exact_match", "character_error_rate", "val_accuracy_real")),
            _to_target(row),
            _target_ratio(row),
        ]
        for row in rows
    ]
    columns = (
        "row",
        "trainings",
        "loss",
        "val. loss",
        "chrF",
        "exact match",
        "character error rate",
        "right characters",
    )
    target = _target(results)
    masked = " Masked, a loss is a mean over characters alone, which is not to be compared with the others'."
    masked = masked if any(row.batches != BATCHES[0] for row in rows) else ""
    longer = max((len(t.epochs) for row in rows if row.batches != BATCHES[0] for t in row.quality), default=0)
    epochs = f"epochs: {results.num_epochs}" + f"; {BUCKETED}: {longer}" * (longer > results.num_epochs)
    return Table(
        f"After the last epoch, medians over seeds ({epochs})",
        (*columns, f"seconds to {target}", "ratio"),
        last,
        grey=frozenset(place for place, row in enumerate(rows) if not row.ranked),
        note=f"chrF's signature: {results.chrf_signature}. Right characters: of validation rows, without padding. "
        f"Ratio: the seconds of {BASELINE}'s whole training over those to {target}; above 1 is sooner.{masked}",
    )


def _sentences(results: Results) -> list[Block]:
    if not results.decoded:
        return []
    lead = (
        "Held-out sentences after the last epoch of the first seed's training. Rows that say the same share a line. "
    )
    lead += "Against the nearest reference, characters that a row adds are underlined and those it leaves out are "
    lead += "struck through. Rounding moves trainings apart after some dozens of steps, so rows say different things "
    lead += "with the same mathematics."
    return [Text(lead), *(_sentence(decoded) for decoded in results.decoded)]


def _sentence(decoded: Decoded) -> Sentence:
    said: dict[str, list[str]] = {}
    for label, translation in decoded.translations.items():
        said.setdefault(translation, []).append(label)
    lines = []
    for translation, labels in said.items():
        parts, note = difference(translation, decoded.references)
        lines.append(Line("all" if len(said) == 1 and len(labels) > 1 else ", ".join(labels), parts, note))
    return Sentence(decoded.source, decoded.references, lines)


def _parity(results: Results) -> list[Block]:
    rows = [row for row in results.full_rows if row.certificate]
    if not rows:
        return []
    lacking = [row.label for row in results.full_rows if not row.certificate]
    blocks: list[Block] = [_ladder(rows)]
    for row in rows:
        if row.quality and row.certificate and (strings := row.certificate.get("strings")):
            text = f"{row.label}: its quality was scored with another backend's decoding of its weights; of "
            text += f"{strings['compared']} sentences that it decoded itself, {strings['equal']} are the same."
            blocks.append(Text(text))
    return [*blocks, Text(f"Without a certificate: {', '.join(lacking)}.")] if lacking else blocks


def _ladder(rows: Sequence[Row]) -> Table:
    """How far rows that have a certificate are from the referee."""
    found = [row.certificate or {} for row in rows]
    rungs = [rung for rung in RUNGS if any(rung in certificate["rungs"] for certificate in found)]
    cells = [
        [row.label, "passed" if c["passed"] else "BROKEN", *(_rung(c["rungs"].get(rung)) for rung in rungs)]
        for row, c in zip(rows, found, strict=True)
    ]
    grey = frozenset(place for place, c in enumerate(found) if not c["passed"])
    note = (
        f"Referee: {', '.join(dict.fromkeys(str(c.get('referee', '')) for c in found))}. Of each rung: the largest "
    )
    note += "error and what is allowed. A row climbs until a rung breaks; rungs that it did not reach are empty."
    return Table("Largest error on each rung", ("row", "", *rungs), cells, frozenset({0, 1}), grey, note)


def _evidence(results: Results) -> list[Block]:
    if not results.all_rows:
        return []
    found: list[Block] = []
    costs = [row for row in results.rows if row.default_cost]
    if costs:
        rows = [[row.label, _ratio(row.default_cost), _verdict(row.default_cost)] for row in costs]
        title = "As installed against the matched settings of the same backend"
        found.append(Table(title, ("row", "speed", "verdict"), rows, frozenset({0, 2})))
    else:
        found.append(Text("What the defaults cost was not measured: there is one lane only."))
    threads = _table(
        results.all_rows,
        ("threads, as the framework tells", "of the process", "busy while training", "data wait", "gates"),
        lambda row: [
            str(row.threads),
            *(str(row.os_threads.get(which, MISSING)) for which in ("all", "busy")),
            percent(row.data_share),
            "; ".join(map(plain, row.gates)) or "all passed",
        ],
        words={0, 5},
        title="Threads of the operating system, data, and sanity gates",
        note="Data wait: to make the steps' tensors, as a share of the steps' time.",
    )
    return [*found, threads, *(_settings(row) for row in [*results.rows, *results.reduced])]


def _settings(row: Row) -> Details:
    blocks: list[Table | Text] = []
    if row.settings:
        rows = [[name, _value(value)] for name, value in row.settings.items()]
        blocks.append(Table("Settings, read back", ("setting", "value"), rows, frozenset({0, 1})))
    kernels = sorted(row.kernels, key=lambda kernel: -kernel["seconds"])
    if kernels:
        total = sum(kernel["seconds"] for kernel in kernels) or 1.0
        rows = [
            [
                k["name"],
                k.get("part", ""),
                f"{k['calls']:,}",
                quantity(k["seconds"]),
                percent(k["seconds"] / total),
            ]
            for k in kernels[:MOST_KERNELS]
        ]
        title = "Kernels that took longest, by the framework's own profiler in an untimed pass"
        blocks.append(Table(title, ("kernel", "part", "calls", "time", "share"), rows, frozenset({0, 1})))
    else:
        blocks.append(Text("Kernels were not measured."))
    facts = [[name, _value(value)] for name, value in row.facts.items() if name != "settings"]
    if facts:
        blocks.append(Table("What the process told of itself", ("fact", "value"), facts, frozenset({0, 1})))
    return Details(row.label, blocks)


def _again(results: Results) -> list[Block]:
    versions = results.machine.get("versions", {})
    rows = [["corpus, SHA-256", results.sha256]]
    rows += [[name, str(results.machine[name])] for name in ("system", "python") if name in results.machine]
    rows += [[str(name), str(version)] for name, version in versions.items()]
    rows += [["training settings", ", ".join(f"{name} {value}" for name, value in asdict(results.settings).items())]]
    return [
        Text("Measure again with:"),
        Code(results.command),
        Text("A recording holds each single time; tables, charts and verdicts are made from it:"),
        Code("rosetta report recording.jsonl -o report.html"),
        Table("What it was measured with", ("what", "which"), rows, frozenset({0, 1})),
    ]


SECTIONS: Sequence[tuple[str, str, Callable[[Results], list[Block]]]] = (
    ("verdicts", "Verdicts", _verdicts),
    ("bucketed", BUCKETED.capitalize(), _bucketed),
    ("reduced", REDUCED, _reduced),
    ("start", "Cold and warm", _start),
    ("decoding", "Decoding", _decoding),
    ("roofline", "What the machine can do", _roofline),
    ("parts", "Where a step's time goes", _parts),
    ("memory", "Memory", _memory),
    ("scaling", "How cost grows", scaling_content.blocks),
    ("quality", "Quality", _quality),
    ("sentences", "Decoded sentences", _sentences),
    ("parity", "Parity", _parity),
    ("evidence", "Settings and evidence", _evidence),
    ("data", "Data, and how to measure again", _again),
)


def _answering(rows: Sequence[Row]) -> list[Row]:
    """Those of the lane that the answer is about."""
    return [row for row in rows if row.lane == main_lane(rows)]


def _table(
    rows: Sequence[Row],
    columns: Iterable[str],
    cells: Callable[[Row], list[str]],
    words: Iterable[int] = (0,),
    title: str = "",
    note: str = "",
) -> Table:
    """One line a row of the results; columns are counted with the label's."""
    lines = [[row.label, *cells(row)] for row in rows]
    grey = frozenset(place for place, row in enumerate(rows) if not row.ranked)
    return Table(title, ("row", *columns), lines, frozenset(words), grey, note)


def _epochs(rows: Sequence[Row], name: str) -> Table:
    """A figure by epoch: the median over the seeds."""
    most = max(len(training.epochs) for row in rows for training in row.quality)
    numbers = sorted({0, most // 4, most // 2, most - 1})
    columns = ("row", *(f"epoch {number + 1}" for number in numbers))
    cells = [[row.label, *(_median_at(row, name, number) for number in numbers)] for row in rows]
    return Table("Medians over the seeds", columns, cells)


def _median_at(row: Row, name: str, number: int) -> str:
    found = [t.epochs[number][name] for t in row.quality if number < len(t.epochs) and name in t.epochs[number]]
    return digits(median(found)) if found else MISSING


def _last(row: Row, name: str) -> list[float]:
    return [training.epochs[-1][name] for training in row.quality if training.epochs and name in training.epochs[-1]]


def _median(row: Row, name: str, places: int = 4) -> str:
    found = _last(row, name)
    return f"{median(found):.{places}f}" if found else MISSING


def _share(row: Row, name: str) -> str:
    found = _last(row, name)
    return percent(median(found)) if found else MISSING


def _to_target(row: Row) -> str:
    """The median of the trainings, those that never arrived counted as the longest, and how many these are."""
    never = sum(training.seconds_to_target is None for training in row.quality)
    seconds = seconds_to_target(row.quality)
    text = "never" if seconds == inf else digits(seconds)
    return f"{text} ({never} of {len(row.quality)} never)" if 0 < never < len(row.quality) else text


def _target_ratio(row: Row) -> str:
    if row.target_ratio is not None:
        return times(row.target_ratio)
    return "never" if seconds_to_target(row.quality) == inf else MISSING


def _rung(rung: Mapping[str, Any] | None) -> str:
    if rung is None:
        return ""
    if rung["error"] is None:
        return "differs"
    if rung["error"] == 0 and rung["passed"]:
        return "equal"
    return f"{scientific(rung['error'])} {'≤' if rung['passed'] else '>'} {scientific(rung['tolerance'])}"


def _epoch(row: Row) -> str:
    if row.step is None:
        return _seconds(row)
    low, high = (digits(bound * row.steps_an_epoch) for bound in (row.step.low, row.step.high))
    return f"{_seconds(row)} ({low} to {high})"


def _seconds(row: Row) -> str:
    return digits(row.train_seconds_per_epoch)


def _ratio(verdict: Verdict | None, row: Row | None = None) -> str:
    if row is not None and row.name == BASELINE:
        return "1"
    if verdict is None or verdict.ratio is None:
        return MISSING
    low, high = digits(verdict.ratio.low), digits(verdict.ratio.high)
    return f"{times(verdict.ratio.value)} ({low} to {high})"


def _verdict(verdict: Verdict | None, row: Row | None = None) -> str:
    if row is not None and row.name == BASELINE:
        return "baseline"
    return plain(verdict.text) if verdict else MISSING


def _steps(steps: float) -> str:
    return f"{max(1, round(steps)):,} step{'s' * (round(steps) > 1)}"


def _shape(shape: Iterable[int]) -> str:
    return " × ".join(f"{size:,}" for size in shape)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not told"}[value]
    return digits(value, 4) if isinstance(value, float) else str(value)
