"""Exported models in ONNX, as a record needs them; ONNX Runtime computes them on the CPU.

A graph is a model. Its nodes are layers, and the numbers that they take and that no input changes
are weights. The file itself gives the outputs, and a copy of it what the nodes give.
"""

from __future__ import annotations

import ast
import os
import sys
from collections import Counter
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Mapping, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from . import RecordError
from .framework import Computed, Framework, Layer
from .values import array_of, arrays_in

# Under which torch writes the paths of a node's modules and its name in them.
SCOPES = "pkg.torch.onnx.name_scopes"
OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}  # numbers of outputs, of which a graph may ask for fewer
# Begin the names of operators that give other numbers each time.
RANDOM = ("Random", "Bernoulli", "Multinomial")
LONGEST_SETTING = 64  # numbers of a constant that is recorded among the settings
LONGEST_MESSAGE = 300  # characters of ONNX Runtime's words


class Node:
    """A layer: an operator and its weights, or the graph."""

    __module__ = "onnx"  # by which a record knows the framework
    computed: Any = None  # what is called with each call, while the node is watched

    def __init__(
        self, path: str, kind: str, settings: Mapping[str, Any], parameters: Mapping[str, str]
    ) -> None:
        self.path, self.kind, self.settings, self.parameters = path, kind, settings, parameters


# Names of inputs by the operator's names, and of outputs.
Call = Tuple[Node, Mapping[str, str], Sequence[str]]


