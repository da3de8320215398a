"""Damage at random: to the bytes of a file, or to its values in the way of its kind."""

import io
import json
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from tests.nightly.attack import HARMED
from tests.support.foreign_files import zipped

Damage = Callable[[bytes, random.Random], bytes]
# As formats have them.
LENGTHS = [b"\xff" * 4, b"\xff" * 8, (1 << 31).to_bytes(8, "little"), b"\xff\xff\xff\x0f"]
DEPTH = 100_000
# JSON that takes a value's place: numbers, other types, nesting,
# long and odd strings, a key twice, no JSON at all.
HOSTILE = "0 -1 1.5 1e400 -1e308 NaN -Infinity 9223372036854775808 1e-320".split()
HOSTILE += 'null true [] {} [[]] "float64"'.split()
HOSTILE += [
    "9" * 5000,
    "[" * DEPTH + "]" * DEPTH,
    '{"a": ' * DEPTH + "1" + "}" * DEPTH,
    "[" + "1," * 20_000 + "1]",
]
HOSTILE += [
    '""',
    '"\\u202e\\u009b2J\\n\\r"',
    '"\\u0000"',
    '"\\ud800"',
    '"é\u202e\u2028"',
    '"\t"',
    "",
    "'",
]
HOSTILE += [
    f'"{"é" * 20_000}"',
    '"../../etc/passwd"',
    '{"format": {"format": []}}',
    '{"a": 1, "a": "2"}',
]
MARK = "hostile value"
KEYS = ["", "x", "\x1b[2J\u202e", "é\n" * 100, "__class__", "kind", "version"]
# Pieces of a text: what separates, ends or combines, for Unicode,
# Python or an editor; no text; words with a meaning.
ODD = "\u2028|\u2029|\x85|\x0b|\x0c|\x1c|\x1e|\r|\r\n|\x00|\ufeff|\u202e|\x1b[2J".split("|")
ODD += "\u0958|\ufb1d|👩\u200d🚀".split("|")
ODD += [
    "\u0301" * 40,
    "\U000e0001",
    "\uffff",
    "\ud800",
    "\udc80",
    "a" * 1100,
    "\u00a0",
    *"\t\t\t\n\n\nabcé 犬",
]
ODD += [
    "9" * 900,
    "(" * 900,
    "a " * 200,
    *"-1 1e308 nan {i} {i+1} * _ [0,0] ( () -> = , \" ' axes order".split(),
]
PIECES = [text.encode(errors="surrogatepass") for text in ODD]
PIECES += [b"\xff\xfe", b"\xc3", b"\xf0\x9f", b"\xc0\x80", b"x" * 70_000, b"PK\x03\x04"]
LARGE = [b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"J\x00\x00\x00\x40"]  # numbers in a pickle
CALLS: list[tuple[str, str, tuple[Any, ...]]] = [  # by a pickle: module, name and arguments
    ("os", "system", (f"touch {HARMED}",)),
    ("builtins", "eval", (f"open({HARMED!r}, 'w')",)),
    ("builtins", "bytearray", (1 << 40,)),
    ("torch", "Size", ([1 << 62, 1 << 62],)),
    ("torch._utils", "_rebuild_tensor_v2", (1, 2, (3,), (1,), False, None)),
    ("collections", "OrderedDict", ([("a", 1), ("a", [])],)),
]


def damaged_file(name: str, whole: bytes, rng: random.Random) -> bytes:
    """Return the content of a file of this name with damage to its bytes,
    or in the way of its suffix."""
    return rng.choice([damaged, OF_A_KIND.get(PurePath(name).suffix, damaged)])(whole, rng)


def bit_flipped(name: str, whole: bytes, rng: random.Random) -> bytes:
    content = bytearray(whole)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """Change the bytes one to four times: a piece goes, comes twice,
    moves, or is another byte or length."""
    content = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        first, second = (rng.randint(0, len(content)) for _ in range(2))
        copied = bytes(content[second : second + 64]) * rng.randrange(1, 100)
        new = rng.choice([rng.randbytes(1), rng.choice(LENGTHS), b"", copied])
        replaced = rng.choice([0, len(new), 64, len(content)] if new else [1, 64, len(content)])
        content[first : first + replaced] = new
    return bytes(content)


def odd_text(whole: bytes, rng: random.Random) -> bytes:
    """Replace some words of a text, and what is between words,
    by odd pieces or by other words of it."""
    words = re.findall(rb"\w+|\W", whole) or [b""]
    for _ in range(rng.choice([1, 3, 30])):
        words[rng.randrange(len(words))] = rng.choice([rng.choice(PIECES), rng.choice(words)])
    return b"".join(words)


