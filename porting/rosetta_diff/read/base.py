"""A framework as its records show it, and the outputs of recurrent layers,
which two frameworks each give alike."""

from abc import ABC
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from rosetta_diff.read.rules import (
    CHANNELLED,
    DIMENSIONS_OR_CELL,
    GRADIENT,
    RECURRENT,
    Rule,
    Rules,
    Settings,
)
from rosetta_diff.read.view import Axes, Shape, Tensor, View, flat, plain

SEQUENCE: Axes = (("row",), ("time",), ("unit",))  # of an output of a recurrent layer
STATE: Axes = (("row",), ("unit",))
TIME_FIRST: Axes = (("time",), ("row",))


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer, of which a group of weights is a part, such as a direction."""

    kind: str
    part: str
    roles: Sequence[str]  # the layer's names of its weights
    settings: Settings  # the layer's settings as the framework has them
    time_first: bool


Parts = Sequence[tuple[str, Shape]]  # names and shapes of the arrays of an output


class Deviation(NamedTuple):
    """Words of what a framework alone does, and its entry in docs/deviations.md."""

    words: str
    entry: str


class Framework(ABC):
    """All that is known of a framework. Its own names and values lead to canonical ones."""

    name: str
    layers: Rules
    # Of layers, as far as they change numbers: canonical names by own ones.
    settings: Mapping[str, str]
    # What makes of an own setting's value the canonical one.
    meanings: Mapping[str, Callable[[Any], Any]] = {}
    always: Mapping[str, Settings] = {}  # canonical settings that all layers of a kind have
    channels_first = False  # as installed
    divides_by_n = True  # the variance that moves the running one; else by n - 1
    folds_weights = False  # whether one of its weights may be made of several of the model
    epsilon: str = "epsilon"  # the attribute in which a norm keeps it
    # Whether the whole model is a layer with a name, which stands first and ends last.
    names_the_model = False

    # By classes of layers.
    made_in_float32: Mapping[str, Deviation] = {}  # whatever the default type is
    # Entries of what a layer computes in float32 even in float64.
    float32_within: Mapping[str, str] = {}
    float32_epsilons: Mapping[str, Deviation] = {}  # norms that round epsilon to float32
    # Gradients are multiplied by a constant of float32.
    float32_gradients: Mapping[str, Deviation] = {}
    rounds_momentum = False  # whether norms round it to float32

    optimizers: Mapping[str, str]  # settings of optimizers: canonical names by own ones
    epsilons: Mapping[str, str] = {}  # by an optimizer's class: where it has epsilon
    # Where weight decay may go, but that of AdamW; the usual way first.
    decays: Sequence[str] = (GRADIENT,)
    # Settings by which optimizers clip gradients, and how; none where none clips.
    clips: Mapping[str, str] = {}
    entry_of_constants = "constants-precision"  # of `float32_settings`

    files: tuple[str, ...] = ()  # endings of what the framework's loader reads, the usual one first

    def rules(self, classes: Sequence[str], settings: Settings) -> tuple[Rule, ...]:
        """Rules of a layer of these classes, nearest first; none where nothing is known of it."""
        names = [DIMENSIONS_OR_CELL.sub("", name) for name in classes]
        known = next((self.layers[name] for name in names if name in self.layers), ())
        if callable(known):
            return known(settings)
        return (known,) if isinstance(known, Rule) else known

    def settings_of(self, settings: Settings, kind: str = "") -> dict[str, Any]:
        """A layer's settings in canonical terms, with those that all layers of its kind have."""
        canonical_settings = dict(self.always.get(kind, {}))
        for name, canonical in self.settings.items():
            if name in settings:
                try:
                    canonical_settings[canonical] = (
                        self.meanings[name](settings[name])
                        if name in self.meanings
                        else settings[name]
                    )
                except (TypeError, AttributeError):  # somebody's own meaning of the name
                    continue
        for name in self.idle_settings(settings):
            canonical_settings.pop(name, None)
        return canonical_settings

    def idle_settings(self, settings: Settings) -> Iterator[str]:
        """Yield canonical settings that do nothing in a layer with these settings."""
        kernel = settings.get("kernel_size", settings.get("_kernel_size"))
        if kernel == 1 or (isinstance(kernel, list) and {*kernel} == {1}):
            yield "dilation"

    def name_axes(self, kind: str, settings: Settings, number: int) -> Axes:
        """Names of the axes of what a layer of a kind takes and gives; none where nothing tells."""
        if kind in CHANNELLED:
            return channelled(number, self.channels_stand_first(settings))
        if kind in RECURRENT and number == len(SEQUENCE):
            time_first = bool(self.settings_of(settings, kind).get("time_first"))
            return (*(TIME_FIRST if time_first else TIME_FIRST[::-1]), ("unit",))
        return ()

    def channels_stand_first(self, settings: Settings) -> bool:
        """True if the channels of what a layer takes and gives follow the rows,
        as its settings or the framework have it."""
        said = str(settings.get("data_format") or settings.get("_data_format") or "")
        usual = not said and self.channels_first
        return (
            usual
            or said == "channels_first"
            or said.startswith("NC")
            or settings.get("axis") in (1, [1])
        )

    def activation(self, kind: str, settings: Settings) -> str:
        """Name of the activation in a layer of a kind."""
        return str(self.settings_of(settings, kind).get("activation") or "linear")

    def kind_of_optimizer(self, classes: Sequence[str], name: str) -> str:
        """The framework's class that an optimizer is or comes from,
        of its classes, nearest first, and its name."""
        return next((known for known in classes if "." not in known), name)

    def is_custom_optimizer(self, name: str) -> bool:
        """True for an optimizer whose class, of this name, a person wrote."""
        return "." in name

    def settings_of_optimizer(self, settings: Settings) -> dict[str, Any]:
        """An optimizer's settings in canonical terms."""
        return {
            self.optimizers[name]: value
            for name, value in settings.items()
            if name in self.optimizers
        }

    def place_of_epsilon(self, kind: str, settings: Settings) -> str | None:
        """Place of an optimizer's epsilon; None where it is not known."""
        return self.epsilons.get(kind)

    def clipping(self, settings: Settings) -> tuple[str, Any] | None:
        """Way and limit by which an optimizer itself clips gradients; None where it does not."""
        return next(
            ((way, settings[name]) for name, way in self.clips.items() if settings.get(name)), None
        )

    def counters(self, settings: Settings) -> set[int]:
        """Steps that an optimizer counts, by its settings."""
        return set()

    def float32_layers(self, backend: str | None) -> frozenset[str]:
        """Classes of layers, and activations within layers,
        with constants of float32 even in float64."""
        return frozenset()

    def float32_settings(self, backend: str | None) -> Mapping[str, tuple[str, ...]]:
        """By an optimizer's class its settings of which it makes constants
        of float32 even in float64."""
        return {}

    def repeated_ids(self, backend: str | None, family: str) -> Deviation | None:
        """The treatment by an optimizer of a family of the gradients of an id that stands several
        times in a batch; None where it adds them up."""
        return None

    def second_names(
        self, classes: Container[str], parameters: Mapping[str, str]
    ) -> dict[str, str]:
        """Second names that a loader has for the weights of a layer, and the first ones."""
        return {}

    def outputs(self, layer: Recurrent, parts: Parts) -> dict[str, Tensor]:
        """Outputs of a recurrent layer that are of a part of it:
        `sequence` (N, T, H), `last` and `cell` (N, H)."""
        return sequence_and_states(
            layer, parts, bool(layer.settings.get("go_backwards")), order_is_kept=False
        )


