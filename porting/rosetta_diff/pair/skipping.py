"""Leaves out what [skip] of a mapping file names: weights,
layers and what `rosetta-diff` prints."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import cached_property

from rosetta_diff.helpers import CannotBeginError, as_toml
from rosetta_diff.pair.pairs import LayerPair
from rosetta_diff.read.groups import WeightGroup
from rosetta_diff.read.side import Side

OUTPUTS = ("output", "sequence", "last", "cell")  # of a layer, as they are printed behind its name
CALL = re.compile(r", call \d+$")


@dataclass(frozen=True)
class Skips:
    """The lines of [skip]. In a name "*" stands for any text."""

    lines: Mapping[str, str] = field(default_factory=dict)  # names, and the reasons

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        plain = (name.replace("[", "[[]").replace("?", "[?]") for name in self.lines)
        return [re.compile(translate(name)) for name in plain]

    def has(self, *names: str) -> bool:
        return any(pattern.fullmatch(name) for pattern in self._patterns for name in names)

    def has_printed(self, tensor: str) -> bool:
        """True for what is compared under this name, whichever call of a layer it is of."""
        return self.has(tensor, CALL.sub("", tensor))

    def has_layer(self, group: WeightGroup) -> bool:
        """True where a group is left out, or all its weights are."""
        names = group.names
        return self.has(group.name, group.layer.path) or (
            bool(names) and all(self.has(name) for name in names)
        )

    def names_in(self, group: WeightGroup) -> set[str]:
        """The group's tensors that are left out."""
        tensors = group.tensors.items()
        return {name for name, tensor in tensors if self.has(f"{group.name} {name}", *tensor.names)}

    def without(self, groups: Iterable[WeightGroup]) -> list[WeightGroup]:
        """The groups without those that are left out, and without tensors that are."""
        kept = []
        for group in groups:
            rest = without_tensors(group, self.names_in(group))
            if not self.has_layer(group) and (rest.tensors or not group.tensors):
                kept.append(rest)
        return kept

    def without_pairs(self, pairs: Iterable[LayerPair]) -> tuple[list[LayerPair], list[str]]:
        """The pairs without what is left out on either side,
        and the names of what is left out with it."""
        kept, left_out = [], []
        for pair in pairs:
            whole = [self.has_layer(group) for group in pair.both]
            named = [self.names_in(group) for group in pair.both]
            gone = {*pair.names} if any(whole) else named[0] | named[1]
            rest = pair.without(gone)
            if rest.names or not (any(whole) or gone):
                kept.append(rest)
            for group, is_whole, chosen in zip(pair.both, whole, named, strict=True):
                names = (
                    [] if is_whole else [name for name in group.tensors if name in gone - chosen]
                )
                left_out += [array for name in names for array in group.tensors[name].names]
        return kept, left_out

    def check(self, groups: Iterable[WeightGroup], sides: Iterable[Side]) -> None:
        """Raises CannotBeginError for a line that fits nothing of either side,
        or gives no reason."""
        there: set[str] = set()
        for group in groups:
            there |= {group.name, group.layer.path, *group.names}
            there |= {f"{group.name} {name}" for name in (*group.tensors, *OUTPUTS)}
        for side in sides:
            there |= {name for file in ("inputs", "outputs") for name in side.arrays(file)}
            there |= {f"{layer.path or 'the model'} output" for layer in side.says.layers}
        for pattern, (name, reason) in zip(self._patterns, self.lines.items(), strict=True):
            if not any(map(pattern.fullmatch, there)):
                raise CannotBeginError(
                    f"the mapping skips {name}, which neither side has; [skip] names weights, "
                    "layers or outputs as either side or diff does"
                )
            if not reason.strip():
                raise CannotBeginError(
                    f'the mapping skips {name} without a reason; give one: {as_toml(name)} = "…"'
                )


def without_tensors(group: WeightGroup, names: Collection[str]) -> WeightGroup:
    kept = {name: tensor for name, tensor in group.tensors.items() if name not in names}
    return replace(group, tensors=kept) if len(kept) < len(group.tensors) else group
