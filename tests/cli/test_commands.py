"""The program as its user meets it: what it prints, its exit status, and what it leaves on disk."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from backends import TABLE, Entry
from backends.commands.lines import InputLine, Output
from backends.process.parent import PROJECT
from backends.process.translate_in_child import Answer, Candidate
from benchmarks.parity.command import _compared_backends
from benchmarks.parity.comparison import Check, Subject
from common import machine
from common.run import BUNDLED_RUN, RunDirectory
from common.settings import as_float32
from tests.support.planted import entry_of
from tests.support.program import answer, refusal, rosetta

NUMPY = ["--backend", "numpy"]
TRAIN = ["train", *NUMPY, "--num-samples", "300", "--latent-dim", "16", "--epochs", "1"]


def test_parity_compares_a_program_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.installed", lambda: list(TABLE))
    by_default = _compared_backends(None, "cpu", "lstm")
    assert by_default == [*TABLE]
    assert len({(entry.file, entry.engine) for entry in TABLE.values()}) == len(TABLE)
    assert _compared_backends(None, "gpu", "lstm") == by_default[1:]
    whole = (PROJECT / "Makefile").read_text().partition("nightly: set-up")[2].partition("\n\n")[0]
    assert "/rosetta parity\n" in whole


def test_data_prints_the_examples_five_figures_and_pairs(tmp_path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("Go.\tVa !\nRun!\tCours !\tattribution\n", encoding="utf-8")
    figures = answer("data", "--data", path)
    num_decoder_tokens = len(set("Va !Cours !\t\n"))
    assert list(figures.values())[:6] == [str(path), 2, 8, num_decoder_tokens, 4, 9]
    printed = rosetta("data", "--data", path)[1]
    assert re.search(rf"decoder_target_data +\(2, 9, {num_decoder_tokens}\) float32", printed)
    assert re.search(r"num_decoder_tokens[^\n]*\n(?s:.*)Run! +Cours !", printed)


def hinted(said: str) -> list[str]:
    """The words of the command that a line suggests, as a shell would split it."""
    command = re.search(r"(?:: |`)rosetta ([^`\n]+)", said)
    assert command, said
    return shlex.split(command[1])


def test_train_prints_twenty_pairs_json_and_quoted_hints(tmp_path, monkeypatch) -> None:
    out = tmp_path / "my friend's run"
    status, printed, said = rosetta(*TRAIN, "--out", out)
    assert status == 0
    assert (printed.count("training"), printed.count("validation")) == (10, 10)
    assert "val_loss" in said
    assert re.search(
        r"^\d+ of these 20 sentences are translated exactly\. The accuracies, \d",
        printed,
        re.MULTILINE,
    )
    hint = hinted(printed.splitlines()[-1])
    assert hint[:2] == ["translate", str(out)]
    assert rosetta(*hint)[0] == 0
    again = ["train", "--out", str(out), "--resume", "--epochs"]
    # With which it was begun.
    trained = answer(*again, 2, "--learning-rate", "3e-4", "--latent-dim", 16)
    names = "backend run epochs loss val_loss accuracy val_accuracy seconds_per_epoch samples"
    assert (list(trained), trained["epochs"]) == (names.split(), 2)
    samples = trained["samples"]
    assert all(
        sample["exact"] for sample in samples if sample["translation"] == sample["reference"]
    )
    assert not all(sample["exact"] for sample in samples), "two epochs are too few"
    config = json.loads((out / "config.json").read_text())
    assert config["train_config"]["learning_rate"] == as_float32(3e-4), "which the run keeps"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("backends.commands.training.train_run", interrupted)
    status, _, said = rosetta(*again, 2)  # which it has already
    assert (status, hinted(said)) == (130, ["evaluate", str(out)])
    of_torch = ["--backend", "torch"]
    assert hinted(rosetta(*again, 3, *of_torch)[2]) == [*again, "3", *of_torch]
    for command, nothing in (
        ("translate", tmp_path / "it's"),
        ("evaluate", tmp_path / "it's nothing"),
    ):
        assert hinted(refusal(2, command, nothing))[:3] == ["train", "--out", str(nothing)]


def test_report_draws_the_losses_of_a_run(tmp_path) -> None:
    page, history = tmp_path / "run.html", RunDirectory.open(BUNDLED_RUN).history()
    assert rosetta("report", BUNDLED_RUN, "-o", page)[0] == 0
    text, best = page.read_text("utf-8"), min(history, key=lambda epoch: epoch.val_loss)
    curves = re.findall(r'<path d="M([^"]+)" fill="none"', text)
    assert [curve.count("L") for curve in curves] == [len(history) - 1] * 2
    assert f"is {best.val_loss:.4f}, in epoch {best.epoch}" in text
    assert "there is no chart" in refusal(2, "report", BUNDLED_RUN, "-o", tmp_path / "run.svg")


def test_evaluate_says_what_the_examples_accuracy_hides(tmp_path, monkeypatch) -> None:
    # Which commands that use a model do without.
    monkeypatch.delattr("backends.process.parent.BackendProcess.facts")
    run = tmp_path / "run"
    assert rosetta(*TRAIN, "--num-samples", 1000, "--out", run)[0] == 0
    scores = answer("evaluate", run, "--limit", 40, "--weights", "best")
    names = (
        "backend loss accuracy accuracy_real accuracy_always_space chrf exact_match "
        "character_error_rate"
    )
    assert scores.keys() >= set(names.split())
    assert scores["rows"] == 40
    assert scores["accuracy_real"] < scores["accuracy"]
    assert "nc:6" in scores["chrf_signature"]
    printed = rosetta("evaluate", run, "--limit", 40, "--weights", "best")[1]
    assert "best epoch, in numpy" in " ".join(printed.split())
    assert printed.rstrip().endswith("trained them: numpy: 1"), "the run has one epoch"
    assert f"{scores['chrf']:.1f}" in printed


QUICK = ["--quick", "--dtype", "float64", "--latent-dim", 4, "--backends"]


def test_parity_has_exit_statuses_and_keeps_what_it_reached(monkeypatch) -> None:
    monkeypatch.setitem(TABLE, "numpy:OtherEpsilon", entry_of("numpy:OtherEpsilon"))
    monkeypatch.setitem(TABLE, "numpy:Broken", Entry("tests.no_such_module:Backend", "numpy", ""))
    assert (
        rosetta("parity", *QUICK, "numpy")[1]
        .splitlines()[-1]
        .startswith("Every backend agrees with the reference")
    )
    status, out, err = rosetta("parity", *QUICK, "numpy:OtherEpsilon")
    assert status == 1
    assert "numpy:OtherEpsilon float64 breaks at step" in out
    assert err.splitlines()[-1] == "rosetta: parity is broken"
    status, out, err = rosetta("parity", *QUICK, "numpy, numpy:Broken", "--json")
    assert status == 1
    assert "No module named" in err
    parity = json.loads(out.splitlines()[-1])
    assert parity["model"] == "lstm"
    assert {check["backend"] for check in parity["checks"]} == {"numpy"}
    assert parity["passed"] is False, "not all were compared"

    def interrupted(cases, names, dtypes, outcome, shown, at_once) -> None:
        outcome.comparisons[Subject("numpy", "float64")] = [Check("tensors", "", 0.0, 0.0)]
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.parity.comparison.compare_backends", interrupted)
    status, out, err = rosetta("parity", *QUICK, "numpy")
    assert (status, "numpy" in out) == (130, True)
    assert "interrupted before every backend had been compared" in err


def test_backends_shows_those_that_are_asked_for(monkeypatch) -> None:
    like_numpy = replace(TABLE["numpy"], aliases=("pytorch",))  # whose process starts sooner
    monkeypatch.setitem(TABLE, "torch", like_numpy)
    monkeypatch.setitem(TABLE, "numpy:broken", Entry("tests.no_such_module:Backend", "numpy", ""))
    backends = answer("backends", "torch", "numpy", "PyTorch", "--threads", 1)["backends"]
    assert list(backends) == ["torch", "numpy"]
    assert all(facts["threads"] == 1 for facts in backends.values())
    printed = rosetta("backends", "numpy", "numpy:broken")[1]
    assert all(
        word in printed for word in ("numpy", backends["numpy"]["version"], "ModuleNotFoundError")
    )


def test_versions_are_of_the_extras_packages_and_of_our_code(tmp_path, monkeypatch) -> None:
    versions = machine.versions()
    always = ["rosetta-s2s", "numpy", "safetensors", "sacrebleu"]
    assert list(versions) == [
        *always,
        "tensorflow",
        "keras",
        "torch",
        "paddlepaddle",
        "jax",
        "flax",
        "optax",
    ]
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}", versions["rosetta-s2s"])
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "machine.py").write_text("another")
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "common" / "machine.py"))
    assert machine.versions()["rosetta-s2s"] != versions["rosetta-s2s"]


def test_odd_file_names_work_and_no_escape_sequence_is_printed(tmp_path: Path) -> None:
    corpus, out = tmp_path / "café\x1b[2J.txt", tmp_path / "café\x1b[2J"
    pairs = [f"a{i}\x1b[2J\x9b2J\t\u202eb{i}\x07\n" for i in range(20)]
    corpus.write_text("".join(pairs), encoding="utf-8")
    small = ["--latent-dim", 4, "--epochs", 1, "--backend", "numpy"]
    told = []
    for expected, *command in (
        (0, "data", "--data", corpus),
        (0, "train", "--data", corpus, "--out", out, *small),
        (0, "translate", out, "a1\x1b[2J\x9b2J", "--json"),
        (2, "translate", out, "a1\x1b[2J\x9b2Jé"),
        (0, "evaluate", out),
        (2, "train", "--out", out, "--resume", "--epochs", 1),
        (2, "translate", tmp_path / "\udce9" / "none", "a"),
    ):
        status, printed, said = rosetta(*command)
        assert status == expected
        assert "Traceback" not in said
        assert all(line.isprintable() for line in (printed + said).split("\n"))
        told.append(printed)
    assert f"rosetta translate '{tmp_path}/café?[2J' " in told[1]
    assert json.loads(told[2].splitlines()[0])["translations"][0]["source"] == "a1\x1b[2J\x9b2J"
    assert json.loads((out / "config.json").read_bytes())["data_config"]["data"] == str(corpus)


@pytest.mark.parametrize("at_a_terminal", [True, False])
def test_only_a_terminal_gets_escaped_translations(monkeypatch, capsys, at_a_terminal) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: at_a_terminal)
    ended = "(nothing: the model ended the sentence at once)"
    for source, translation, n_best, at_terminal, elsewhere in (
        ("a", "Ça va\u202f!\x1b[2J", None, "Ça va\u202f!?[2J", "Ça va\u202f!\x1b[2J"),
        ("a", "", None, ended, ""),
        ("a", "  ", None, "(blanks alone)", "  "),
        (" ", "", None, "", ""),
        ("a", "\x1b[2J", 1, None, "1\t-1.0000\t\x1b[2J"),
    ):
        output = Output(None, 0, False, False, n_best, False, number=1)
        output.print(
            InputLine(source, source, source), {"numpy": Answer((Candidate(translation, -1.0),))}
        )
        printed = capsys.readouterr().out
        if at_a_terminal and n_best:
            assert re.search(r"score +translation *\n.*\n *-1.0000 +\?\[2J", printed)
        else:
            assert printed == f"{at_terminal if at_a_terminal else elsewhere}\n"
