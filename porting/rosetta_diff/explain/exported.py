"""Tells at which node of an exported graph two sides part."""

from collections.abc import Iterator

from rosetta_diff.helpers import some_of
from rosetta_diff.judge.check import Check
from rosetta_diff.judge.items import Stages


def in_graph(stages: Stages, check: Check) -> Iterator[str]:
    """Yield the node that is shown."""
    if check.stage != "forward" or not stages.right.framework.folds_weights:
        return
    layer = check.item.pair.right.layer if check.item.pair else None
    if layer and "node" in layer.settings:
        told = {name: value for name, value in layer.settings.items() if name != "node" and value not in ("", [])}
        words = [
            f"{name} {f'{value:g}' if isinstance(value, float) else value}" for name, value in sorted(told.items())
        ]
        of = f" with {some_of(words)}" if words else ""
        yield f"in the graph it is the node {layer.settings['node']}, {layer.classes[0]}{of}"
