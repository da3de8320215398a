"""Damage at random: to bytes of any kind, and to JSON where each value may become a hostile one. What is damaged."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from common.weights import Arrays

Damage = Callable[[bytes, random.Random], bytes]
# As a format may have them.
LENGTHS = [b"\xff" * 4, b"\xff" * 8, (1 << 31).to_bytes(8, "little"), b"\xff\xff\xff\x0f"]
DEPTH = 100_000
# Texts of JSON that take a value's place: numbers, nesting, long and odd strings, other types, a key twice.
HOSTILE = [
    *("0", "-1", "1.5", "1e400", "-1e308", "NaN", "-Infinity", "9223372036854775808", "9" * 5000, "1e-320"),
    *'null true [] {} [[]] [{"a":null}]'.split(),
    *("[" * DEPTH + "]" * DEPTH, '{"a": ' * DEPTH + "1" + "}" * DEPTH),
    *('""', '"\\u001b[2J"', '"\\u202e\\u009b2J\\n\\r"', '"\\u0000"', '"\\ud800"', '"a\\u2028b"', '"é\u202e\u2028"'),
    *('"' + "é" * 20_000 + '"', '"' + "\\\\" * 1000 + '"', '{"a": 1, "a": "2"}', '"../../etc/passwd"', '"float64"'),
    *("[" + "1," * 20_000 + "1]", '{"format": {"format": []}}', '"\t"', "", "'"),
]
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
    for _ in range(min(len(arrays), rng.randint(1, 3))):
        name = rng.choice(sorted(arrays))
        array = arrays.pop(name)
        found = [
            array.T,
            array.reshape(-1),
            array[None] if array.ndim < 64 else array,
            array.reshape((1,) * min(rng.choice([29, 33, 64]), 64 - array.ndim) + array.shape),
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
    return with_huge_shapes(made, rng) if huge else made


def with_huge_shapes(whole: bytes, rng: random.Random) -> bytes:
    """A whole file of safetensors whose arrays of no numbers have other axes of any size."""
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])
    for entry in header.values():
        if 0 in entry.get("shape", ()):
            entry["shape"] = [0, *(rng.choice([1, 1 << 31, (1 << 63) - 1]) for _ in range(rng.randint(1, 40)))]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + whole[end:]


def damaged_json(whole: bytes, rng: random.Random) -> bytes:
    """JSON in which one or two values became hostile, a key is gone, has another name or stands there twice."""
    text = json.dumps(changed(json.loads(whole), rng), ensure_ascii=rng.random() < 0.5)
    while (mark := json.dumps(MARK)) in text:
        text = text.replace(mark, rng.choice(HOSTILE), 1)
    return text.encode(errors="surrogatepass")


def damaged_json_lines(whole: bytes, rng: random.Random) -> bytes:
    """Lines of JSON of which one is damaged, as `damaged_json` does it, stands there again, or is gone."""
    lines = whole.splitlines()
    kinds = [
        line[:20] for line in lines
    ]  # so that a line of a rare kind is damaged as often as one of a frequent one
    place, other = kinds.index(rng.choice(sorted({*kinds}))), rng.randrange(len(lines))
    lines[place] = damaged_json(lines[place], rng)
    match rng.randrange(8):
        case 0:
            lines.insert(other, lines[rng.randrange(len(lines))])
        case 1:
            del lines[other]
    return b"".join(line + b"\n" for line in lines)


def changed(content: Any, rng: random.Random) -> Any:
    """The content with one or two changes, each at any depth."""
    for _ in range(rng.randint(1, 2)):
        content = _changed(content, rng)
    return content


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
