"""The model in PaddlePaddle.

Make a Seq2Seq and an RMSprop, give `train_step` a Batch at a time, and decode by `start` and
`step`. Before all this, `prepare` may choose a precision and a device.
"""

from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class Seq2Seq(nn.Layer):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
        super().__init__()
        # Keras's LSTM has one bias. The second one stays zero, and is not given to the optimizer:
        # with both trained, their sum would step twice as far. Without it Paddle 3.3 crashes in the
        # forward pass, and where it is frozen the backward pass fails (upstream 58158, 70231).
        zeros = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim, bias_hh_attr=zeros)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim, bias_hh_attr=zeros)
        self.dense = nn.Linear(latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step,
        or after each row's own length where lengths (N,) are given."""
        # (1, N, H) each
        _, (state_h, state_c) = self.encoder(encoder_input_data, sequence_length=encoder_lengths)
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
    encoder_lengths     (N,), int64, 1 to T_enc, or Paddle 3.3 crashes; None where padding counts
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
    return paddle.device.cuda.device_count() > 0


def prepare(dtype="float32", device="cpu"):
    """Make models of this precision, "float32" or "float64",
    on this device, "cpu" or "gpu", from now on."""
    paddle.set_default_dtype(dtype)
    paddle.set_device(device)


def layout(name, array):
    """A weight in Paddle's layout, given in Keras's, or the other way round."""
    return array if name == "dense/kernel" else np.ascontiguousarray(array.T)


def loss_of(logits, batch):
    """The loss, and its counts (3,): summed cross-entropy, right positions,
    right positions that are no padding."""
    # Usually: F.cross_entropy, which is as fast. It and log_softmax clip logits at 64 below the
    # largest, so that a loss of 61 may be 39. logsumexp takes three times as long as this.
    logits_below = logits - logits.detach().max(-1, keepdim=True)  # (N, T_dec, V_dec)
    log_probabilities = logits_below - logits_below.exp().sum(-1, keepdim=True).log()
    cross_entropy = -(batch.decoder_target_data * log_probabilities).sum(-1)  # (N, T_dec)
    loss_sum = (batch.target_weights * cross_entropy).sum()
    right = logits.argmax(-1) == batch.decoder_target_ids  # (N, T_dec)
    right = right.astype(logits.dtype) * batch.target_weights  # (N, T_dec)
    counts = paddle.stack([loss_sum.detach(), right.sum(), (right * batch.real_positions).sum()])
    return loss_sum / batch.loss_positions, counts


class RMSprop(paddle.optimizer.RMSProp):
    """Keras's RMSprop: Paddle's own has epsilon inside the root, too."""

    def __init__(self, model, learning_rate=1e-3, rho=0.9, epsilon=1e-7):
        self.weights = list(model.named_weights().values())
        super().__init__(learning_rate, rho, epsilon, parameters=self.weights)
        # Usually Paddle makes these in the first step. The last two have no effect without momentum
        # and centering.
        kinds = ("mean_square", "momentum", "mean_grad")
        slots = {
            f"{weight.name}_{kind}_0": paddle.zeros_like(weight)
            for weight in self.weights
            for kind in kinds
        }
        self.set_state_dict(slots)

    @property
    def mean_squares(self):
        state = self.state_dict()
        return [state[f"{weight.name}_mean_square_0"] for weight in self.weights]


def gradients(model, batch):
    """The loss, its counts (3,), and the gradient of each weight by its name,
    which the next call writes over."""
    model.train()
    logits, *_ = model(batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths)
    loss, counts = loss_of(logits, batch)
    model.clear_gradients()  # and not the optimizer's alone, which does not know the second biases
    loss.backward()
    by_name = {name: weight.grad for name, weight in model.named_weights().items()}
    return loss.detach(), counts, by_name


def train_step(model, optimizer, batch):
    """The loss and its counts (3,) before the step."""
    loss, counts, _ = gradients(model, batch)
    optimizer.step()
    return loss, counts


@paddle.no_grad()
def evaluate_step(model, batch):
    """The loss and its counts (3,)."""
    model.eval()
    logits, *_ = model(batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths)
    return loss_of(logits, batch)


@paddle.no_grad()
def forward(model, batch):
    """Probabilities (N, T_dec, V_dec) and the encoder's states."""
    model.eval()
    logits, *states = model(
        batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths
    )
    return F.softmax(logits, -1), *states


@paddle.no_grad()
def start(model, encoder_input_data, encoder_lengths=None):
    """The states from which decoding starts; with lengths if the model was trained with them."""
    model.eval()
    return model.encode(encoder_input_data, encoder_lengths)


@paddle.no_grad()
def step(model, decoder_input_data, *states):
    """One character (N, V_dec) further: logits (N, V_dec) and the next states."""
    logits, *states = model.decode(decoder_input_data[:, None], *states)
    return logits[:, 0], *states


@paddle.no_grad()
def take(state, rows):
    """The rows of a state that `rows` (R,) name, in their order."""
    return paddle.index_select(state, rows)


def assign(weight, array):
    """Set a weight in place, to an array of this framework's layout and the model's precision."""
    weight.set_value(array)


def to_tensor(array):
    """The array's numbers on the device, in its own precision: the model's, or int64."""
    return paddle.to_tensor(array)


def to_array(tensor):
    """A copy of the tensor's numbers, from any device."""
    return np.array(tensor.numpy())
