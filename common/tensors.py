"""Characters as ids, batches of ids, the one-hot tensors made of them,
and the order of batches that all share."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import CannotBeginError, UnknownCharactersError
from common.settings import (
    LARGEST_VOCABULARY,
    ModelConfig,
    ModelName,
    Padding,
    Precision,
    TrainConfig,
)

Array = NDArray[np.floating]
Ids = NDArray[np.integer]

START, STOP = "\t", "\n"
PAD = " "  # the example pads with the space, so every vocabulary has one
# The widths of a trimmed batch are multiples of this number, so that a framework that compiles for
# each shape has few to compile. With 4 the batches of fra-eng have 13 shapes and hold 49 % of the
# positions that they would hold untrimmed; with 1 there would be 82 shapes and 46 %, and with 8
# there would be 7 shapes and 53 %.
WIDTH_STEP = 4
# What a corpus may come to. One that others wrote may be small as a file and as tensors larger than
# any memory.
# Of all pairs padded to the longest; an id takes a byte, or two in a large vocabulary.
MOST_IDS = 1 << 29
MOST_ONE_HOT = 1 << 22  # in the one-hot tensors of a pair; 64 pairs then take a gigabyte in float32
TEXTS_AT_ONCE = 1 << 12  # that are encoded in one piece, which bounds the memory beside the ids


class CharVocabulary:
    """The sorted characters of one side of a corpus; a character's id is its rank.

    The space is always a member, since it pads.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """The vocabulary of all characters in `texts`."""
        characters = {PAD}
        for text in texts:
            characters.update(text)
        self.characters = tuple(sorted(characters))
        self.id_of = {character: i for i, character in enumerate(self.characters)}
        code_points = [ord(c) for c in self.characters]
        # The id of each code point. Code points that are not in the vocabulary have the last id
        # plus one, as has the last place, to which `encode` clips all greater code points.
        self.ids_dtype = np.min_scalar_type(len(self.characters))
        self._ids = np.full(code_points[-1] + 2, len(self.characters), self.ids_dtype)
        self._ids[code_points] = np.arange(len(self.characters))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(
        self, texts: Sequence[str], width: int = 0
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int32]]:
        """Ids (N, T), padded with that of the space, and lengths (N,) before padding.

        T is the longest text's length or `width`, whichever is more. Raises UnknownCharactersError.
        """
        lengths = np.fromiter(map(len, texts), np.int32, len(texts))
        code_points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
        flat_ids = self._ids.take(code_points, mode="clip")
        if (flat_ids == len(self)).any():
            raise UnknownCharactersError(next(filter(None, map(self.lacks, texts))))
        width = max(width, int(lengths.max(initial=0)))
        ids = np.full((len(texts), width), self.id_of[PAD], self._ids.dtype)
        ids[np.arange(width) < lengths[:, None]] = flat_ids
        return ids, lengths

    def decode(self, ids: Iterable[int]) -> str:
        """The text of one row of ids, padding included."""
        return "".join(self.characters[i] for i in ids)

    def text_of(self, ids: Iterable[int]) -> str:
        """A row of decoded ids as text, up to its "\\n"."""
        return self.decode(ids).partition(STOP)[0]

    def lacks(self, text: str) -> set[str]:
        """The characters of `text` that this vocabulary has not."""
        return set(text) - self.id_of.keys()

    def without_unknown(self, text: str) -> str:
        """`text` with the characters that this vocabulary lacks dropped."""
        return "".join(c for c in text if c in self.id_of)


def vocabularies(pairs: Sequence[tuple[str, str]]) -> tuple[CharVocabulary, CharVocabulary]:
    """The vocabularies of the encoder and of the decoder for these pairs."""
    encoder = CharVocabulary(source for source, _ in pairs)
    return encoder, CharVocabulary(START + target + STOP for _, target in pairs)


