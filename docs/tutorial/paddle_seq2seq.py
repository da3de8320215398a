"""Keras's lstm_seq2seq in Paddle."""

import argparse
from pathlib import Path

import paddle
import paddle.nn as nn
from safetensors.paddle import load_file

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path, help="a run of Rosetta")
parser.add_argument("out", type=Path, help="where to save the model")
parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
args = parser.parse_args()

batch_size, num_steps = 64, 10
latent_dim = 256  # H

# 1. Read and encode
paddle.set_default_dtype(args.dtype)
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
    return paddle.eye(len(characters))[paddle.to_tensor(ids)]


num_samples = num_steps * batch_size  # N
inputs = input_texts[:num_samples]
targets = target_texts[:num_samples]
ahead = [text[1:] for text in targets]  # by one character
# (N, T_enc, V_enc), (N, T_dec, V_dec), (N, T_dec, V_dec)
encoder_input_data = one_hot(inputs, input_characters, max_encoder_seq_length)
decoder_input_data = one_hot(targets, target_characters, max_decoder_seq_length)
decoder_target_data = one_hot(ahead, target_characters, max_decoder_seq_length)


# 2. Model
class Seq2Seq(nn.Layer):
    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(len(input_characters), latent_dim)
        self.decoder_lstm = nn.LSTM(len(target_characters), latent_dim)
        self.decoder_dense = nn.Linear(latent_dim, len(target_characters))

    def forward(self, encoder_inputs, decoder_inputs):
        _, (state_h, state_c) = self.encoder(encoder_inputs)  # (1, N, H) each
        # (N, T_dec, H)
        decoder_outputs, _ = self.decoder_lstm(decoder_inputs, (state_h, state_c))
        return self.decoder_dense(decoder_outputs)  # logits (N, T_dec, V_dec)


model = Seq2Seq()

# 3. Load weights
# In Keras's layout; the gates have the order i, f, c, o.
weights = load_file(args.run / "state.safetensors")
weights = {name: w.astype(args.dtype) for name, w in weights.items()}
for name, lstm in [("encoder", model.encoder), ("decoder", model.decoder_lstm)]:
    # Written into the tensors that the LSTM was built with, since it would not use others.
    lstm.weight_ih_l0.set_value(weights[f"{name}/kernel"].T)  # (4H, V)
    lstm.weight_hh_l0.set_value(weights[f"{name}/recurrent_kernel"].T)  # (4H, H)
    lstm.bias_ih_l0.set_value(weights[f"{name}/bias"])  # (4H,)
    lstm.bias_hh_l0.set_value(paddle.zeros([4 * latent_dim]))
model.decoder_dense.weight.set_value(weights["dense/kernel"])  # (H, V_dec)
model.decoder_dense.bias.set_value(weights["dense/bias"])  # (V_dec,)

# 4. Loss and step
# Usually: optimizer = paddle.optimizer.RMSProp(1e-3, 0.9, 1e-7, parameters=model.parameters())
# Each is the float32 number nearest to 1e-3, 0.9 and 1e-7.
learning_rate, rho, epsilon = 0.0010000000474974513, 0.8999999761581421, 1.0000000116860974e-07
# Two trained biases would step twice as far, so the second one is left out.
trained = [p for name, p in model.named_parameters() if not name.endswith("bias_hh_l0")]
optimizer = paddle.optimizer.RMSProp(learning_rate, rho=rho, epsilon=epsilon, parameters=trained)
cross_entropy = nn.CrossEntropyLoss(soft_label=True)

dataset = paddle.io.TensorDataset([encoder_input_data, decoder_input_data, decoder_target_data])
# Usually: loader = paddle.io.DataLoader(dataset, batch_size=batch_size, shuffle=True)
loader = paddle.io.DataLoader(dataset, batch_size=batch_size)
model.train()
for step, (encoder_inputs, decoder_inputs, decoder_targets) in enumerate(loader):
    logits = model(encoder_inputs, decoder_inputs)
    loss = cross_entropy(logits, decoder_targets)
    optimizer.clear_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step + 1}: loss", loss.item())

# 5. Save
args.out.mkdir(parents=True, exist_ok=True)
paddle.save(model.state_dict(), str(args.out / "model.pdparams"))
model.set_state_dict(paddle.load(str(args.out / "model.pdparams")))

# 6. Decode
model.eval()


@paddle.no_grad()
def decode_sequence(input_seq):
    _, (state_h, state_c) = model.encoder(input_seq)  # (1, 1, H) each
    sampled_char, decoded_sentence = "\t", ""
    while sampled_char != "\n" and len(decoded_sentence) <= max_decoder_seq_length:
        target_seq = one_hot([sampled_char], target_characters, 1)  # (1, 1, V_dec)
        decoder_outputs, (state_h, state_c) = model.decoder_lstm(target_seq, (state_h, state_c))
        logits = model.decoder_dense(decoder_outputs)  # (1, 1, V_dec)
        sampled_char = target_characters[int(logits.argmax())]
        decoded_sentence += sampled_char
    return decoded_sentence.removesuffix("\n")


for text in "I love you!", "Where is the station?", "She ate an egg.":
    input_seq = one_hot([text], input_characters, max_encoder_seq_length)  # (1, T_enc, V_enc)
    print(text, "->", decode_sequence(input_seq))
