"""A script of a race: the training step of a script of docs/tutorial. `python tutorial.py torch RUN` takes a run
of Rosetta."""

import sys
from pathlib import Path

from rosetta_record import take_turns

_, framework, run = arguments = sys.argv
script = Path(__file__).parents[1] / "tutorial" / f"{framework}_seq2seq.py"
# What comes before the loop over the batches: the data, the model, its weights and the optimizer.
before_steps, _, _ = script.read_text("utf-8").partition("\nfor step")
sys.argv = [str(script), run, "unused"]
tutorial: dict = {"__name__": "tutorial"}
exec(compile(before_steps, script, "exec"), tutorial)
sys.argv = arguments
model, optimizer, cross_entropy = (tutorial[name] for name in ("model", "optimizer", "cross_entropy"))
if framework == "keras":
    arrays = [tutorial[f"{name}_data"] for name in ("encoder_input", "decoder_input", "decoder_target")]
    starts = range(0, len(arrays[0]), tutorial["batch_size"])
    batches = [[array[start : start + tutorial["batch_size"]] for array in arrays] for start in starts]
else:
    batches = [*tutorial["loader"]]


def step(number: int) -> None:
    """Train on batch `number`, as the script does."""
    encoder_inputs, decoder_inputs, decoder_targets = batches[number % len(batches)]
    if framework == "keras":
        model.train_on_batch([encoder_inputs, decoder_inputs], decoder_targets)
        return
    logits = model(encoder_inputs, decoder_inputs)
    if framework == "torch":
        loss = cross_entropy(logits.flatten(0, 1), decoder_targets.flatten(0, 1))
        optimizer.zero_grad()
    else:
        loss = cross_entropy(logits, decoder_targets)
        optimizer.clear_grad()
    loss.backward()
    optimizer.step()


take_turns(step, batch=tutorial["batch_size"])
