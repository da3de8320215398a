"""Keras's lstm_seq2seq in JAX."""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax import nnx
from safetensors.flax import load_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path, help="a run of Rosetta")
parser.add_argument("out", type=Path, help="where to save the model")
parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
args = parser.parse_args()

batch_size, num_steps = 64, 10
latent_dim = 256  # H

# 1. Read and encode
jax.config.update("jax_enable_x64", args.dtype == "float64")  # before any array is made
lines = (args.run / "pairs.tsv").read_text("utf-8").split("\n")
pairs = [line.split("\t") for line in lines[:-1]]  # the last is empty
input_texts = [source for source, _ in pairs]
target_texts = ["\t" + target + "\n" for _, target in pairs]
input_characters = sorted({" "}.union(*input_texts))  # V_enc
target_characters = sorted({" "}.union(*target_texts))  # V_dec
max_encoder_seq_length = max(map(len, input_texts))  # T_enc
max_decoder_seq_length = max(map(len, target_texts))  # T_dec


def one_hot(texts, characters, length):
    """One-hot rows (N, length, V)."""
    padded = [text.ljust(length) for text in texts]
    ids = [[characters.index(c) for c in text] for text in padded]
    return jnp.eye(len(characters))[jnp.array(ids)]


num_samples = num_steps * batch_size  # N
inputs = input_texts[:num_samples]
targets = target_texts[:num_samples]
ahead = [text[1:] for text in targets]  # by one character
# (N, T_enc, V_enc), (N, T_dec, V_dec), (N, T_dec, V_dec)
encoder_input_data = one_hot(inputs, input_characters, max_encoder_seq_length)
decoder_input_data = one_hot(targets, target_characters, max_decoder_seq_length)
decoder_target_data = one_hot(ahead, target_characters, max_decoder_seq_length)


# 2. Model
class Seq2Seq(nnx.Module):
    def __init__(self, **options):
        encoder_cell = nnx.OptimizedLSTMCell(len(input_characters), latent_dim, **options)
        decoder_cell = nnx.OptimizedLSTMCell(len(target_characters), latent_dim, **options)
        self.encoder = nnx.RNN(encoder_cell, return_carry=True)
        self.decoder_lstm = nnx.RNN(decoder_cell, return_carry=True)
        self.decoder_dense = nnx.Linear(latent_dim, len(target_characters), **options)

    def __call__(self, encoder_inputs, decoder_inputs):
        (state_c, state_h), _ = self.encoder(encoder_inputs)  # (N, H) each
        # (N, T_dec, H)
        _, decoder_outputs = self.decoder_lstm(decoder_inputs, initial_carry=(state_c, state_h))
        return self.decoder_dense(decoder_outputs)  # logits (N, T_dec, V_dec)


# Without `param_dtype` weights are float32, in float64 too.
model = Seq2Seq(param_dtype=args.dtype, rngs=nnx.Rngs(0))

# 3. Load weights
# In Keras's layout; the gates have the order i, f, c, o.
weights = load_file(args.run / "state.safetensors")
weights = {name: w.astype(args.dtype) for name, w in weights.items()}
for name, lstm in [("encoder", model.encoder), ("decoder", model.decoder_lstm)]:
    lstm.cell.dense_i.kernel.set_value(weights[f"{name}/kernel"])  # (V, 4H)
    lstm.cell.dense_h.kernel.set_value(weights[f"{name}/recurrent_kernel"])  # (H, 4H)
    lstm.cell.dense_h.bias.set_value(weights[f"{name}/bias"])  # (4H,)
model.decoder_dense.kernel.set_value(weights["dense/kernel"])  # (H, V_dec)
model.decoder_dense.bias.set_value(weights["dense/bias"])  # (V_dec,)

# 4. Loss and step
# Usually: optimizer = nnx.Optimizer(model, optax.rmsprop(1e-3, decay=0.9, eps=1e-7), wrt=nnx.Param)
# Each is the float32 number nearest to 1e-3, 0.9 and 1e-7.
learning_rate, rho, epsilon = 0.0010000000474974513, 0.8999999761581421, 1.0000000116860974e-07
rmsprop = optax.rmsprop(learning_rate, decay=rho, eps=epsilon)
optimizer = nnx.Optimizer(model, rmsprop, wrt=nnx.Param)


@nnx.jit  # compiled when it is first called
def train_step(model, optimizer, encoder_inputs, decoder_inputs, decoder_targets):
    def loss_of(model):
        losses = optax.softmax_cross_entropy(model(encoder_inputs, decoder_inputs), decoder_targets)
        return losses.mean()  # over (N, T_dec)

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss


dataset = encoder_input_data, decoder_input_data, decoder_target_data
# Usually: order = jax.random.permutation(jax.random.key(0), num_samples)
order = jnp.arange(num_samples)
model.train()
for step in range(num_steps):
    batch = order[step * batch_size : (step + 1) * batch_size]
    loss = train_step(model, optimizer, *[data[batch] for data in dataset])
    print(f"step {step + 1}: loss", loss.item())

# 5. Save
path = args.out.resolve() / "model"  # a folder, which must not be relative
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path, nnx.state(model, nnx.Param), force=True)  # in place of an older one
    checkpointer.wait_until_finished()
    nnx.update(model, checkpointer.restore(path, nnx.state(model, nnx.Param)))

# 6. Decode
model.eval()


@jax.jit
def decoder_step(model, target_seq, state_h, state_c):
    carry = state_c, state_h
    (state_c, state_h), decoder_outputs = model.decoder_lstm(target_seq, initial_carry=carry)
    return model.decoder_dense(decoder_outputs), state_h, state_c


def decode_sequence(input_seq):
    (state_c, state_h), _ = model.encoder(input_seq)  # (1, H) each
    sampled_char, decoded_sentence = "\t", ""
    while sampled_char != "\n" and len(decoded_sentence) <= max_decoder_seq_length:
        target_seq = one_hot([sampled_char], target_characters, 1)  # (1, 1, V_dec)
        logits, state_h, state_c = decoder_step(model, target_seq, state_h, state_c)
        sampled_char = target_characters[int(logits.argmax())]
        decoded_sentence += sampled_char
    return decoded_sentence.removesuffix("\n")


for text in "I love you!", "Where is the station?", "She ate an egg.":
    input_seq = one_hot([text], input_characters, max_encoder_seq_length)  # (1, T_enc, V_enc)
    print(text, "->", decode_sequence(input_seq))
