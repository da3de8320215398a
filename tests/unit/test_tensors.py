"""Characters as ids, the tensors against the example's definition written out as plain loops,
and batches' order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import numpy_model
from backends.interface import Backend
from common import tensors
from common.corpus import Pair
from common.errors import CannotBeginError, UnknownCharactersError
from common.settings import TrainConfig
from common.tensors import (
    Batch,
    Batches,
    CharVocabulary,
    epoch_batches,
    model_config,
    vocabularies,
)
from tests.support.example import by_loops

PAIRS = [("Go.", "Va !"), ("Run!", "Cours !"), ("I see.", "Je comprends.")]
PAIRS += [("Wow!", "Ça alors !"), ("犬", "é"), ("Hi.", "X")]
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\n"), min_size=1, max_size=9
)
PAIRS_OF_TEXT = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6)
NAMES = ["encoder_input_data", "decoder_input_data", "decoder_target_data"]


def batch_of(pairs: list[Pair], dtype: str = "float32", padding: str = "space") -> Batch:
    return Batch.of_pairs(pairs, *vocabularies(pairs), dtype, padding)


# Characters


def test_ids_are_ranks_of_sorted_characters_with_the_space() -> None:
    vocabulary = CharVocabulary(["\tba", "é😀a"])
    assert vocabulary.characters == ("\t", " ", "a", "b", "é", "😀")
    ids, lengths = vocabulary.encode(["ab", "", "😀"], width=3)
    assert ids.tolist() == [[2, 3, 1], [1, 1, 1], [5, 1, 1]]
    assert lengths.tolist() == [2, 0, 1]
    assert [vocabulary.decode(row) for row in ids] == ["ab ", "   ", "😀  "]
    assert CharVocabulary("").characters == (" ",)
    for size in (255, 256, 257, 70_000):  # the last character keeps its id
        characters = [chr(0x10000 + i) for i in range(size - 1)]
        assert CharVocabulary(characters).encode([characters[-1] + characters[0]])[0].tolist() == [
            [size - 1, 1]
        ]


def test_unknown_characters_of_the_first_such_text_are_named() -> None:
    vocabulary = CharVocabulary("abc\u00e8")
    for unknown in ("A", "é", "\U0001f600", "\0"):
        with pytest.raises(UnknownCharactersError) as caught:
            vocabulary.encode(["abc", f"a{unknown}Z", "Q"])
        message = str(caught.value)
        assert [f"U+{ord(c):04X}" in message for c in f"{unknown}ZQ\n"] == [
            True,
            True,
            False,
            False,
        ]
        assert "\n" not in message
        assert vocabulary.without_unknown(f"a{unknown}Z c") == "a c"


# Tensors

MANY = ["".join(chr(0x4E00 + i + j) for j in range(900)) for i in range(0, 9000, 900)]


def test_a_corpus_beyond_memory_or_disk_is_refused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MOST_IDS", 4_000_000)
    for pairs, expected in (
        ([("a", many) for many in MANY], "9,003 different characters"),
        (
            [("a" * 999, "b" * 999), *[("a", "b")] * 2000],
            "4,002,000 characters when all are padded",
        ),
        (
            [("a", many) for many in MANY[:5]],
            "8,123,414 numbers in the one-hot tensors of each pair",
        ),
    ):
        with pytest.raises(CannotBeginError, match=expected):
            batch_of(pairs)
        assert len(batch_of(pairs[:2])) == 2


@settings(derandomize=True, deadline=None, max_examples=30)
@given(PAIRS_OF_TEXT, st.sampled_from(["float32", "float64"]))
def test_tensors_of_any_text_are_the_examples_to_the_byte(pairs: list[Pair], dtype: str) -> None:
    batch, (_, decoder) = batch_of(pairs, dtype), vocabularies(pairs)
    for name, expected in by_loops(pairs, dtype).items():
        got = getattr(batch, name)
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), name
        assert got.tobytes() == expected.tobytes(), name
    assert np.array_equal(batch.decoder_target_ids, batch.decoder_target_data.argmax(-1))
    config = model_config(batch, decoder, 5, dtype)
    assert (config.num_encoder_tokens, config.num_decoder_tokens) == (
        batch.num_encoder_tokens,
        len(decoder),
    )
    assert (decoder.characters[config.start_token], decoder.characters[config.stop_token]) == (
        "\t",
        "\n",
    )
    assert (config.latent_dim, config.dtype) == (5, dtype)


# Batches


@pytest.mark.parametrize("padding", ["space", "mask"])
def test_a_batchs_sums_are_those_of_its_arrays(padding) -> None:
    """Batches: a part of a corpus, a trimmed one, and the shards of a group,
    one of them without a row."""
    corpus = batch_of(PAIRS, padding=padding)
    batches = [
        corpus,
        corpus.take([1, 4]),
        *(corpus.take([2, 3]).shard(rank, 3) for rank in range(3)),
    ]
    batches += [corpus.take([1, 4]).trimmed()] if padding == "mask" else []
    for batch in batches:
        assert len(batch) > 0, "frameworks refuse empty batches"
        arrays = batch.target_weights, batch.real_positions
        assert batch.sums == tuple(float(array.sum(dtype=np.float64)) for array in arrays)


def test_an_epoch_gives_each_row_once_with_all_widths_kept() -> None:
    corpus, rows = batch_of(PAIRS), np.array([4, 0, 5, 2, 1])
    batches = Batches(corpus, rows, batch_size=2)
    batches_of_epoch = list(batches)
    assert len(batches) == 3
    assert len(list(Batches(corpus, rows[:4], batch_size=2))) == 2, "no batch is empty"
    assert [len(batch) for batch in batches_of_epoch] == [2, 2, 1]
    for name in (*NAMES, "decoder_lengths", "encoder_lengths"):
        joined = np.concatenate([getattr(batch, name) for batch in batches_of_epoch])
        assert joined.tobytes() == getattr(corpus, name)[rows].tobytes()
        assert joined.tobytes() == getattr(batches.whole(), name).tobytes()


BUCKETED = TrainConfig(batch_size=16, seed=3, batches="bucketed")


def long_and_short(num_rows: int) -> Batch:
    """Pairs of 1 to 30 and 1 to 50 characters, padding masked."""
    rng = np.random.default_rng(5)
    return batch_of(
        [("a" * rng.integers(1, 31), "b" * rng.integers(1, 51)) for _ in range(num_rows)],
        padding="mask",
    )


@pytest.mark.parametrize("batches", ["shuffled", "bucketed"])
def test_an_epochs_order_is_a_function_of_seed_and_epoch_alone(batches: str) -> None:
    corpus, rows = long_and_short(200), np.arange(200)
    corpus = replace(corpus, encoder_ids=None, decoder_ids=None)  # type: ignore[arg-type] # no sentence is read

    def order(seed: int, epoch: int) -> list[int]:
        return epoch_batches(
            corpus, rows, replace(BUCKETED, seed=seed, batches=batches), epoch
        ).rows.tolist()

    first = order(3, 5)
    np.random.default_rng(0).random(10)
    assert order(3, 5) == first
    assert first not in [order(3, 4), order(3, 6), order(4, 5), order(5, 3)]
    assert sorted(first) == rows.tolist()


def test_bucketed_batches_are_shuffled_and_have_few_shapes() -> None:
    """Were rows sorted by their very lengths, nine of ten would meet again."""
    corpus, rows = long_and_short(2005), np.arange(2005)
    first, second = (epoch_batches(corpus, rows, BUCKETED, epoch) for epoch in (1, 2))
    bucketed = list(first)
    positions = sum(batch.encoder_ids.size + batch.decoder_input_ids.size for batch in bucketed)
    assert positions < 0.65 * (corpus.encoder_ids.size + corpus.decoder_input_ids.size)
    assert len({batch.decoder_input_ids.shape for batch in bucketed[:-1]}) <= 14
    assert [len(batch) for batch in bucketed] == [16] * 125 + [5]
    widths = [batch.decoder_ids.shape[1] for batch in bucketed]
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.3
    number_of = np.empty(2005, int)
    number_of[first.rows] = np.arange(2005) // 16
    met = number_of[second.rows[:2000].reshape(-1, 16)]
    met = met[:, :, None] == met[:, None, :]  # each row with itself, too
    assert np.mean(met) < 0.5
    assert [len(batch) for batch in epoch_batches(corpus, rows[:15], BUCKETED, 1)] == [15]


def test_where_padding_is_masked_trimming_changes_no_number() -> None:
    """States, probabilities of what is left, loss and every gradient,
    by the reference in float64."""
    pairs = [("a" * 30, "b" * 50), ("ab" * 3, "cd" * 4), ("ab", "cd" * 6)]
    corpus = batch_of(pairs, "float64", "mask")
    backend = Backend(
        numpy_model, model_config(corpus, vocabularies(pairs)[1], 8, "float64"), BUCKETED
    )
    whole = corpus.take([1, 2])
    trimmed = whole.trimmed()
    got, expected = backend.forward(trimmed), backend.forward(whole)
    steps = got["probabilities"].shape[1]
    assert np.allclose(
        got["probabilities"], expected["probabilities"][:, :steps], rtol=0, atol=1e-15
    )
    for name in ("state_h", "state_c"):
        assert np.allclose(got[name], expected[name], rtol=0, atol=1e-15)
    loss, gradients = backend.gradients(trimmed)
    expected_loss, expected_gradients = backend.gradients(whole)
    assert loss == pytest.approx(expected_loss, rel=1e-14)
    for name, gradient in expected_gradients.items():
        assert np.abs(gradient).max() > 0, name
        assert np.allclose(gradients[name], gradient, rtol=1e-12, atol=1e-15), name
