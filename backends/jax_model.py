"""The model in JAX, by Flax NNX and optax.

Make a Seq2Seq and an RMSprop, give `train_step` a Batch at a time, and decode by `start` and
`step`. Before all this, `prepare` may choose a precision and a device.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array


class Seq2Seq(nnx.Module):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim, *, rngs=None):
        # The precision that `prepare` chose, in place of float32,
        # which Flax's layers have otherwise.
        options = {"param_dtype": jnp.result_type(float), "rngs": rngs or nnx.Rngs(0)}
        self.encoder = nnx.RNN(
            nnx.OptimizedLSTMCell(num_encoder_tokens, latent_dim, **options), return_carry=True
        )
        self.decoder = nnx.RNN(
            nnx.OptimizedLSTMCell(num_decoder_tokens, latent_dim, **options), return_carry=True
        )
        self.dense = nnx.Linear(latent_dim, num_decoder_tokens, **options)

    def encode(self, encoder_input_data, encoder_lengths=None):
        """The states (N, H) after the last step,
        or after each row's own length where lengths (N,) are given."""
        (state_c, state_h), _ = self.encoder(encoder_input_data, seq_lengths=encoder_lengths)
        return state_h, state_c

    def decode(self, decoder_input_data, state_h, state_c):
        """Logits (N, T_dec, V_dec) and the next states (N, H)."""
        (state_c, state_h), outputs = self.decoder(
            decoder_input_data, initial_carry=(state_c, state_h)
        )
        return self.dense(outputs), state_h, state_c

    def __call__(self, encoder_input_data, decoder_input_data, encoder_lengths=None):
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        states = self.encode(encoder_input_data, encoder_lengths)
        logits, *_ = self.decode(decoder_input_data, *states)
        return logits, *states

    def named_weights(self):
        """The trained weights by name: `layout(name, to_array(weight))` is Keras's."""
        return {
            "encoder/kernel": self.encoder.cell.dense_i.kernel,
            "encoder/recurrent_kernel": self.encoder.cell.dense_h.kernel,
            "encoder/bias": self.encoder.cell.dense_h.bias,
            "decoder/kernel": self.decoder.cell.dense_i.kernel,
            "decoder/recurrent_kernel": self.decoder.cell.dense_h.kernel,
            "decoder/bias": self.decoder.cell.dense_h.bias,
            "dense/kernel": self.dense.kernel,
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

    encoder_input_data: Array
    decoder_input_data: Array
    decoder_target_data: Array
    decoder_target_ids: Array
    target_weights: Array
    real_positions: Array
    loss_positions: Array
    encoder_lengths: Array | None = None


def has_gpu():
    """True if the framework sees a GPU."""
    return jax.default_backend() == "gpu"


def prepare(dtype="float32", device="cpu"):
    """Make models of this precision, "float32" or "float64",
    on this device, "cpu" or "gpu", from now on."""
    jax.config.update("jax_enable_x64", dtype == "float64")  # or float64 would be float32
    jax.config.update("jax_default_device", jax.devices(device)[0])


def layout(name, array):
    """A weight in Flax's layout, which is Keras's."""
    return array


def loss_of(logits, batch):
    """The loss, and its counts (3,): summed cross-entropy, right positions,
    right positions that are no padding."""
    cross_entropy = optax.softmax_cross_entropy(logits, batch.decoder_target_data)  # (N, T_dec)
    # Usually a plain sum. On a CPU XLA adds a thousand numbers one after another, and rounds each
    # time. By default a GPU may round the numbers of a product.
    loss_sum = jnp.vdot(batch.target_weights, cross_entropy, precision="highest")
    right = (logits.argmax(-1) == batch.decoder_target_ids) * batch.target_weights  # (N, T_dec)
    counts = jnp.stack([loss_sum, right.sum(), (right * batch.real_positions).sum()])
    return loss_sum / batch.loss_positions, counts


class RMSprop(nnx.Optimizer):
    """Keras's RMSprop: optax's own has epsilon inside the root, too."""

    def __init__(self, model, learning_rate=1e-3, rho=0.9, epsilon=1e-7):
        transformation = optax.rmsprop(learning_rate, decay=rho, eps=epsilon, eps_in_sqrt=True)
        super().__init__(model, transformation, wrt=nnx.Param)
        self.named_weights = type(model).named_weights

    @property
    def mean_squares(self):
        # Of optax's chain the first, scale_by_rms.
        return list(self.named_weights(self.opt_state[0].nu).values())


@jax.jit
def gradients(model, batch):
    """The loss, its counts (3,), and the gradient of each weight by its name."""
    loss, counts, tree = _gradients(model, batch)
    # A tree of gradients has the model's attributes.
    return loss, counts, type(model).named_weights(tree)


def _gradients(model, batch):
    def loss_and_counts(model):
        logits, *_ = model(
            batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths
        )
        return loss_of(logits, batch)

    (loss, counts), tree = nnx.value_and_grad(loss_and_counts, has_aux=True)(model)
    return loss, counts, tree


# Compiles once for each shape; jax.jit would drop what the function writes
# into model and optimizer.
@nnx.jit
def train_step(model, optimizer, batch):
    """The loss and its counts (3,) before the step."""
    loss, counts, tree = _gradients(model, batch)
    optimizer.update(model, tree)
    return loss, counts


@jax.jit
def evaluate_step(model, batch):
    """The loss and its counts (3,)."""
    logits, *_ = model(batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths)
    return loss_of(logits, batch)


@jax.jit
def forward(model, batch):
    """Probabilities (N, T_dec, V_dec) and the encoder's states."""
    logits, *states = model(
        batch.encoder_input_data, batch.decoder_input_data, batch.encoder_lengths
    )
    return jax.nn.softmax(logits, -1), *states


@jax.jit
def start(model, encoder_input_data, encoder_lengths=None):
    """The states from which decoding starts; with lengths if the model was trained with them."""
    return model.encode(encoder_input_data, encoder_lengths)


@jax.jit
def step(model, decoder_input_data, *states):
    """One character (N, V_dec) further: logits (N, V_dec) and the next states."""
    logits, *states = model.decode(decoder_input_data[:, None], *states)
    return logits[:, 0], *states


@jax.jit
def take(state, rows):
    """The rows of a state that `rows` (R,) name, in their order."""
    return state[rows]


def assign(weight, array):
    """Set a weight in place, to an array of this framework's layout and the model's precision."""
    weight.set_value(jnp.array(array))  # a copy, which `asarray` need not make


def to_tensor(array):
    """The array's numbers on the device, in its own precision: the model's, or int64."""
    return jnp.asarray(array)


def to_array(tensor):
    """A copy of the tensor's numbers, from any device."""
    return np.array(tensor)
