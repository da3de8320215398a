"""Damage at random: to bytes of any kind, to arrays, and to values, each of which may become a hostile one."""

import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from common.weights import Arrays

Damage = Callable[[bytes, random.Random], bytes]
# As a format may have them.
LENGTHS = [b"\xff" * 4, b"\xff" * 8, (1 << 31).to_bytes(8, "little"), b"\xff\xff\xff\x0f"]
DEPTH = 100_000
# Texts of JSON that take a value's place: numbers, nesting, long and odd strings, other types, a key twice.
HOSTILE_TEXTS = [
    *("0", "-1", "1.5", "1e400", "-1e308", "NaN", "-Infinity", "9223372036854775808", "9" * 5000, "1e-320"),
    *'null true [] {} [[]] [{"a":null}]'.split(),
    *("[" * DEPTH + "]" * DEPTH, '{"a": ' * DEPTH + "1" + "}" * DEPTH),
    *('""', '"\\u001b[2J"', '"\\u202e\\u009b2J\\n\\r"', '"\\u0000"', '"\\ud800"', '"a\\u2028b"', '"é\u202e\u2028"'),
    *('"' + "é" * 20_000 + '"', '"' + "\\\\" * 1000 + '"', '{"a": 1, "a": "2"}', '"../../etc/passwd"', '"float64"'),
    *("[" + "1," * 20_000 + "1]", '{"format": {"format": []}}', '"\t"', "", "'"),
]
HOSTILE = [text.encode() for text in HOSTILE_TEXTS]
MARK = "hostile value"
KEYS = ["", "x", "\x1b[2J\u202e", "é\n" * 100, "__class__", "kind", "version"]


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def layer_tensors(weights: Arrays) -> Arrays:
    """Weights, or their slots, by the names and in the layout of Paddle's layers, which are almost torch's."""
    tensors = {}
    for role in ("encoder", "decoder"):
        for kind, tensor in {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}.items():
            tensors[f"{role}.{tensor}_l0"] = weights[f"{role}/{kind}"].T
        tensors[f"{role}.bias_hh_l0"] = np.zeros_like(weights[f"{role}/bias"])
    return tensors | {"dense.weight": weights["dense/kernel"], "dense.bias": weights["dense/bias"]}


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes: of a byte, of a length, of a piece that goes, comes twice or moves."""
    content = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        first, second = sorted(rng.randint(0, len(content)) for _ in range(2))
        piece = content[first : min(second, first + 64)]
        match rng.randrange(6):
            case 0 | 1:
                content[first : first + 1] = rng.randbytes(1)
            case 2:
                length = rng.choice(LENGTHS)
                content[first : first + len(length)] = length
            case 3:
                del content[first : first + len(piece)]
            case 4:
                content[second:second] = bytes(piece) * rng.randrange(1, 100)
            case 5:
                del content[second:]
    return bytes(content)


def bit_flipped(whole: bytes, rng: random.Random) -> bytes:
    content = bytearray(whole)
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def odd_arrays(whole: bytes, rng: random.Random) -> bytes:
    """A whole file of safetensors of which one to three arrays have another shape, type or name, or are gone."""
    arrays, huge = load(whole), rng.random() < 0.1
    for name in rng.sample(sorted(arrays), min(len(arrays), rng.randint(1, 3))):
        array = arrays.pop(name)
        found = [
            array.T,
            array.reshape(-1),
            array.reshape((1,) * (rng.choice([1, 29, 33, 64]) - array.ndim) + array.shape),
            array[(slice(1),) * array.ndim],  # which any array broadcasts with
            array[..., :0] if array.ndim else array,
            np.nan_to_num(array).astype(rng.choice(["f4", "f2", "?"])),
            np.where(np.arange(array.size).reshape(array.shape) == 1, np.nan, array),
            rng.choice([*arrays.values(), array]),
            None,
        ]
        changed = array[:0] if huge and array.ndim else rng.choice(found)
        if changed is not None:
            arrays[name if rng.randrange(10) else rng.choice(KEYS)] = changed
    made = save({name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()})
    if not huge:
        return made
    end, sizes = (
        8 + int.from_bytes(made[:8], "little"),
        rng.choices([1, 1 << 31, (1 << 63) - 1], k=rng.randint(1, 40)),
    )
    shape = f'"shape":{[0, *sizes]}'.encode()  # since an array of no numbers may have other axes of any size
    header = re.sub(rb'"shape":\[0.*?\]', shape, made[8:end])
    return len(header).to_bytes(8, "little") + header + made[end:]


def damaged_json(whole: bytes, rng: random.Random) -> bytes:
    """JSON of which one or two values are changed; see `with_changes`."""
    ascii_only = rng.random() < 0.5

    def packed(content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=ascii_only).encode(errors="surrogatepass")

    return with_changes(json.loads(whole), rng, packed, HOSTILE)


def damaged_json_lines(whole: bytes, rng: random.Random) -> bytes:
    """Lines of JSON of which one is damaged, as `damaged_json` does it, stands there again, or is gone."""
    lines = whole.splitlines()
    kinds = [line[:20] for line in lines]  # so that a line of a rare kind is damaged as often as a frequent one
    place, other = kinds.index(rng.choice(sorted({*kinds}))), rng.randrange(len(lines))
    lines[place] = damaged_json(lines[place], rng)
    lines[other : other + 1] = rng.choice([[], [lines[other], rng.choice(lines)], *6 * [[lines[other]]]])
    return b"".join(line + b"\n" for line in lines)


def with_changes(content: Any, rng: random.Random, packed: Callable[[Any], bytes], hostile: Sequence[bytes]) -> bytes:
    """The content, packed, with one or two changes: a value is another one or hostile, a key is gone, has another
    name or stands there twice. Hostile values take their places when all else is packed, since no packer makes them.
    """
    for _ in range(rng.randint(1, 2)):
        content = _changed(content, rng)
    whole = packed(content)
    while (mark := packed(MARK)) in whole:
        whole = whole.replace(mark, rng.choice(hostile), 1)
    return whole


def _changed(content: Any, rng: random.Random) -> Any:
    """The content with one change; every level is as likely as the others."""
    if isinstance(content, int | float) and rng.random() < 0.5:  # another one that may be right
        return rng.choice([-content, 1000 * content, content + 1, content / 2, 0, 1])
    if not content or not isinstance(content, dict | list) or rng.randrange(5) == 0:
        return MARK
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = rng.choice(keys)
    copied: Any = content.copy()
    match rng.randrange(12):
        case 0:
            del copied[key]
        case 1 if isinstance(copied, dict):
            copied[rng.choice(KEYS)] = copied.pop(key)
        case 2 if isinstance(copied, dict):
            copied[rng.choice(KEYS)] = MARK
        case 3 if isinstance(copied, list):
            copied.insert(key, content[rng.choice(keys)])
        case _:
            copied[key] = _changed(content[key], rng)
    return copied
