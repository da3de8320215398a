"""Keras's lstm_seq2seq."""

import argparse
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import load_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path, help="a run of Rosetta")
parser.add_argument("out", type=Path, help="where to save the model")
parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
args = parser.parse_args()

batch_size, num_steps = 64, 10
latent_dim = 256  # H

# 1. Read and encode
keras.config.set_floatx(args.dtype)  # before any layer is made
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
    return np.eye(len(characters), dtype=args.dtype)[ids]


num_samples = num_steps * batch_size  # N
inputs = input_texts[:num_samples]
targets = target_texts[:num_samples]
ahead = [text[1:] for text in targets]  # by one character
# (N, T_enc, V_enc), (N, T_dec, V_dec), (N, T_dec, V_dec)
encoder_input_data = one_hot(inputs, input_characters, max_encoder_seq_length)
decoder_input_data = one_hot(targets, target_characters, max_decoder_seq_length)
decoder_target_data = one_hot(ahead, target_characters, max_decoder_seq_length)

# 2. Model
encoder = keras.layers.LSTM(latent_dim, return_state=True)
decoder_lstm = keras.layers.LSTM(latent_dim, return_sequences=True, return_state=True)
decoder_dense = keras.layers.Dense(len(target_characters))

encoder_inputs = keras.Input((None, len(input_characters)))
decoder_inputs = keras.Input((None, len(target_characters)))
_, state_h, state_c = encoder(encoder_inputs)  # (N, H) each
# (N, T_dec, H)
decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=[state_h, state_c])
logits = decoder_dense(decoder_outputs)  # (N, T_dec, V_dec)

model = keras.Model([encoder_inputs, decoder_inputs], logits)

# 3. Load weights
# In Keras's layout; the gates have the order i, f, c, o.
weights = load_file(args.run / "state.safetensors")
for name, lstm in [("encoder", encoder), ("decoder", decoder_lstm)]:
    lstm.cell.kernel.assign(weights[f"{name}/kernel"])  # (V, 4H)
    lstm.cell.recurrent_kernel.assign(weights[f"{name}/recurrent_kernel"])  # (H, 4H)
    lstm.cell.bias.assign(weights[f"{name}/bias"])  # (4H,)
decoder_dense.kernel.assign(weights["dense/kernel"])  # (H, V_dec)
decoder_dense.bias.assign(weights["dense/bias"])  # (V_dec,)

# 4. Loss and step
# Usually: optimizer = keras.optimizers.RMSprop(1e-3)
# Each is the float32 number nearest to 1e-3, 0.9 and 1e-7.
learning_rate, rho, epsilon = 0.0010000000474974513, 0.8999999761581421, 1.0000000116860974e-07
optimizer = keras.optimizers.RMSprop(learning_rate, rho=rho, epsilon=epsilon)
cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
model.compile(optimizer=optimizer, loss=cross_entropy)

# Usually: model.fit([encoder_input_data, decoder_input_data], decoder_target_data, batch_size=64)
for step in range(num_steps):
    batch = slice(step * batch_size, (step + 1) * batch_size)
    batch_inputs = [encoder_input_data[batch], decoder_input_data[batch]]
    loss = model.train_on_batch(batch_inputs, decoder_target_data[batch])
    model.reset_metrics()  # else the next loss is the mean of all so far
    print(f"step {step + 1}: loss", loss)

# 5. Save
args.out.mkdir(parents=True, exist_ok=True)
model.save(args.out / "model.keras")  # the optimizer, too
model = keras.models.load_model(args.out / "model.keras")

# 6. Decode
# The layers of the model that was read back, after its two inputs.
encoder, decoder_lstm, decoder_dense = model.layers[2:]


def decode_sequence(input_seq):
    _, state_h, state_c = encoder(input_seq)  # (1, H) each
    sampled_char, decoded_sentence = "\t", ""
    while sampled_char != "\n" and len(decoded_sentence) <= max_decoder_seq_length:
        target_seq = one_hot([sampled_char], target_characters, 1)  # (1, 1, V_dec)
        states = [state_h, state_c]
        decoder_outputs, state_h, state_c = decoder_lstm(target_seq, initial_state=states)
        logits = decoder_dense(decoder_outputs)  # (1, 1, V_dec)
        sampled_char = target_characters[int(keras.ops.argmax(logits))]
        decoded_sentence += sampled_char
    return decoded_sentence.removesuffix("\n")


for text in "I love you!", "Where is the station?", "She ate an egg.":
    input_seq = one_hot([text], input_characters, max_encoder_seq_length)  # (1, T_enc, V_enc)
    print(text, "->", decode_sequence(input_seq))
