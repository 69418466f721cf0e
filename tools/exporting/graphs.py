"""What stands before a network's graph: pixels of any size, resized and normalised; a modality that may be left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from data.images.decode import BILINEAR
from tools.exporting.network import IMAGES, MODALITY, OPSET
from utils.extras import require
from utils.images import IMAGENET_MEAN, IMAGENET_STD
from utils.types import Modality

FLOAT, DOUBLE = 1, 11  # ONNX's numbers of the types
PIXELS = ["batch", "height", "width", 3]
NEAR = 0.45  # of a grey level; with Pillow's 0.5 below one, with room for the last bits


class Parts:
    """Nodes and constants of a graph that grows; results are named after what they are."""

    def __init__(self):
        onnx = require("onnx", "an export")
        self.make, self.constant = onnx.helper.make_node, onnx.numpy_helper.from_array
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, inputs: list[str | np.ndarray], output: str, **attributes: Any) -> str:
        """An array among the inputs becomes a constant; "" is an input that is left out."""
        names = []
        for value in inputs:
            if not isinstance(value, str):
                self.constants.append(self.constant(value, f"{output}/{len(names)}"))
                value = self.constants[-1].name
            names.append(value)
        self.nodes.append(self.make(operation, names, [output], name=output, **attributes))
        return output


def resize(parts: Parts, images: str, size: tuple[int, int], interpolation: str) -> str:
    """[B, h, w, 3] uint8 -> [B, 3, H, W] float32, whole grey levels: within one of data/images/decode.py's resizing.

    As Pillow does, it rounds after each direction, and is mostly equal. Pillow takes either direction first, and a
    value in the middle between two levels falls to either side by the last bit. So what was rounded is kept near what
    was not: the first rounding moves a bilinear value by 0.5 at most, whichever it is, and then the results by one
    level.
    """
    planes = parts.add("Transpose", [images], "resize/planes", perm=[0, 3, 1, 2])
    levels = parts.add("Cast", [planes], "resize/levels", to=FLOAT)
    along = {BILINEAR: _bilinear, "lanczos": _lanczos}[interpolation]
    wide = along(parts, levels, 3, size[1], "resize/horizontal")
    rounded = along(parts, _rounded(parts, wide), 2, size[0], "resize/vertical")
    exact = along(parts, wide, 2, size[0], "resize/exact")
    least, most = (parts.add("Add", [exact, np.float32(side * NEAR)], f"resize/{side:+d}") for side in (-1, 1))
    above = parts.add("Max", [rounded, least], "resize/above")
    return _rounded(parts, parts.add("Min", [above, most], "resize/within"))


def _bilinear(parts: Parts, levels: str, axis: int, length: int, output: str) -> str:
    """Levels [B, 3, h, w] with another length of an axis."""
    way = {"mode": "linear", "antialias": 1, "exclude_outside": 1}
    return parts.add("Resize", [levels, "", "", np.array([length])], output, axes=[axis], **way)


def _lanczos(parts: Parts, levels: str, axis: int, length: int, output: str) -> str:
    """The same by a matrix of weights, [length, h or w]: ONNX's Resize has no such filter."""
    shape = parts.add("Shape", [levels], f"{output}/shape", start=axis, end=axis + 1)
    count = parts.add("Cast", [shape], f"{output}/count", to=DOUBLE)
    weights = _lanczos_weights(parts, count, length, output)
    if axis == 3:
        weights = parts.add("Transpose", [weights], f"{output}/turned", perm=[1, 0])
    made = parts.add("MatMul", [levels, weights] if axis == 3 else [weights, levels], f"{output}/made")
    return parts.add("Clip", [made, np.float32(0), np.float32(255)], output)


def _lanczos_weights(parts: Parts, count: str, length: int, name: str) -> str:
    """sinc(x) sinc(x / 3) where |x| < 3, in rows whose sum is 1: [length, count] float32; count: [1] float64.

    x is the distance of two pixels' centres in pixels of the coarser side.
    """

    def node(operation: str, inputs: list[str | np.ndarray], what: str, **attributes: Any) -> str:
        return parts.add(operation, inputs, f"{name}/{what}", **attributes)

    scale = node("Div", [count, np.float64(length)], "scale")
    own = node("Mul", [scale, (np.arange(length) + 0.5)[:, None]], "own")
    last = node("Squeeze", [count], "last")
    given = node("Add", [node("Range", [np.float64(0), last, np.float64(1)], "numbers"), np.float64(0.5)], "given")
    x = node("Div", [node("Sub", [given, own], "apart"), node("Max", [scale, np.float64(1)], "pixel")], "x")
    angle, same = node("Mul", [x, np.float64(np.pi)], "angle"), node("Equal", [x, np.float64(0)], "same")
    square = node("Where", [same, np.float64(1), node("Mul", [angle, angle], "squared")], "square")
    third = node("Sin", [node("Div", [angle, np.float64(3)], "slower")], "third")
    both = node("Mul", [node("Sin", [angle], "sine"), node("Mul", [third, np.float64(3)], "thrice")], "both")
    inside = node("Less", [node("Abs", [x], "distance"), np.float64(3)], "inside")
    kernel = node("Where", [same, np.float64(1), node("Div", [both, square], "quotient")], "kernel")
    kept = node("Where", [inside, kernel, np.float64(0)], "inner")
    total = node("ReduceSum", [kept, np.array([1])], "total", keepdims=1)
    return node("Cast", [node("Div", [kept, total], "shares")], "weights", to=FLOAT)


