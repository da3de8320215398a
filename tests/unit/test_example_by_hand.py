"""The parts that all backends share, held to the example by hand;
a comparison of backends sees no mistake there.

Everything that is expected here is computed apart, in plain loops as the official example has them.
"""

from dataclasses import replace
from math import exp, log, tanh

import numpy as np
import pytest

from backends import numpy_model
from backends.interface import Backend, unreported
from common.corpus import Corpus, Material
from common.settings import DataConfig, ModelConfig, TrainConfig
from common.tensors import epoch_batches, max_decoded_length, model_config
from common.weights import ModelState, initial_state
from tests.support.example import by_loops

PAIRS = [
    ("Go.", "Va !"),
    ("Hi.", "Salut !"),
    ("Run!", "Cours !"),
    ("Run!", "Courez !"),
    ("Wow!", "Ça alors !"),
    ("Fire!", "Au feu !"),
    ("Help!", "À l'aide !"),
    ("Jump.", "Saute."),
    ("Stop!", "Stop !"),
    ("Wait!", "Attends !"),
]
UNITS, BATCH, SEED = 5, 4, 3
SETTINGS = TrainConfig(batch_size=BATCH, seed=SEED, learning_rate=2e-3, rho=0.8, epsilon=4e-7)
# Drawn by NumPy's generator from the seed and the epoch's number,
# so that a resumed run goes on in the same order.
EPOCHS = {1: [4, 1, 2, 8, 5, 0, 7, 9, 6, 3], 2: [7, 4, 1, 8, 6, 0, 2, 9, 3, 5]}

ENCODER = sorted({character for source, _ in PAIRS for character in source} | {" "})
DECODER = sorted({character for _, target in PAIRS for character in f"\t{target}\n"} | {" "})
T_ENC, T_DEC = max(len(source) for source, _ in PAIRS), max(len(target) + 2 for _, target in PAIRS)
TENSORS = by_loops(PAIRS)


def material(padding: str = "space") -> Material:
    return Material.of_corpus(Corpus(PAIRS, "ab" * 32), DataConfig(), SEED, "float64", padding)


