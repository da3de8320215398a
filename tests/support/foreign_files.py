"""Files as other programs write them."""

import io
import zipfile

import numpy as np

from common.weights import Arrays


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def layer_tensors(weights: Arrays) -> Arrays:
    """Weights, or their slots, by the names and in the layout of Paddle's layers,
    which are almost torch's."""
    tensors = {}
    for role in ("encoder", "decoder"):
        for kind, tensor in {
            "kernel": "weight_ih",
            "recurrent_kernel": "weight_hh",
            "bias": "bias_ih",
        }.items():
            tensors[f"{role}.{tensor}_l0"] = weights[f"{role}/{kind}"].T
        tensors[f"{role}.bias_hh_l0"] = np.zeros_like(weights[f"{role}/bias"])
    return tensors | {"dense.weight": weights["dense/kernel"], "dense.bias": weights["dense/bias"]}
