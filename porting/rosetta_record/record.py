"""A record that is being written, and the taps in a model that add to it."""

from __future__ import annotations

import gc
import itertools
import os
from importlib import import_module
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

import numpy as np

from . import RecordError
from .folder import REPLAY
from .framework import Described, Layer
from .replay import Feed
from .run import COMPUTING, Run, being_made
from .session import Inference, Loss, Training, record_task
from .values import (
    arrays_in,
    first_names,
    is_array,
    join,
    named_arrays,
    number_in,
    plain,
    precision_of,
    writable,
)


class Record:
    """A record that is being written into a folder, where it replaces an earlier record.

    Each call writes at once, so that a script that fails later leaves what it had recorded. Only
    what `layer` and `weights` are given is written with the next call of another method, or when
    the program ends.

    With a `feed` a replay is recorded too: before the model computes for the first time, it
    computes once with what the feed has in place of what layers give.

    All methods raise RecordError for what cannot be recorded.
    """

    def __init__(
        self, folder: str | os.PathLike[str], feed: str | os.PathLike[str] | None = None
    ) -> None:
        self.run = Run(Path(os.path.abspath(folder)), None if feed is None else Feed(Path(feed)))

    @property
    def folder(self) -> Path:
        return self.run.store.path

    def inputs(self, **arrays: Any) -> None:
        """Record what the model is fed: arrays, or dicts, tuples or dataclasses of arrays,
        by names that both sides use."""
        self.run.store.add("inputs", named_arrays(arrays))

    def model(self, model: Any) -> None:
        """Record the model's layers, and its weights as they are now.

        From now on calls of its layers are recorded, until the model has computed its own output,
        or until another method of this record is called.
        """
        run = self.run
        if run.content["weights"]:
            raise RecordError(
                "weights are already recorded; expected record.model once for each record"
            )
        weights = run.take(model)
        if run.feed:
            run.feed.check(weights)
            run.replay = Record(self.folder / REPLAY)
            replay = run.replay.run
            replay.source, replay.content["fed"] = run.feed, run.feed.of
            run.replay.model(model)
            replay.content["layers"], replay.watched = run.content["layers"], False
        run.store.add("weights", weights)

    def tap(self, name: str, tensor: Any) -> Any:
        """Record a tensor between layers, or in a model without layers,
        by a name that both sides use; returns it.

        It is compared in its place among the layers' outputs,
        and told with the line of the program that calls this.
        """
        return self.run.tap(name, tensor)

    def forward(self, **outputs: Any) -> None:
        """Record what the model computed, by names that both sides use."""
        self.run.end_pass()
        self.run.store.add("outputs", named_arrays(outputs))

    def loss(self, loss: Any) -> None:
        """Record the loss of the forward pass: one number."""
        self.run.end_pass()
        if self.run.content["loss"] is not None:
            raise RecordError(
                "a loss is already recorded; those of later steps are for record.step(number, loss)"
            )
        self.run.content["loss"] = number_in(loss)
        self.run.content["dtypes"]["loss"] = precision_of(loss) if hasattr(loss, "dtype") else None
        self.run.store.save()

    def gradients(self, model: Any = None, gradients: Any = None) -> None:
        """Record the gradients that the model's weights hold after the backward pass, or those
        given: a list in the order of the model's trainable weights, as Keras's gradient tape gives;
        a dict by the weights' names; or what Flax's gradient functions give."""
        self.run.end_pass()
        if isinstance(gradients, Mapping):
            gradients = arrays_in(gradients)
        else:
            framework = self.run.framework_for(model)
            trained = framework.trained(model)
            listed = framework.gradients(model) if gradients is None else gradients
            if len(listed) != len(trained):
                raise RecordError(
                    f"{len(listed)} gradients are given; expected {len(trained)}, "
                    "one for each weight"
                )
            of = {id(weight): gradient for weight, gradient in zip(trained, listed)}
            gradients = {name: of.get(id(weight)) for name, weight in self.run.weights().items()}
        gradients = {name: gradient for name, gradient in gradients.items() if gradient is not None}
        if not gradients:
            raise RecordError(
                "no weight has a gradient; call record.gradients after the backward pass, before "
                "they are cleared, or give them: record.gradients(model, gradients)"
            )
        self.run.check_names(gradients)
        self.run.store.add("gradients", gradients)

    def optimizer(self, optimizer: Any, settings: Any = None) -> None:
        """Record an optimizer's settings, and how many steps it counts.

        Call it after the first step, or in mid-training right after `record.model`. Of optax give
        an nnx.Optimizer, or the pair of a transformation and its state, with the settings that
        these hide. Give an optimizer of no framework by its name and its settings.
        """
        run = self.run
        run.end_pass()
        if run.content["optimizer"] is not None:
            raise RecordError(
                "an optimizer is already recorded; expected it once, after the first step"
            )
        described, classes, names = Described({}), [optimizer], {}
        if not isinstance(optimizer, str):
            framework, names = run.framework_for(run.model), first_names(run.weights())
            framework.refuse_strange(optimizer)
            described, classes = framework.optimizer(optimizer), framework.classes(optimizer)
        run.content["optimizer"] = {
            "class": classes[0],
            "classes": classes,
            "settings": plain({**described.settings, **(settings or {})}),
            "groups": [
                dict(plain(group), weights=[names.get(id(weight)) for weight in group["params"]])
                for group in described.groups
            ],
            "outside": sum(id(weight) not in names for weight in described.weights),
        }
        self.run.store.save()

    def step(self, number: int, loss: Any, weights: Mapping[str, Any] | None = None) -> None:
        """Record step `number` of the optimizer, from 1, after the step: the loss from which it was
        computed, and after the first step the model's weights as they are now, or the weights that
        are given by name."""
        self.run.check_names(weights or ())
        self.run.add_step(number, loss, self.run.weights() if weights is None else weights)

    def training(
        self, model: Any, batches: Iterable[Any], loss_of: Loss, optimizer: Any, steps: int = 10
    ) -> None:
        """Record all of a short training; in the end the model is as it was before.

        At most `steps` batches are read, and used in turns. `loss_of(model, batch)` gives the loss,
        or the loss and a dict of outputs. `optimizer` is an optimizer, or a function that makes one
        from the model's trainable weights.

        With such a function a control is recorded too. It shows how much of a difference is
        rounding: the same training from weights that are moved by one unit in the last place, of
        the coarsest type in which anything was computed of weights. In float64, whose bounds are
        known, there is none.
        """
        batches = list(itertools.islice(batches, max(steps, 0)))
        if not batches:
            raise RecordError(
                "there is no batch or no step; expected a list of what loss_of(model, batch) takes"
            )
        record_task(self, Training(model, batches, loss_of, optimizer, steps))

    def inference(self, model: Any, batches: Iterable[Any], outputs: Sequence[str] = ()) -> None:
        """Record a forward pass on each batch, of a model, or of one that was exported: the path of
        a file of ONNX, which ONNX Runtime computes on the CPU.

        A batch is what the model takes: a tensor, a list of them, or a dict by name. An exported
        model takes arrays of NumPy, too. `outputs` are names of what the model gives, where the
        other side has names for it.

        Of a model that was not exported a control is recorded, as by `training`.
        """
        batches = [(batch,) if is_array(batch) else batch for batch in batches]
        if not batches:
            raise RecordError("there is no batch; expected a list of what the model takes")
        exported = isinstance(model, (str, os.PathLike))
        if exported and self.run.feed:
            raise RecordError(
                "a feed goes into the layers of a framework; record an exported model without"
            )
        self.run.mark(finished=False)
        model = import_module(".onnx", __package__).Graph(model) if exported else model
        record_task(self, Inference(model, batches, outputs, repeats=not exported))

    def layer(
        self, path: str, kind: str, parameters: Any = None, settings: Any = None, output: Any = None
    ) -> None:
        """Record a layer of no framework: its parameters by the names that they have in it, its
        settings, and its output, in the order in which layers compute. A layer that computes again
        is given again, with its output alone."""
        run = self.run
        if run.framework is not None:
            raise RecordError(
                "record.layer takes plain arrays; the layers of a model are recorded "
                "by record.model"
            )
        names = {role: join(path, role) for role in parameters or {}}
        if path not in [layer["path"] for layer in run.content["layers"]]:
            run.describe(Layer(path, None, names, {}), [kind], settings or {})
        if names:
            self.weights(**{name: parameters[role] for role, name in names.items()})
        if output is not None:
            run.end_call({"layer": path}, output)
            run.store.wait("layers", run.calls.take())

    def weights(self, **arrays: Any) -> None:
        """Record weights of no layer, as plain arrays."""
        run = self.run
        for name in arrays.keys() & run.content["weights"].keys():
            raise RecordError(
                f"{name!r} is already recorded among the weights; expected each name once"
            )
        copies = {
            name: np.array(writable(array, f"{name!r} of weights"))
            for name, array in arrays.items()
        }
        run.store.wait("weights", copies)
        run.content["precision"] = run.precision_with(copies.values())
        run.content["weights"].update(
            {name: {"trainable": True, "tied_to": None} for name in arrays}
        )


def tap(name: str, tensor: Any) -> Any:
    """Call `Record.tap` of the record whose model computes now,
    or else of the one that is being made.

    Where no forward pass is recorded, it returns the tensor alone, so that a line of it may stay in
    a model. Raises RecordError where no model computes and two records are being made.
    """
    if not COMPUTING and len(being_made()) > 1:
        gc.collect()  # records that a traceback held
    runs = COMPUTING[-1:] or being_made()
    if len(runs) > 1:
        folders = " and ".join(sorted(str(run.store.path) for run in runs))
        raise RecordError(
            f"records are being made in {folders}; expected one of them, or "
            f"record.tap({name!r}, ...)"
        )
    return runs[0].tap(name, tensor) if runs else tensor