def one_hot(ids: Ids, num_tokens: int, dtype: str = "float32") -> Array:
    """One-hot rows (..., num_tokens) of ids (...)."""
    return np.eye(num_tokens, dtype=dtype).take(ids, axis=0)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of a parallel corpus, kept as ids.
    The one-hot tensors are made of them when they are asked for.

    A batch of all rows is the whole corpus, and its tensors are those of the example,
    by the example's names.
    """

    encoder_ids: Ids  # (N, T_enc), padded with the space
    encoder_lengths: Ids  # (N,)
    decoder_ids: Ids  # (N, T_dec + 1): "\t", text, "\n", padding if any
    decoder_lengths: Ids  # (N,), "\t" and "\n" counted
    mean_decoder_length: float  # the mean of decoder_lengths over the whole corpus
    num_encoder_tokens: int
    num_decoder_tokens: int
    dtype: Precision = "float32"  # of the one-hot tensors
    padding: Padding = "space"  # see ModelConfig
    loss_rows: int | None = None  # number of rows by which a shard's loss is divided; None: its own
    weightless: bool = False  # whether its rows count nothing

    @classmethod
    def of_pairs(
        cls,
        pairs: Sequence[tuple[str, str]],
        encoder_vocabulary: CharVocabulary,
        decoder_vocabulary: CharVocabulary,
        dtype: Precision = "float32",
        padding: Padding = "space",
    ) -> "Batch":
        """Encode sentence pairs, and put each target between "\\t" and "\\n".

        Raises CannotBeginError where their tensors would be too large.
        """
        encoder_lengths = np.array([len(source) for source, _ in pairs], np.int32)
        decoder_lengths = np.array([len(START + target + STOP) for _, target in pairs], np.int32)
        sizes = len(encoder_vocabulary), len(decoder_vocabulary)
        widths = int(encoder_lengths.max()), int(decoder_lengths.max())
        for number, most, what in (
            (max(sizes), LARGEST_VOCABULARY, "different characters on one side"),
            (len(pairs) * sum(widths), MOST_IDS, "characters when all are padded to the longest"),
            (
                widths[0] * sizes[0] + 2 * widths[1] * sizes[1],
                MOST_ONE_HOT,
                "numbers in the one-hot tensors of each pair",
            ),
        ):
            if number > most:
                raise CannotBeginError(
                    f"the {len(pairs):,} pairs have {number:,} {what}, and {most:,} are the most; "
                    "take fewer pairs, or leave out the longest and those with rare characters"
                )
        return cls(
            _encoded((source for source, _ in pairs), encoder_vocabulary, len(pairs), widths[0]),
            encoder_lengths,
            _encoded(
                (START + target + STOP for _, target in pairs),
                decoder_vocabulary,
                len(pairs),
                widths[1] + 1,
            ),
            decoder_lengths,
            float(decoder_lengths.mean()),
            *sizes,
            dtype,
            padding,
        )

    @classmethod
    def of_ids(
        cls, config: ModelConfig, encoder_ids: Ids, encoder_lengths: Ids, decoder_ids: Ids
    ) -> "Batch":
        """A batch of source ids (N, T_enc) and target ids (N, T_dec + 1),
        in which all target positions count."""
        lengths = np.full(len(decoder_ids), decoder_ids.shape[1], np.int32)
        sizes = config.num_encoder_tokens, config.num_decoder_tokens
        decoder = decoder_ids, lengths, float(decoder_ids.shape[1])
        return cls(encoder_ids, encoder_lengths, *decoder, *sizes, config.dtype, config.padding)

    def __len__(self) -> int:
        return len(self.encoder_ids)

    def take(self, rows: Any) -> "Batch":
        """The batch of these rows, which an index array or a slice names;
        it is as wide as this one."""
        return replace(
            self,
            encoder_ids=self.encoder_ids[rows],
            encoder_lengths=self.encoder_lengths[rows],
            decoder_ids=self.decoder_ids[rows],
            decoder_lengths=self.decoder_lengths[rows],
        )

    def shard(self, rank: int, size: int) -> "Batch":
        """The share of worker `rank` in a group of `size`: the rows rank, rank + size and so on.

        Shards may have different numbers of rows. Their losses are all divided by this batch's
        number, so that the sum of the workers' losses is its loss, and the sum of their gradients
        its gradient. A worker without a row takes the first one, which then counts nothing, since
        frameworks refuse empty batches.
        """
        if size == 1:
            return self
        weightless = rank >= len(self)
        rows = slice(1) if weightless else slice(rank, None, size)
        return replace(self.take(rows), loss_rows=len(self), weightless=weightless)

    def trimmed(self) -> "Batch":
        """The same rows, as wide as the longest of them needs.
        Where padding is masked, no result depends on it."""
        encoder_width = int(_widths(self.encoder_lengths).max())
        # The last step's target is "\n".
        decoder_width = int(_widths(self.decoder_lengths - 1).max())
        return replace(
            self,
            encoder_ids=self.encoder_ids[:, :encoder_width],
            decoder_ids=self.decoder_ids[:, : decoder_width + 1],
        )

    @property
    def decoder_input_ids(self) -> Ids:
        """(N, T_dec)"""
        return self.decoder_ids[:, :-1]

    @property
    def decoder_target_ids(self) -> Ids:
        """(N, T_dec), one step ahead of the input"""
        return self.decoder_ids[:, 1:]

    @property
    def encoder_input_data(self) -> Array:
        """(N, T_enc, V_enc) one-hot"""
        return one_hot(self.encoder_ids, self.num_encoder_tokens, self.dtype)

    @property
    def decoder_input_data(self) -> Array:
        """(N, T_dec, V_dec) one-hot"""
        return one_hot(self.decoder_input_ids, self.num_decoder_tokens, self.dtype)

    @property
    def decoder_target_data(self) -> Array:
        """(N, T_dec, V_dec) one-hot, one step ahead of the input"""
        return one_hot(self.decoder_target_ids, self.num_decoder_tokens, self.dtype)

    @property
    def target_weights(self) -> Array:
        """(N, T_dec): what each target position weighs in the loss.
        All ones where padding counts."""
        if self.padding == "mask" or self.weightless:
            return self.real_positions
        return np.ones(self.decoder_input_ids.shape, self.dtype)

    @property
    def loss_positions(self) -> Array:
        """(): what a batch's summed loss is divided by:
        how many target positions count in N rows on average.

        The average is that of the whole corpus. If the loss were divided by the batch's own number,
        a batch of short sentences would teach as much as one of long sentences, and so each of its
        characters more. Where padding counts, the number is N x T_dec, and the loss is the mean.
        """
        positions_of_a_row = (
            self.mean_decoder_length - 1
            if self.padding == "mask"
            else self.decoder_ids.shape[1] - 1
        )
        return np.asarray((self.loss_rows or len(self)) * positions_of_a_row, self.dtype)

    @property
    def real_positions(self) -> Array:
        """(N, T_dec): one where the target is a character of the sentence or its "\\n",
        zero on padding."""
        steps = np.arange(self.decoder_ids.shape[1] - 1)
        lengths = np.zeros_like(self.decoder_lengths) if self.weightless else self.decoder_lengths
        return (steps < lengths[:, None] - 1).astype(self.dtype)

    @property
    def sums(self) -> tuple[float, float]:
        """The sums of `target_weights` and of `real_positions`, without making these arrays."""
        rows, steps = len(self), self.decoder_ids.shape[1] - 1
        real = 0.0 if self.weightless else float(self.decoder_lengths.sum() - rows)
        return (real if self.padding == "mask" or self.weightless else float(rows * steps)), real


def _encoded(texts: Iterator[str], vocabulary: CharVocabulary, count: int, width: int) -> Ids:
    """Ids (count, width) of so many texts."""
    ids = np.empty((count, width), vocabulary.ids_dtype)
    for start in range(0, count, TEXTS_AT_ONCE):
        piece = list(islice(texts, TEXTS_AT_ONCE))
        ids[start : start + len(piece)] = vocabulary.encode(piece, width)[0]
    return ids


@dataclass(frozen=True, eq=False)
class Batches:
    """An epoch: the rows of `corpus` in the order of `rows`,
    cut into batches; the last one may be smaller."""

    corpus: Batch
    rows: NDArray[np.integer]
    batch_size: int
    trimmed: bool = False  # whether each batch is trimmed
    rank: int = 0  # of the worker whose shard of each batch is taken, in a group of so many:
    workers: int = 1

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.rows), self.batch_size):
            batch = self.corpus.take(self.rows[start : start + self.batch_size])
            yield (batch.trimmed() if self.trimmed else batch).shard(self.rank, self.workers)

    def part(self, first: int, last: int) -> "Batches":
        """The batches from number `first` to before number `last`, counted from 0."""
        return replace(self, rows=self.rows[first * self.batch_size : last * self.batch_size])

    def whole(self) -> Batch:
        """All rows in this order as one batch."""
        return self.corpus.take(self.rows)


def epoch_order(num_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the training rows in an epoch, counted from 1.
    It depends on seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


def epoch_batches(
    corpus: Batch, rows: NDArray[np.integer], settings: TrainConfig, epoch: int
) -> Batches:
    """The batches of an epoch over these rows of the corpus.
    The order is the same for every backend.

    A bucketed batch holds rows of about the same lengths.
    """
    rows = rows[epoch_order(len(rows), settings.seed, epoch)]
    if settings.batches == "shuffled":
        return Batches(corpus, rows, settings.batch_size)
    encoder_widths = _widths(corpus.encoder_lengths[rows])
    decoder_widths = _widths(corpus.decoder_lengths[rows] - 1)
    # Rows are sorted by the widths that they are trimmed to, not by their lengths, so that rows of
    # one width stay shuffled. For the 7,991 training pairs of fra-eng 49 % of the positions are
    # left (73 % if rows are not sorted), and two rows of a batch meet again in the next epoch in 10
    # of 100 cases. If rows were sorted by their lengths, 46 % would be left, but two rows would
    # meet again in 53 of 100 cases.
    # The sort is stable, the decoder's widths first. The rows that are too few for a batch are of
    # any lengths, and they come last. Otherwise the smaller batch would always be the one with the
    # longest rows.
    whole = len(rows) // settings.batch_size * settings.batch_size
    alike = np.lexsort((encoder_widths[:whole], decoder_widths[:whole])).reshape(
        -1, settings.batch_size
    )
    order = np.random.default_rng([settings.seed, epoch, 1]).permutation(alike).ravel()
    return Batches(
        corpus, np.concatenate([rows[order], rows[whole:]]), settings.batch_size, trimmed=True
    )


def _widths(lengths: Ids) -> NDArray[np.uint16]:
    """Lengths (N,) rounded up to multiples of WIDTH_STEP.
    A slice that is wider than the corpus takes all of it."""
    return (-(-lengths // WIDTH_STEP) * WIDTH_STEP).astype(np.uint16)


def model_config(
    batch: Batch,
    decoder_vocabulary: CharVocabulary,
    latent_dim: int,
    dtype: Precision,
    model: ModelName = ModelConfig.model,
) -> ModelConfig:
    """The settings of a model that fits this corpus."""
    ids = decoder_vocabulary.id_of
    sizes = batch.num_encoder_tokens, batch.num_decoder_tokens
    longest = max(batch.encoder_ids.shape[1], max_decoded_length(batch.decoder_input_ids.shape[1]))
    return ModelConfig(
        *sizes, ids[START], ids[STOP], latent_dim, dtype, batch.padding, model, longest
    )


def max_decoded_length(max_decoder_seq_length: int) -> int:
    """The largest number of characters that decoding returns for a sentence.

    The example stops once a text is *longer* than the longest target,
    "\\t" and "\\n" counted, so one more comes out.
    """
    return max_decoder_seq_length + 1
