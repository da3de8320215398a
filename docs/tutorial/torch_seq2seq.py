"""Keras's lstm_seq2seq in PyTorch."""

import argparse
from pathlib import Path

import torch
import torch.nn as nn
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("run", type=Path, help="a run of Rosetta")
parser.add_argument("out", type=Path, help="where to save the model")
parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
args = parser.parse_args()

batch_size, num_steps = 64, 10
latent_dim = 256  # H

# 1. Read and encode
torch.set_default_dtype(getattr(torch, args.dtype))  # such as torch.float32
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
    return torch.eye(len(characters))[torch.tensor(ids)]


num_samples = num_steps * batch_size  # N
inputs = input_texts[:num_samples]
targets = target_texts[:num_samples]
ahead = [text[1:] for text in targets]  # by one character
# (N, T_enc, V_enc), (N, T_dec, V_dec), (N, T_dec, V_dec)
encoder_input_data = one_hot(inputs, input_characters, max_encoder_seq_length)
decoder_input_data = one_hot(targets, target_characters, max_decoder_seq_length)
decoder_target_data = one_hot(ahead, target_characters, max_decoder_seq_length)


# 2. Model
class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(len(input_characters), latent_dim, batch_first=True)
        self.decoder_lstm = nn.LSTM(len(target_characters), latent_dim, batch_first=True)
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
with torch.no_grad():
    for name, lstm in [("encoder", model.encoder), ("decoder", model.decoder_lstm)]:
        lstm.weight_ih_l0.copy_(weights[f"{name}/kernel"].T)  # (4H, V)
        lstm.weight_hh_l0.copy_(weights[f"{name}/recurrent_kernel"].T)  # (4H, H)
        lstm.bias_ih_l0.copy_(weights[f"{name}/bias"])  # (4H,)
        lstm.bias_hh_l0.zero_()
    model.decoder_dense.weight.copy_(weights["dense/kernel"].T)  # (V_dec, H)
    model.decoder_dense.bias.copy_(weights["dense/bias"])  # (V_dec,)

# 4. Loss and step
# Usually: optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
# Each is the float32 number nearest to 1e-3, 0.9 and 1e-7.
learning_rate, rho, epsilon = 0.0010000000474974513, 0.8999999761581421, 1.0000000116860974e-07


# Divides by sqrt(v + eps), as in Keras; torch's own by sqrt(v) + eps.
class RMSprop(torch.optim.RMSprop):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:  # only one here
            for p in group["params"]:  # the weights
                v = self.state[p].setdefault("square_avg", torch.zeros_like(p))
                v.lerp_(p.grad.square(), 1 - group["alpha"])  # a step towards the square
                p.sub_(group["lr"] * p.grad / (v + group["eps"]).sqrt())


# Two trained biases would step twice as far, so the second one is left out.
trained = [p for name, p in model.named_parameters() if not name.endswith("bias_hh_l0")]
optimizer = RMSprop(trained, lr=learning_rate, alpha=rho, eps=epsilon)
cross_entropy = nn.CrossEntropyLoss()

dataset = TensorDataset(encoder_input_data, decoder_input_data, decoder_target_data)
# Usually: loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
loader = DataLoader(dataset, batch_size=batch_size)
model.train()
for step, (encoder_inputs, decoder_inputs, decoder_targets) in enumerate(loader):
    logits = model(encoder_inputs, decoder_inputs)
    loss = cross_entropy(logits.flatten(0, 1), decoder_targets.flatten(0, 1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step + 1}: loss", loss.item())

# 5. Save
args.out.mkdir(parents=True, exist_ok=True)
torch.save(model.state_dict(), args.out / "model.pt")
model.load_state_dict(torch.load(args.out / "model.pt", weights_only=True))

# 6. Decode
model.eval()


@torch.inference_mode()
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
