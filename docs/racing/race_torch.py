"""A contestant of a race: the translator of docs/porting in torch. It records itself, then trains on."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "porting"))

import torch
from shared import SENTENCES, batches
from translator_torch import OPTIMIZERS, Translator, loss_of

from rosetta_record import Record, take_turns

torch.set_default_dtype(torch.float64)
torch.manual_seed(1)
model, data, record = Translator(), batches(), Record("translator-torch")
record.training(model, data, loss_of, OPTIMIZERS["adam"])
optimizer = OPTIMIZERS["adam"](model.parameters())


def step(number: int) -> None:
    loss, _ = loss_of(model, data[number % len(data)])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


take_turns(step, batch=SENTENCES, after=record)
