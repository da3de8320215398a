"""The rules of the grammar, each a function that yields English and French sentences.

The sentences come in full forms ("a apple", "je ai"); the grammar polishes them.
"""

from collections.abc import Iterator

Pairs = Iterator[tuple[str, str]]
