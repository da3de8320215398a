"""A model file in use. In a folder with one model file and a file of pairs, source TAB target:

python use_a_model.py torch_model pairs.tsv 300

trains 300 steps, shows how the loss falls, and translates the first sentences. So few steps teach
some words, no sentences: the example takes 12,500.
"""

import sys
from importlib import import_module

import numpy as np

api, num_steps = import_module(sys.argv[1]), int(sys.argv[3])
with open(sys.argv[2], encoding="utf-8") as file:
    pairs = [line.rstrip("\n").split("\t")[:2] for line in file][:10_000]
sources = [source for source, _ in pairs]
targets = ["\t" + target + "\n" for _, target in pairs]
encoder_characters = sorted({" "}.union(*sources))  # V_enc
decoder_characters = sorted({" "}.union(*targets))  # V_dec
encoder_length = max(map(len, sources))  # T_enc
decoder_length = max(map(len, targets)) - 1  # T_dec


def one_hot(texts, characters, length):
    """One-hot rows (N, length, V), padded with spaces."""
    ids = [[characters.index(c) for c in text.ljust(length)] for text in texts]
    return np.eye(len(characters), dtype="float32")[ids]


def batch_of(rows):
    """The model file's Batch of these rows. Padding counts, as in Keras's example."""
    inputs, outputs = [sources[row] for row in rows], [targets[row] for row in rows]
    target_data = one_hot([text[1:] for text in outputs], decoder_characters, decoder_length)
    shape = len(rows), decoder_length
    lengths = np.array([len(text) - 1 for text in outputs])
    arrays = {
        "encoder_input_data": one_hot(inputs, encoder_characters, encoder_length),
        "decoder_input_data": one_hot(
            [text[:-1] for text in outputs], decoder_characters, decoder_length
        ),
        "decoder_target_data": target_data,
        "decoder_target_ids": target_data.argmax(-1),
        "target_weights": np.ones(shape, "float32"),
        "real_positions": (np.arange(decoder_length) < lengths[:, None]).astype("float32"),
        "loss_positions": np.array(np.prod(shape), "float32"),
    }
    return api.Batch(**{name: api.to_tensor(array) for name, array in arrays.items()})


def translate(model, source):
    """The most probable next character, one after another."""
    states = api.start(model, api.to_tensor(one_hot([source], encoder_characters, encoder_length)))
    text = "\t"
    while text[-1] != "\n" and len(text) <= decoder_length:
        data = one_hot([text[-1]], decoder_characters, 1)[:, 0]  # (1, V_dec)
        logits, *states = api.step(model, api.to_tensor(data), *states)
        text += decoder_characters[api.to_array(logits)[0].argmax()]
    return text.strip()


api.prepare("float32")
model = api.Seq2Seq(len(encoder_characters), len(decoder_characters), 256)
optimizer = api.RMSprop(model)
rng = np.random.default_rng(0)
for step in range(num_steps):
    loss, counts = api.train_step(model, optimizer, batch_of(rng.choice(len(pairs), 64)))
    if step % 100 == 0 or step + 1 == num_steps:
        accuracy = api.to_array(counts)[1] / (64 * decoder_length)
        print(f"step {step + 1}: loss {float(loss):.3f}, right {accuracy:.0%}")
print(
    f"{num_steps} steps are done; the example takes 12,500, and until then translations are poor:"
)
for source in sources[:3]:
    print(source, "->", translate(model, source))
