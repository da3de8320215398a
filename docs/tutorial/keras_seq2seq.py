"""Keras's lstm_seq2seq example, on from trained weights."""

import argparse
from pathlib import Path

import keras
import numpy as np
from safetensors.numpy import load_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path, help="folder of a run, such as common/phrasebook/run")
parser.add_argument("out", type=Path, help="folder that the model is saved in")
parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
args = parser.parse_args()
batch_size, num_steps, latent_dim = 64, 10, 256  # latent_dim: H

# 1. Read and encode
keras.config.set_floatx(args.dtype)  # before any layer is built
lines = (args.run / "pairs.tsv").read_text(encoding="utf-8").split("\n")[:-1]
input_texts = [line.split("\t")[0] for line in lines]
target_texts = ["\t" + line.split("\t")[1] + "\n" for line in lines]
input_characters = sorted({" ", *"".join(input_texts)})  # V_enc
target_characters = sorted({" ", *"".join(target_texts)})  # V_dec
max_encoder_seq_length = max(len(text) for text in input_texts)  # T_enc
max_decoder_seq_length = max(len(text) for text in target_texts)  # T_dec


def one_hot(texts, characters, length):
    """A row for each character; spaces fill up to `length`."""
    ids = [[characters.index(char) for char in text.ljust(length)] for text in texts]
    return np.eye(len(characters), dtype=args.dtype)[ids]  # (N, length, V)


num_samples = num_steps * batch_size  # N
inputs, targets = input_texts[:num_samples], target_texts[:num_samples]
targets_ahead = [text[1:] for text in targets]  # by one step
encoder_input_data = one_hot(inputs, input_characters, max_encoder_seq_length)  # (N, T_enc, V_enc)
decoder_input_data = one_hot(targets, target_characters, max_decoder_seq_length)  # (N, T_dec, V_dec)
decoder_target_data = one_hot(targets_ahead, target_characters, max_decoder_seq_length)  # (N, T_dec, V_dec)

# 2. Model
encoder_inputs = keras.Input((None, len(input_characters)))
encoder = keras.layers.LSTM(latent_dim, return_state=True, name="encoder")
_, state_h, state_c = encoder(encoder_inputs)  # (N, H) each

decoder_inputs = keras.Input((None, len(target_characters)))
decoder_lstm = keras.layers.LSTM(latent_dim, return_sequences=True, return_state=True, name="decoder_lstm")
decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=[state_h, state_c])  # (N, T_dec, H)
decoder_dense = keras.layers.Dense(len(target_characters), name="decoder_dense")
logits = decoder_dense(decoder_outputs)  # (N, T_dec, V_dec)
model = keras.Model([encoder_inputs, decoder_inputs], logits)

# 3. Load weights
# They are kept in Keras's layout, the gates in the order i, f, c, o.
weights = load_file(args.run / "state.safetensors")
for name, lstm in [("encoder", encoder), ("decoder", decoder_lstm)]:
    kernel, recurrent_kernel = weights[f"{name}/kernel"], weights[f"{name}/recurrent_kernel"]
    lstm.set_weights([kernel, recurrent_kernel, weights[f"{name}/bias"]])  # (V, 4H), (H, 4H), (4H,)
decoder_dense.set_weights([weights["dense/kernel"], weights["dense/bias"]])  # (H, V_dec), (V_dec,)

# 4. Loss and step
# Rounded to float32 here, since Paddle rounds two of them so, PyTorch none.
learning_rate, rho, epsilon = (float(np.float32(x)) for x in (1e-3, 0.9, 1e-7))
model.compile(
    optimizer=keras.optimizers.RMSprop(learning_rate, rho=rho, epsilon=epsilon),
    # Given probabilities, it clips them unless it finds their logits.
    loss=keras.losses.CategoricalCrossentropy(from_logits=True),  # mean over N x T_dec
)
for step in range(num_steps):
    batch = slice(step * batch_size, (step + 1) * batch_size)
    model.reset_metrics()  # else the loss is the mean of all steps so far
    batch_inputs = [encoder_input_data[batch], decoder_input_data[batch]]
    loss = model.train_on_batch(batch_inputs, decoder_target_data[batch])
    print(f"step {step + 1}: loss {float(loss)!r}")

# 5. Save
args.out.mkdir(parents=True, exist_ok=True)
model.save(args.out / "model.keras")  # layers, weights and optimizer
model = keras.models.load_model(args.out / "model.keras")

# 6. Decode
layer_names = "encoder", "decoder_lstm", "decoder_dense"
encoder, decoder_lstm, decoder_dense = map(model.get_layer, layer_names)


def decode_sequence(input_seq):
    _, state_h, state_c = encoder(input_seq)  # (1, H) each
    sampled_char, decoded_sentence = "\t", ""
    while sampled_char != "\n" and len(decoded_sentence) <= max_decoder_seq_length:
        target_seq = one_hot([sampled_char], target_characters, 1)  # (1, 1, V_dec)
        decoder_outputs, state_h, state_c = decoder_lstm(target_seq, initial_state=[state_h, state_c])
        logits = decoder_dense(decoder_outputs)  # (1, 1, V_dec)
        sampled_char = target_characters[int(keras.ops.argmax(logits))]
        decoded_sentence += sampled_char
    return decoded_sentence.removesuffix("\n")


for text in ["Look at the skirt!", "Don't forget the bed!", "Emma's ear hurts."]:
    print(text, "->", decode_sequence(one_hot([text], input_characters, max_encoder_seq_length)))