class Graph(Node):
    """The model in a file. Called with its inputs, as arrays or tensors,
    it returns a list of its outputs."""

    __module__ = "onnx"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises RecordError where a package is missing,
        and for a file that ONNX Runtime does not load."""
        super().__init__("", "Graph", {}, {})
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise RecordError(
                f"{path} is computed by ONNX Runtime, and {error.name} is missing; pip install "
                "onnx onnxruntime"
            ) from error
        self._onnx, self._runtime, self._file = onnx, onnxruntime, os.fspath(path)
        self._session = self._open_session(self._file)
        with self._loading():
            self._copy = onnx.load(self._file)
        for node in self._copy.graph.node:
            node.name = node.name or next(filter(None, node.output))
        self._types = {
            each.name: each.type[len("tensor(") : -1] for each in self._session.get_inputs()
        }
        self._outputs = [output.name for output in self._copy.graph.output]
        self.constants = self._fold()
        self.calls = [*self._read()]
        named = (name for _, inputs, outputs in self.calls for name in (*inputs.values(), *outputs))
        self._names = [name for name in dict.fromkeys(named) if name not in self._types]
        self._open = self._open_session(self._copy, self._names)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        arrays = [array_of(each) for each in arrays_in([*inputs, *named.values()]).values()]
        names = list(named or self._types)
        if len(arrays) != len(names) or {*names} != {*self._types}:
            given = ", ".join(named) or f"{len(arrays)} arrays"
            raise RecordError(
                f"a batch has {given}; {self._file} takes {len(self._types)}: "
                f"{', '.join(self._types)}"
            )
        for place, name in enumerate(names):
            if arrays[place].dtype.kind in "iu" and "int" in self._types[name]:
                arrays[place] = arrays[place].astype(self._types[name])
        return self.computed(self._compute, (), dict(zip(names, arrays)))

    def _compute(self, **feeds: Any) -> list[Any]:
        """Compute all calls, hand each to what watches its node,
        and return the outputs of the file itself."""
        values = {**feeds, **self._run(self._open, self._names, feeds)}
        for node, of_inputs, of_outputs in self.calls:
            inputs = {
                role: values[name] for role, name in of_inputs.items() if is_float(values[name])
            }
            outputs = [values[name] for name in of_outputs if is_float(values[name])]
            if outputs:
                node.computed(lambda given=outputs, **_: given, (), inputs)
        return [*self._run(self._session, self._outputs, feeds).values()]

    # ONNX Runtime, whose errors have no class of their own

    def _open_session(self, model: Any, names: Sequence[str] = ()) -> Any:
        """Return a session of the file, or of a copy with these values as its outputs, each of
        whose nodes is computed as it is written."""
        options, levels = self._runtime.SessionOptions(), self._runtime.GraphOptimizationLevel
        options.log_severity_level = 3  # errors alone
        with self._loading():
            if names:
                options.graph_optimization_level = levels.ORT_DISABLE_ALL
                del model.graph.output[:]
                model.graph.output.extend(self._onnx.ValueInfoProto(name=name) for name in names)
                model = model.SerializeToString()  # of 2 GiB at most
            return self._runtime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """Raise RecordError where the block does not load the file."""
        try:
            yield
        except Exception as error:
            raise RecordError(
                f"{self._file} is not loaded by ONNX Runtime: {words_of(error)}"
            ) from error

    def _run(self, session: Any, names: Sequence[str], feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Return values by name."""
        try:
            return dict(zip(names, session.run(names, feeds)))
        except Exception as error:
            hint = "was a length, or a number of rows, exported as a constant?"
            raise RecordError(
                f"{self._file} does not compute a batch: {words_of(error)}; {hint}"
            ) from error

    # What the file says

    def _fold(self) -> dict[str, NDArray[Any]]:
        """Return the initializers by name, and what is computed of them alone,
        which becomes initializers of the copy."""
        graph, helper = self._copy.graph, self._onnx.numpy_helper
        constants = {tensor.name: helper.to_array(tensor) for tensor in graph.initializer}
        part, known, rest = self._onnx.ModelProto(), {*constants, ""}, []
        part.CopyFrom(self._copy)
        del part.graph.input[:], part.graph.node[:]
        for node in graph.node:
            fixed = known.issuperset(node.input) and not node.op_type.startswith(RANDOM)
            if fixed and not any(attribute.HasField("g") for attribute in node.attribute):
                part.graph.node.append(node)
                known.update(node.output)
            else:
                rest.append(self._onnx.NodeProto.FromString(node.SerializeToString()))
        taken = {*self._outputs, *(name for node in rest for name in taken_by(node))}
        names = [name for node in part.graph.node for name in node.output if name in taken]
        if names:
            constants.update(self._run(self._open_session(part, names), names, {}))
            graph.initializer.extend(helper.from_array(constants[name], name) for name in names)
            del graph.node[:]
            graph.node.extend(rest)
        return constants

    def _read(self) -> Iterator[Call]:
        """Yield the calls in order. Nodes of one kind and one module
        that take the same weights are one layer."""
        biases = self._biases()
        layers: dict[Any, Node] = {}
        added = {id(add) for add, _ in biases.values()}
        nodes = [node for node in self._copy.graph.node if id(node) not in added]
        scopes = [scope_of(node) for node in nodes]
        for node, scope in zip(nodes, scopes):
            settings, inputs = self._describe(node)
            last, bias = biases.get(node.output[0], (node, ""))
            names = [*last.output, *[""] * (OUTPUTS.get(node.op_type, 0) - len(last.output))]
            last.output[:] = [name or f"{node.name}:{place}" for place, name in enumerate(names)]
            constants = {role: name for role, name in inputs.items() if name in self.constants}
            parameters = {
                role: name for role, name in constants.items() if is_weight(self.constants[name])
            }
            parameters.update({"bias": bias} if bias else {})
            small = {
                role: self.constants[constants[role]]
                for role in constants.keys() - parameters.keys()
            }
            settings.update(
                {role: one.tolist() for role, one in small.items() if one.size <= LONGEST_SETTING}
            )
            alone = scope and sum(is_within(each, scope) for each in scopes) == 1
            path = scope if alone else f"{scope}/{node.name.rpartition('/')[2]}".lstrip("/")
            layer = Node(path, node.op_type, settings, parameters)
            key = (node.op_type, scope, *parameters.values()) if parameters else path
            computed = {role: name for role, name in inputs.items() if role not in constants}
            yield layers.setdefault(key, layer), computed, last.output

    def _biases(self) -> dict[str, tuple[Any, str]]:
        """Return by the output of a product the Add of a vector to it,
        perhaps after a Reshape, and the vector."""
        nodes = list(self._copy.graph.node)
        self._nodes = nodes  # or a node that is asked for again would be another object
        uses = Counter([*self._outputs, *(name for node in nodes for name in taken_by(node))])
        makers = {node.output[0]: node for node in nodes}
        biases = {}
        for add in [node for node in nodes if node.op_type == "Add"]:
            for name, bias in (add.input, add.input[::-1]):
                maker = makers.get(name)
                if maker and maker.op_type == "Reshape" and uses[name] == 1:
                    name, maker = maker.input[0], makers.get(maker.input[0])
                is_product = maker and maker.op_type in ("MatMul", "Gemm") and uses[name] == 1
                if is_product and bias in self.constants and self.constants[bias].ndim == 1:
                    biases[name] = add, bias
        return biases

    def _describe(self, node: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """Return an operator's attributes, with the defaults of its opset,
        and its inputs by the operator's names."""
        defs, value_of = self._onnx.defs, self._onnx.helper.get_attribute_value
        versions = {opset.domain: opset.version for opset in self._copy.opset_import}
        attributes = list(node.attribute)
        roles: list[str] = []
        if defs.has(node.op_type, versions.get(node.domain, 1), node.domain):
            schema = defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
            roles = [each.name for each in schema.inputs]
            attributes = [*(each.default_value for each in schema.attributes.values()), *attributes]
        settings = {each.name: value_of(each) for each in attributes if each.type}
        settings = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in settings.items()
        }
        settings["node"] = node.name
        roles += map(str, range(len(roles), len(node.input)))
        inputs = {role: name for role, name in zip(roles, node.input) if name}
        within = [
            name for name in taken_by(node) if name in self.constants and name not in node.input
        ]
        return settings, {**inputs, **dict(zip(within, within))}


