"""Models of PyTorch users who never heard of Rosetta, saved as they save them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backends.interface import Backend, Emit
from backends.torch_model import Seq2Seq
from tests.support.child import Malicious


class Translator(nn.Module):
    """Two biases an LSTM, both trained."""

    def __init__(self, source: int, target: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(source, hidden, batch_first=True)
        self.decoder = nn.LSTM(target, hidden, batch_first=True)
        self.dense = nn.Linear(hidden, target)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.dense(self.decoder(y, self.encoder(x)[1])[0])


def save(backend: Backend, emit: Emit, *, folder: str, optimizer: str) -> Mapping[str, Any]:
    """A trained Translator in model.pt, its optimizer in optimizer.pt;
    its weights by name, slots, and `outputs`.

    The optimizer is "all" for one over all parameters, "first" for one that leaves the second
    biases as they are, "none" for one that took no step, or "adam".
    """
    config = backend.config
    torch.manual_seed(5)
    model = Translator(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
    if optimizer == "first":
        for lstm in (model.encoder, model.decoder):
            lstm.bias_hh_l0.requires_grad_(False)
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.RMSprop
    rmsprop = kind(model.parameters(), lr=1e-2)
    x, y = torch.rand(3, 4, config.num_encoder_tokens), torch.rand(3, 5, config.num_decoder_tokens)
    if optimizer != "none":
        for _ in range(2):
            rmsprop.zero_grad()
            model(x, y).square().mean().backward()
            rmsprop.step()
    torch.save(model.state_dict(), Path(folder) / "model.pt")
    torch.save(rmsprop.state_dict(), Path(folder) / "optimizer.pt")
    slots = [(name, rmsprop.state[p].get("square_avg")) for name, p in model.named_parameters()]
    arrays = {f"slot {name}": slot.numpy() for name, slot in slots if slot is not None}
    arrays |= {"x": x.numpy(), "y": y.numpy(), "outputs": model(x, y).numpy(force=True)}
    return arrays | {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def opens(backend: Backend, emit: Emit, *, paths: list[str]) -> Mapping[str, Any]:
    """A weight and its slot as torch's own model and optimizer have them from our files,
    and train on with them."""
    model, optimizer = (torch.load(path, weights_only=True) for path in paths)
    fresh = Seq2Seq(
        backend.config.num_encoder_tokens,
        backend.config.num_decoder_tokens,
        backend.config.latent_dim,
    )
    fresh.load_state_dict(model)
    trained = [
        parameter for name, parameter in fresh.named_parameters() if not name.endswith("bias_hh_l0")
    ]
    rmsprop = torch.optim.RMSprop(trained)
    rmsprop.load_state_dict(optimizer)
    fresh.dense.weight.square().sum().backward()
    rmsprop.step()  # of the dense layer alone: nothing else has a gradient
    weight = fresh.encoder.weight_ih_l0
    slot = rmsprop.state[weight]["square_avg"]
    return {"encoder/kernel": weight.numpy(force=True).T, "slot encoder/kernel": slot.numpy().T}


def save_other(backend: Backend, emit: Emit, *, folder: str) -> list[str]:
    """State dicts that are no model of ours: each file's name says why."""
    config = backend.config
    sizes = source, target, hidden = (
        config.num_encoder_tokens,
        config.num_decoder_tokens,
        config.latent_dim,
    )
    good = Translator(*sizes).state_dict()
    huge = torch.zeros(1).expand(1 << 20, 1 << 20)  # four bytes on disk
    contents: dict[str, Any] = {
        "float16": Translator(*sizes).half().state_dict(),
        "bfloat16": Translator(*sizes).bfloat16().state_dict(),
        "layers": nn.ModuleList([nn.LSTM(source, hidden, 2), nn.LSTM(target, hidden)]).state_dict(),
        "huge": {**good, "dense.weight": huge},
        "nested": {"model": good, "epoch": 3},
        "malicious": Malicious(folder),
        "model": Translator(*sizes),
    }
    for name, content in contents.items():
        torch.save(content, Path(folder) / f"{name}.pt")
    return [*contents]