def _rounded(parts: Parts, levels: str) -> str:
    """Halves upwards, as Pillow does."""
    return parts.add("Floor", [parts.add("Add", [levels, np.float32(0.5)], f"{levels}/raised")], f"{levels}/rounded")


def normalise(parts: Parts, levels: str) -> str:
    """[B, 3, H, W] float32 grey levels -> the same as utils/images.py normalises them."""
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    scaled = parts.add("Div", [levels, np.float32(255)], "normalise/scaled")
    centred = parts.add("Sub", [scaled, mean], "normalise/centred")
    return parts.add("Div", [centred, std], "normalise/normalised")


def with_pixels(core: Any, size: tuple[int, int], interpolation: str = BILINEAR) -> Any:
    """The core's graph behind resizing and normalising.

    It takes images [batch, height, width, 3] uint8 and modality [batch] int64.
    """
    onnx = require("onnx", "an export")
    parts = Parts()
    normalised = normalise(parts, resize(parts, IMAGES, size, interpolation))
    model = _copied(core)
    _reads(model, IMAGES, normalised)
    inputs = [
        onnx.helper.make_tensor_value_info(IMAGES, onnx.TensorProto.UINT8, PIXELS),
        onnx.helper.make_tensor_value_info(MODALITY, onnx.TensorProto.INT64, ["batch"]),
    ]
    return _with(model, parts, inputs)


def reads_modality(core: Any) -> bool:
    """Whether the network's vectors depend on the modality."""
    return MODALITY in {value.name for value in core.graph.input}


def with_default(core: Any, modality: Modality) -> Any:
    """The core's graph, whose modality is one for each image, one for all, or left out and then this one."""
    onnx = require("onnx", "an export")
    model, parts = _copied(core), Parts()
    images = next(value for value in model.graph.input if value.name == IMAGES)
    if not reads_modality(core):
        return model
    count = parts.add("Shape", [IMAGES], "modality/batch", start=0, end=1)
    _reads(model, MODALITY, parts.add("Expand", [MODALITY, count], "modality/each"))
    parts.constants.append(parts.constant(np.array([int(modality)]), MODALITY))
    given = onnx.helper.make_tensor_value_info(MODALITY, onnx.TensorProto.INT64, ["one_or_batch"])
    return _with(model, parts, [images, given])


def resizing(size: tuple[int, int], interpolation: str = BILINEAR) -> Any:
    """A graph of the resizing alone: images [batch, height, width, 3] uint8 -> levels [batch, 3, H, W] float32."""
    onnx = require("onnx", "an export")
    parts, types, info = Parts(), onnx.TensorProto, onnx.helper.make_tensor_value_info
    levels = resize(parts, IMAGES, size, interpolation)
    given, made = info(IMAGES, types.UINT8, PIXELS), info(levels, types.FLOAT, ["batch", 3, *size])
    graph = onnx.helper.make_graph(parts.nodes, "resizing", [given], [made], parts.constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8)


def signed(model: Any, about: Mapping[str, str]) -> Any:
    """The model with these texts among its metadata, checked. It holds all its weights."""
    onnx = require("onnx", "an export")
    onnx.helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    return model


def _copied(model: Any) -> Any:
    found = type(model)()
    found.CopyFrom(model)
    return found


def _reads(model: Any, before: str, after: str) -> None:
    """Let every node that reads one value read another."""
    for node in model.graph.node:
        node.input[:] = [after if name == before else name for name in node.input]


def _with(model: Any, parts: Parts, inputs: list[Any]) -> Any:
    """The model with other inputs, and with the parts before its nodes."""
    graph, nodes = model.graph, list(model.graph.node)
    for field, values in ((graph.input, inputs), (graph.node, [*parts.nodes, *nodes])):
        del field[:]
        field.extend(values)
    graph.initializer.extend(parts.constants)
    return model
