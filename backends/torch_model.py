"""The model in PyTorch.

Make a Seq2Seq and an RMSprop, give `train_step` a Batch at a time, and decode by `start` and
`step`. Before all this, `prepare` may choose a precision and a device.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


class Seq2Seq(nn.Module):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
        super().__init__()
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim, batch_first=True)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim, batch_first=True)
        self.dense = nn.Linear(latent_dim, num_decoder_tokens)
        # Keras's LSTM has one bias. The second one stays zero: with both trained,
        # their sum would step twice as far.
        for lstm in (self.encoder, self.decoder):
            nn.init.zeros_(lstm.bias_hh_l0).requires_grad_(False)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step,
        or after each row's own length where lengths (N,) are given."""
        if encoder_lengths is not None:
            encoder_input_data = pack_padded_sequence(
                encoder_input_data, encoder_lengths.cpu(), batch_first=True, enforce_sorted=False
            )
        _, (state_h, state_c) = self.encoder(encoder_input_data)  # (1, N, H) each
        return state_h[0], state_c[0]

    def decode(self, decoder_input_data, state_h, state_c):
        """Logits (N, T_dec, V_dec) and the next states (N, H)."""
        outputs, (state_h, state_c) = self.decoder(
            decoder_input_data, (state_h[None], state_c[None])
        )
        return self.dense(outputs), state_h[0], state_c[0]

    def forward(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return {
            "encoder/kernel": self.encoder.weight_ih_l0,
            "encoder/recurrent_kernel": self.encoder.weight_hh_l0,
            "encoder/bias": self.encoder.bias_ih_l0,
            "decoder/kernel": self.decoder.weight_ih_l0,
            "decoder/recurrent_kernel": self.decoder.weight_hh_l0,
            "decoder/bias": self.decoder.bias_ih_l0,
            "dense/kernel": self.dense.weight,
            "dense/bias": self.dense.bias,
        }


class Batch(NamedTuple):
    """N sentence pairs by `to_tensor`, padded to T_enc and T_dec characters
    with the space's one-hot.

    encoder_input_data  (N, T_enc, V_enc), one-hot
    decoder_input_data  (N, T_dec, V_dec), one-hot; begins with the tab
    decoder_target_data (N, T_dec, V_dec), one-hot; one step ahead, ends with the newline
    decoder_target_ids  (N, T_dec), int64
    target_weights      (N, T_dec), weight of each position in the loss: 1, or 0 on masked padding
    real_positions      (N, T_dec), 1 up to and with the target's end, 0 on padding
    loss_positions      (), divisor of the summed loss, usually the sum of target_weights
    encoder_lengths     (N,), int64, from 1 to T_enc; None where padding counts
    """

    encoder_input_data: Tensor
    decoder_input_data: Tensor
    decoder_target_data: Tensor
    decoder_target_ids: Tensor
    target_weights: Tensor
    real_positions: Tensor
    loss_positions: Tensor
    encoder_lengths: Tensor | None = None


def has_gpu():
    """True if the framework sees a GPU."""
    return torch.cuda.is_available()


def prepare(dtype="float32", device="cpu"):
    """Make models of this precision, "float32" or "float64",
    on this device, "cpu" or "gpu", from now on."""
    torch.set_default_dtype(getattr(torch, dtype))
    torch.set_default_device({"cpu": None, "gpu": "cuda"}[device])


def layout(name, array):
    """A weight in torch's layout, given in Keras's, or the other way round."""
    return np.ascontiguousarray(array.T)


def loss_of(logits, batch):
    """The loss, and its counts (3,): summed cross-entropy, right positions,
    right positions that are no padding."""
    # It takes the classes in the second axis, here of (N * T_dec, V_dec).
    cross_entropy = F.cross_entropy(
        logits.flatten(0, 1), batch.decoder_target_data.flatten(0, 1), reduction="none"
    )
    loss_sum = (batch.target_weights.flatten() * cross_entropy).sum()
    right = (logits.argmax(-1) == batch.decoder_target_ids) * batch.target_weights  # (N, T_dec)
    counts = torch.stack([loss_sum.detach(), right.sum(), (right * batch.real_positions).sum()])
    return loss_sum / batch.loss_positions, counts


class RMSprop:
    """Keras's RMSprop: epsilon stands inside the root."""

    # Usually: torch.optim.RMSprop, which adds epsilon outside the root. This is no subclass of
    # torch.optim.Optimizer: the first that is made imports torch's compiler, which takes a second.

    def __init__(self, model, learning_rate=1e-3, rho=0.9, epsilon=1e-7):
        self.weights = list(model.named_weights().values())
        self.mean_squares = [torch.zeros_like(weight) for weight in self.weights]
        self.learning_rate, self.rho, self.epsilon = learning_rate, rho, epsilon

    @torch.no_grad()
    def step(self):
        for weight, mean_square in zip(self.weights, self.mean_squares, strict=True):
            mean_square.mul_(self.rho).addcmul_(weight.grad, weight.grad, value=1 - self.rho)
            weight.addcdiv_(
                weight.grad, (mean_square + self.epsilon).sqrt_(), value=-self.learning_rate
            )


def gradients(model, batch):
    """The loss, its counts (3,), and the gradient of each weight by its name."""
    model.train()
    logits, *_ = model(batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths)
    loss, counts = loss_of(logits, batch)
    model.zero_grad()
    loss.backward()
    by_name = {name: weight.grad for name, weight in model.named_weights().items()}
    return loss.detach(), counts, by_name


def train_step(model, optimizer, batch):
    """The loss and its counts (3,) before the step."""
    loss, counts, _ = gradients(model, batch)
    optimizer.step()
    return loss, counts


@torch.inference_mode()
def evaluate_step(model, batch):
    """The loss and its counts (3,)."""
    model.eval()
    logits, *_ = model(batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths)
    return loss_of(logits, batch)


@torch.inference_mode()
def forward(model, batch):
    """Probabilities (N, T_dec, V_dec) and the encoder's states."""
    model.eval()
    logits, *states = model(
        batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths
    )
    return F.softmax(logits, -1), *states


@torch.inference_mode()
def start(model, encoder_input_data, encoder_lengths=None):
    """The states from which decoding starts; with lengths if the model was trained with them."""
    model.eval()
    return model.encode(encoder_input_data, encoder_lengths)


@torch.inference_mode()
def step(model, decoder_input_data, *states):
    """One character (N, V_dec) further: logits (N, V_dec) and the next states."""
    logits, *states = model.decode(decoder_input_data[:, None], *states)
    return logits[:, 0], *states


@torch.inference_mode()
def take(state, rows):
    """The rows of a state that `rows` (R,) name, in their order."""
    return state[rows]


@torch.no_grad()
def assign(weight, array):
    """Set a weight in place, to an array of this framework's layout and the model's precision."""
    weight.copy_(torch.as_tensor(array))


def to_tensor(array):
    """The array's numbers on the device, in its own precision: the model's, or int64."""
    return torch.as_tensor(array)


def to_array(tensor):
    """A copy of the tensor's numbers, from any device."""
    return np.array(tensor.numpy(force=True))