def lstm(
    weights: dict[str, np.ndarray], name: str, row: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple:
    """One step of an LSTM for one row, gate by gate: the next h and c."""
    kernel, recurrent, bias = (
        weights[f"{name}/{kind}"] for kind in ("kernel", "recurrent_kernel", "bias")
    )
    new_h, new_c = np.zeros(UNITS), np.zeros(UNITS)
    for unit in range(UNITS):
        i, f, g, o = (
            float(row @ kernel[:, column] + h @ recurrent[:, column] + bias[column])
            for column in range(unit, 4 * UNITS, UNITS)
        )
        new_c[unit] = c[unit] / (1 + exp(-f)) + tanh(g) / (1 + exp(-i))
        new_h[unit] = tanh(new_c[unit]) / (1 + exp(-o))
    return new_h, new_c


def probabilities(weights: dict[str, np.ndarray], h: np.ndarray) -> list[float]:
    logits = [
        float(h @ weights["dense/kernel"][:, k] + weights["dense/bias"][k])
        for k in range(len(DECODER))
    ]
    raised = [exp(logit) for logit in logits]
    return [number / sum(raised) for number in raised]


def encoded(weights: dict[str, np.ndarray], rows: np.ndarray) -> tuple:
    """The encoder's states after the one-hot rows (T, V_enc) of a sentence."""
    h = c = np.zeros(UNITS)
    for row in rows:
        h, c = lstm(weights, "encoder", row, h, c)
    return h, c


def counted(weights: dict[str, np.ndarray], row: int, masked: bool) -> np.ndarray:
    """A pair's summed cross-entropy, its weights, right positions,
    right real positions and real positions."""
    source, target = PAIRS[row]
    h, c = encoded(weights, TENSORS["encoder_input_data"][row][: len(source) if masked else None])
    counts = np.zeros(5)
    for t in range(T_DEC):
        h, c = lstm(weights, "decoder", TENSORS["decoder_input_data"][row, t], h, c)
        likely = probabilities(weights, h)
        asked = int(TENSORS["decoder_target_data"][row, t].argmax())
        real = t < len(target) + 1  # the characters of the target and its "\n"
        right, weight = likely.index(max(likely)) == asked, real or not masked
        counts += [-weight * log(likely[asked]), weight, weight * right, real * right, real]
    return counts


def decoded(weights: dict[str, np.ndarray], source: str) -> str:
    """The greedy translation, as the example's `decode_sequence` has it."""
    rows = np.zeros((T_ENC, len(ENCODER)))
    for t in range(T_ENC):
        rows[t, ENCODER.index(source[t] if t < len(source) else " ")] = 1
    (h, c), last, text = encoded(weights, rows), "\t", ""
    while True:
        h, c = lstm(weights, "decoder", np.eye(len(DECODER))[DECODER.index(last)], h, c)
        likely = probabilities(weights, h)
        last = DECODER[likely.index(max(likely))]
        text += last
        if last == "\n" or len(text) > T_DEC:
            return text


def backend_of(padding: str = "space") -> Backend:
    """NumPy's, with weights that give each sentence a translation of its own and end some."""
    data = material(padding)
    model: ModelConfig = model_config(data.batch, data.decoder_vocabulary, UNITS, "float64")
    backend, state = Backend(numpy_model, model, SETTINGS), initial_state(model, SEED)
    weights = {name: 4 * weight for name, weight in state.weights.items()}
    for character, more in (("\n", 1.0), (" ", 1.5)):
        weights["dense/bias"][DECODER.index(character)] += more
    backend.load(ModelState(weights, state.mean_squares))
    return backend


def test_two_epochs_have_their_orders_and_leave_no_row_out() -> None:
    for epoch, order in EPOCHS.items():
        batches = epoch_batches(material().batch, np.arange(len(PAIRS)), SETTINGS, epoch)
        assert [*batches.rows] == order
        assert [len(batch) for batch in batches] == [4, 4, 2]


@pytest.mark.parametrize("padding", ["space", "mask"])
def test_losses_and_counts_follow_from_the_pairs(padding: str) -> None:
    """Batches have four, four and two pairs, in training (before each step) and in evaluation."""
    backend, masked = backend_of(padding), padding == "mask"
    batches = replace(
        epoch_batches(material(padding).batch, np.arange(len(PAIRS)), SETTINGS, 1), trimmed=False
    )
    rows = [EPOCHS[1][start : start + BATCH] for start in range(0, len(PAIRS), BATCH)]
    # (3, 5)
    expected = np.array(
        [sum(counted(backend.weights(), row, masked) for row in batch) for batch in rows]
    )
    mean_length = np.mean([len(target) + 1 for _, target in PAIRS])
    positions = [len(batch) * (mean_length if masked else T_DEC) for batch in rows]
    loss, _ = backend.gradients(batches.part(0, 1).whole())
    assert loss == pytest.approx(expected[0, 0] / positions[0], rel=1e-12)
    evaluated, trained = backend.evaluate(batches), backend.train(batches, unreported)
    names = "loss_sums weight_sums correct correct_real real_positions".split()
    for column, name in enumerate(names):
        assert getattr(evaluated, name) == pytest.approx(expected[:, column], rel=1e-12), name
        assert getattr(trained, name)[0] == pytest.approx(expected[0, column], rel=1e-12), name
    loss_sum, weight_sum, correct, correct_real, real = expected.sum(0)
    assert evaluated.loss == pytest.approx(loss_sum / weight_sum, rel=1e-12)
    assert (evaluated.accuracy, evaluated.accuracy_real) == pytest.approx(
        (correct / weight_sum, correct_real / real)
    )
    assert len(trained.step_losses) == 3
    assert masked or 0 < correct_real < correct, "the two counts differ"


def test_strings_are_those_of_the_examples_loop() -> None:
    backend, data = backend_of(), material()
    ids = backend.translate(
        data.batch.encoder_ids, data.batch.encoder_lengths, max_decoded_length(T_DEC)
    )
    expected = [decoded(backend.weights(), source) for source, _ in PAIRS]
    assert ["".join(DECODER[i] for i in row) for row in ids] == [
        text.ljust(ids.shape[1], "\n") for text in expected
    ]
    assert len({len(text) for text in expected}) > 2, "texts end at different lengths"