def odd_member(whole: bytes, rng: random.Random) -> bytes:
    """Damage a member of an archive, whose checksum is then right.
    Each kind of member is as likely as the others."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        method = archive.infolist()[-1].compress_type
    kind = rng.choice(sorted({PurePath(name).suffix for name in members}))
    name = rng.choice([name for name in members if PurePath(name).suffix == kind])
    return zipped(members | {name: damaged_file(name, members[name], rng)}, method)


def hostile_pickle(whole: bytes, rng: random.Random) -> bytes:
    """Give a pickle another size of something, or have it call something,
    by itself or in a state dict."""
    if rng.random() < 0.5:
        # Numbers of one byte.
        place = rng.choice([match.start() for match in re.finditer(rb"K.", whole, re.DOTALL)])
        return whole[:place] + rng.choice(LARGE) + whole[place + 2 :]
    module, name, arguments = rng.choice(CALLS)
    call = f"c{module}\n{name}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R"
    within = rng.choice([call, b"}" + pickle.dumps("encoder.weight_ih_l0", 2)[2:-1] + call + b"s"])
    return b"\x80\x02" + within + b"."


def odd_arrays(whole: bytes, rng: random.Random) -> bytes:
    """Give one to three arrays of safetensors another shape,
    type, name or number, or take them away."""
    arrays = load(whole)
    for name in rng.sample(sorted(arrays), min(len(arrays), rng.randint(1, 3))):
        array = arrays.pop(name)
        changed = [
            array.reshape(-1) if rng.random() < 0.5 else array.T,
            array.reshape((1,) * (rng.choice([1, 29, 33, 64]) - array.ndim) + array.shape),
            array[(slice(1),) * array.ndim],  # which any array broadcasts with
            array[:0] if array.ndim else array,
            np.nan_to_num(array).astype(rng.choice(["f4", "f2", "?"])),
            np.where(np.arange(array.size).reshape(array.shape) == 1, np.nan, array),
            rng.choice([*arrays.values(), array]),
        ]
        if rng.randrange(10):
            arrays[name if rng.randrange(10) else rng.choice(KEYS)] = rng.choice(changed)
    content = save(
        {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    )
    end = 8 + int.from_bytes(content[:8], "little")
    # Of an array that has no numbers.
    shape = [0, *rng.choices([1, 1 << 31, (1 << 63) - 1], k=rng.randint(0, 40))]
    header = re.sub(rb'"shape":\[0.*?\]', f'"shape":{shape}'.encode(), content[8:end])
    return len(header).to_bytes(8, "little") + header + content[end:]


def damaged_json(whole: bytes, rng: random.Random) -> bytes:
    """Change one or two values of JSON: another or a hostile value,
    gone, twice, or under another key.

    Hostile values take their places when all else is written, since no writer makes them.
    """
    content, ascii_only = json.loads(whole), rng.random() < 0.5
    for _ in range(rng.randint(1, 2)):
        content = _changed(content, rng)
    text = json.dumps(content, ensure_ascii=ascii_only)
    while (mark := json.dumps(MARK)) in text:
        text = text.replace(mark, rng.choice(HOSTILE), 1)
    return text.encode(errors="surrogatepass")


def damaged_json_lines(whole: bytes, rng: random.Random) -> bytes:
    """Damage a line of JSON lines as `damaged_json` does,
    or have it stand there again, or take it away."""
    lines = whole.splitlines()
    # So that a line of a rare kind is damaged as often as a frequent one.
    kinds = [line[:20] for line in lines]
    place, target = kinds.index(rng.choice(sorted({*kinds}))), rng.randrange(len(lines))
    lines[place] = damaged_json(lines[place], rng)
    lines[target : target + 1] = rng.choice(
        [[], [lines[target], rng.choice(lines)], *6 * [[lines[target]]]]
    )
    return b"".join(line + b"\n" for line in lines)


def _changed(content: Any, rng: random.Random) -> Any:
    """Make one change; every level is as likely as the others."""
    if isinstance(content, int | float) and rng.random() < 0.5:  # another number that may be right
        return rng.choice([-content, 1000 * content, content + 1, content / 2, 0, 1])
    if not content or not isinstance(content, dict | list) or rng.randrange(5) == 0:
        return MARK
    pairs = list(content.items() if isinstance(content, dict) else enumerate(content))
    place = rng.randrange(len(pairs))
    key, value = pairs[place]
    more = rng.choice(KEYS), rng.choice([value, MARK])
    pairs[place : place + 1] = rng.choice(
        [[], [more], [(key, value), more], *7 * [[(key, _changed(value, rng))]]]
    )
    return dict(pairs) if isinstance(content, dict) else [value for _, value in pairs]


OF_A_KIND: dict[str, Damage] = {
    ".json": damaged_json,
    ".jsonl": damaged_json_lines,
    **dict.fromkeys((".pdparams", ".pkl"), hostile_pickle),
    ".safetensors": odd_arrays,
    **dict.fromkeys((".toml", ".txt"), odd_text),
    **dict.fromkeys((".pt", ".zip"), odd_member),
}
