"""Vocabularies, which turn characters into ids and back."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import UnknownCharactersError
from common.stored import in_pieces

PAD = " "  # the example pads with the space, so every vocabulary has one


class CharVocabulary:
    """The sorted characters of one side of a corpus; a character's id is its rank.

    The space is always a member, since it pads.
    """

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = tuple(sorted({*characters, PAD}))
        self.id_of = {character: i for i, character in enumerate(self.characters)}
        code_points = [ord(c) for c in self.characters]
        # The id of each code point. Code points that are not in the vocabulary have the last id plus one, as has the
        # last place, to which `encode` clips all greater code points.
        self.ids_dtype = np.min_scalar_type(len(self.characters))
        self._ids = np.full(code_points[-1] + 2, len(self.characters), self.ids_dtype)
        self._ids[code_points] = np.arange(len(self.characters))

    @classmethod
    def of(cls, texts: Iterable[str]) -> "CharVocabulary":
        """The vocabulary of all characters in `texts`."""
        characters: set[str] = set()
        for piece in in_pieces(texts):
            characters.update(*piece)
        return cls(characters)

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, texts: Sequence[str], width: int = 0) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int32]]:
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

    def lacks(self, text: str) -> set[str]:
        """The characters of `text` that this vocabulary has not."""
        return set(text) - self.id_of.keys()

    def without_unknown(self, text: str) -> str:
        """`text` with the characters that this vocabulary lacks dropped."""
        return "".join(c for c in text if c in self.id_of)
