"""Models of Paddle users who never heard of Rosetta, saved as they save them."""

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import nn

from backends.interface import Backend, Emit
from backends.paddle_model import Seq2Seq


class Translator(nn.Layer):
    """Two biases an LSTM, both trained."""

    def __init__(self, source: int, target: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(source, hidden)
        self.decoder = nn.LSTM(target, hidden)
        self.dense = nn.Linear(hidden, target)

    def forward(self, x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
        return self.dense(self.decoder(y, self.encoder(x)[1])[0])


def save(
    backend: Backend, emit: Emit, *, folder: str, optimizer: str, protocol: int = 4
) -> Mapping[str, Any]:
    """A trained Translator in model.pdparams, its optimizer in model.pdopt;
    weights by name, slots, and `outputs`.

    The optimizer is "all" for one over all parameters, "first" for one that leaves the second
    biases as they are, "none" for one that took no step, or "adam".
    """
    config = backend.config
    paddle.seed(5)
    model = Translator(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
    for lstm in (model.encoder, model.decoder):  # Paddle begins with zeros
        nn.initializer.Uniform(-0.5, 0.5)(lstm.bias_ih_l0)
        nn.initializer.Uniform(-0.5, 0.5)(lstm.bias_hh_l0)
    trained = [
        p for name, p in model.named_parameters() if optimizer != "first" or "bias_hh" not in name
    ]
    kind = paddle.optimizer.Adam if optimizer == "adam" else paddle.optimizer.RMSProp
    rmsprop = kind(1e-2, parameters=trained)
    x = paddle.rand((3, 4, config.num_encoder_tokens))
    y = paddle.rand((3, 5, config.num_decoder_tokens))
    if optimizer != "none":
        for _ in range(2):
            model.clear_gradients()
            model(x, y).square().mean().backward()
            rmsprop.step()
    paddle.save(model.state_dict(), f"{folder}/model.pdparams", protocol=protocol)
    paddle.save(rmsprop.state_dict(), f"{folder}/model.pdopt", protocol=protocol)
    state = rmsprop.state_dict()
    slots = [(name, state.get(f"{p.name}_mean_square_0")) for name, p in model.named_parameters()]
    arrays = {f"slot {name}": slot.numpy() for name, slot in slots if slot is not None}
    arrays |= {"x": x.numpy(), "y": y.numpy(), "outputs": model(x, y).numpy()}
    return arrays | {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def opens(backend: Backend, emit: Emit, *, paths: list[str]) -> Mapping[str, Any]:
    """A weight and its slot as Paddle itself reads our files."""
    model, optimizer = (paddle.load(path) for path in paths)
    fresh = Seq2Seq(
        backend.config.num_encoder_tokens,
        backend.config.num_decoder_tokens,
        backend.config.latent_dim,
    )
    missing, unexpected = fresh.set_state_dict(model)
    assert not missing, missing
    assert not unexpected, unexpected
    own_name = model["encoder.weight_ih_l0"].name
    slot = optimizer[f"{own_name}_mean_square_0"]
    return {
        "encoder/kernel": fresh.encoder.weight_ih_l0.numpy().T,
        "slot encoder/kernel": slot.numpy().T,
    }
