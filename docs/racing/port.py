"""A script of a race: one side of a port in docs/porting, such as `python port.py tagger_keras`. It records
itself in a folder of this name, with the weights that `rosetta carry` wrote where there are such, and then trains."""

import sys
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "porting"))

from rosetta_record import Record, take_turns
from shared import SENTENCES, batches

name = sys.argv[1]
architecture, framework = name.split("_")
port, data = import_module(name), batches()
make_model = port.tagger if name == "tagger_keras" else getattr(port, architecture.title())
carried = getattr(port, "CARRIED", Path("none"))

if framework == "torch":
    import torch

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(1)
    model = make_model()
    trained = [*model.parameters()]
elif framework == "paddle":
    import paddle

    paddle.set_device("cpu")
    paddle.set_default_dtype("float64")
    paddle.seed(1)
    model = make_model()
    if carried.exists():
        model.set_state_dict(paddle.load(str(carried)))
    # Where the other side is Keras, an LSTM has one bias.
    trained = [
        parameter for key, parameter in model.named_parameters() if architecture != "tagger" or "bias_hh" not in key
    ]
else:
    import keras
    import tensorflow as tf

    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(1)
    model = make_model()
    model(data[0]["ids"])  # which makes the weights
    if carried.exists():
        model.load_weights(carried)
    trained = model.trainable_weights

    @tf.function
    def train(batch: dict) -> None:
        with tf.GradientTape() as tape:
            loss, _ = port.loss_of(model, batch)
        optimizer.apply(tape.gradient(loss, trained), trained)


make_optimizer = port.OPTIMIZERS["adam"]
record = Record(name)
record.training(model, data, port.loss_of, lambda weights: make_optimizer(trained))
optimizer = make_optimizer(trained)
if framework == "keras":
    optimizer.build(trained)


def step(number: int) -> None:
    batch = data[number % len(data)]
    if framework == "keras":
        train(batch)
        return
    loss, _ = port.loss_of(model, batch)
    loss.backward()
    optimizer.step()
    if framework == "torch":
        optimizer.zero_grad()
    else:
        optimizer.clear_grad()


take_turns(step, batch=SENTENCES, after=record)
