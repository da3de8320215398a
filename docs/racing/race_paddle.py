"""A contestant of a race: the translator of docs/porting in Paddle. It records itself, then trains on."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "porting"))

import paddle
from shared import SENTENCES, batches
from translator_paddle import CARRIED, OPTIMIZERS, Translator, loss_of

from rosetta_record import Record, take_turns

paddle.set_device("cpu")
paddle.set_default_dtype("float64")
paddle.seed(1)
model, data, record = Translator(), batches(), Record("translator-paddle")
if CARRIED.exists():
    model.set_state_dict(paddle.load(str(CARRIED)))
record.training(model, data, loss_of, OPTIMIZERS["adam"])
optimizer = OPTIMIZERS["adam"](model.parameters())


def step(number: int) -> None:
    loss, _ = loss_of(model, data[number % len(data)])
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()


take_turns(step, batch=SENTENCES, after=record)
