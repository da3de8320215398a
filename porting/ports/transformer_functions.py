"""The same Transformer in torch without modules: `python SCRIPT RECORD MODULES` records it, with
the weights of the record of modules."""

import sys

import torch
from safetensors.numpy import load_file
from shared import FAST, MOMENTUM, batches
from torch.nn import ParameterDict
from torch.nn import functional as F

from rosetta_record import Record, tap

HEADS, SIZE = 2, 4


def linear(w: ParameterDict, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ w[f"{name}_kernel"] + w[f"{name}_bias"]


def transformer(w: ParameterDict, ids: torch.Tensor) -> torch.Tensor:  # (batch, time)
    x = w["words"][ids]
    q, k, v = (
        linear(w, name, x).unflatten(-1, (HEADS, SIZE)) for name in ("query", "key", "value")
    )
    q = q * SIZE**-0.5
    scores = tap("scores", torch.einsum("nthd,nshd->nhts", q, k))
    scores = tap("masked scores", torch.where(ids[:, None, None] != 0, scores, -torch.inf))
    context = tap("context", torch.einsum("nhts,nshd->nthd", torch.softmax(scores, -1), v))
    x = x + linear(w, "out", context.flatten(-2))
    wide = tap("activated", F.gelu(linear(w, "wide", x)))
    return linear(w, "tags", x + linear(w, "narrow", wide))


def loss_of(w: ParameterDict, batch: dict) -> tuple:
    ids, tags = torch.from_numpy(batch["ids"]), torch.from_numpy(batch["tags"])
    logits = transformer(w, ids)
    return F.cross_entropy(logits[ids != 0], tags[ids != 0]), {"logits": logits}


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    weights = {}
    for name, array in load_file(f"{sys.argv[2]}/weights.safetensors").items():
        layer, _, role = name.rpartition(".")
        key = layer if layer == "words" else f"{layer}_{'kernel' if role == 'weight' else role}"
        weights[key] = torch.from_numpy(array if layer == "words" else array.T.copy())
    Record(sys.argv[1]).training(
        ParameterDict(weights), batches(), loss_of, lambda own: torch.optim.SGD(own, FAST, MOMENTUM)
    )