def channelled(number: int, channels_first: bool) -> Axes:
    """Names of so many axes, of which one is that of channels."""
    if number < 3:
        return STATE[:number]
    positions = tuple((f"position{place}",) for place in range(number - 2))
    return (
        (("row",), ("channel",), *positions)
        if channels_first
        else (("row",), *positions, ("channel",))
    )


def idle_in_stacked(settings: Settings) -> Iterator[str]:
    """Yield what does nothing in a recurrent layer of torch or Paddle:
    dropout stands between stacked layers."""
    if settings.get("num_layers") == 1 and "hidden_size" in settings:
        yield "rate"


def stacked_outputs(layer: Recurrent, parts: Parts) -> dict[str, Tensor]:
    """Outputs in torch and Paddle: the last layer's sequence, the directions side by side, and the
    last states (layers × directions, N, H). A cell gives its states alone."""
    states = ("last", "cell")[: 2 if layer.kind == "lstm" else 1]
    if not layer.part:
        return {"last": plain(*parts[0])} | (
            {"cell": plain(*parts[-1])} if len(states) == 2 else {}
        )
    names = [role for role in layer.roles if role.startswith("weight_ih_l")]
    number = names.index(f"weight_ih_{layer.part}")
    directions = 1 + any(name.endswith("_reverse") for name in names)
    outputs = {}
    name, shape = parts[0]
    if number >= len(names) - directions and len(shape) == 3 and shape[-1] % directions == 0:
        axes = TIME_FIRST if layer.time_first else TIME_FIRST[::-1]
        sizes = dict(zip(flat(axes), shape, strict=False))
        sizes |= {"direction": directions, "unit": shape[-1] // directions}
        view = View(name, (*axes, ("direction", "unit")), sizes, {"direction": number % directions})
        outputs["sequence"] = Tensor((view,), SEQUENCE)
    for state, (name, shape) in zip(states, parts[1:], strict=False):
        outputs[state] = plain(name, shape)
        if len(shape) == 3 and number < shape[0]:
            sizes = dict(zip(("stacked", "row", "unit"), shape, strict=True))
            view = View(name, (("stacked",), *STATE), sizes, {"stacked": number})
            outputs[state] = Tensor((view,), STATE)
    return outputs


def sequence_and_states(
    layer: Recurrent, parts: Parts, backwards: bool, order_is_kept: bool
) -> dict[str, Tensor]:
    """Outputs in Keras and Flax: the sequence (N, T, H) or the last output, and the last states
    where they were asked for. A layer that goes backwards gives its sequence in the order in which
    it went, unless it keeps the order."""
    (name, shape), *states = parts
    outputs = {"last": plain(name, shape)}
    if len(shape) == 3:
        axes = (*(TIME_FIRST if layer.time_first else TIME_FIRST[::-1]), ("unit",))
        view = View(name, axes, dict(zip(flat(axes), shape, strict=True)))
        turned = replace(view, picked={"time": slice(None, None, -1)}) if backwards else view
        outputs = {"sequence": Tensor((turned,), SEQUENCE), "last": Tensor((view,), SEQUENCE)}
        if view.sizes["time"]:
            outputs["last"] = Tensor(
                (replace(view, picked={"time": 0 if order_is_kept else -1}),), STATE
            )
    return outputs | dict(zip(("last", "cell"), (plain(*state) for state in states), strict=False))