class Onnx(Framework):
    name, base = "onnx", ""

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": sys.modules["onnxruntime"].__version__,
            "backend": None,
        }

    def layer_class(self) -> Any:
        return Graph

    def weights(self, model: Any) -> dict[str, Any]:
        if not isinstance(model, Graph):
            return dict(model.parameters)
        return {
            name: model.constants[name]
            for node, _, _ in model.calls
            for name in node.parameters.values()
        }

    def trainable(self, weight: Any) -> bool:
        return False

    def layers(self, model: Any) -> list[Layer]:
        nodes = {id(node): node for node in (model, *(node for node, _, _ in model.calls))}.values()
        return [Layer(node.path, node, node.parameters, {}) for node in nodes]

    def classes(self, value: Any) -> list[str]:
        return [value.kind]

    def settings(self, layer: Any) -> dict[str, Any]:
        return dict(layer.settings)

    def watch(self, layer: Any, computed: Computed) -> Callable[[], Any]:
        layer.computed = computed
        return lambda: setattr(layer, "computed", None)

    def training(self, layer: Any, options: Mapping[str, Any]) -> Any:
        return False  # as ONNX Runtime computes


def scope_of(node: Any) -> str:
    """Return the path of the module of which an exporter made a node; "" where nothing tells."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            return str(["", *ast.literal_eval(entry.value)][-2])
    return str(node.name.strip("/").rpartition("/")[0])


def taken_by(node: Any) -> list[str]:
    """Return the names of what a node takes, also within its graphs, such as a loop's body."""
    within = (inner for attribute in node.attribute for inner in attribute.g.node)
    return [*node.input, *(name for inner in within for name in taken_by(inner))]


def is_within(path: str, scope: str) -> bool:
    return path == scope or path.startswith((f"{scope}.", f"{scope}/"))


def is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def is_weight(array: NDArray[Any]) -> bool:
    # If it is quantized.
    return array.size > 1 and (array.dtype.kind == "f" or array.dtype.name in ("int8", "uint8"))


def words_of(error: Exception) -> str:
    return " ".join(str(error).split())[:LONGEST_MESSAGE]


FRAMEWORK = Onnx()  # type: ignore[abstract]  # what trains is left out
