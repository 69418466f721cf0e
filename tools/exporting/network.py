"""A trained network as an ONNX graph: from normalised images to unit vectors."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.streams import Streams
from models.fusion import folded
from utils.errors import UserError, reason
from utils.extras import require

OPSET = 18  # the first whose Resize smooths
IMAGES, MODALITY, VECTORS = "images", "modality", "vectors"


class Selecting(nn.Module):
    """Streams as a graph for any batch: every stem sees every image, and each image keeps what its own stem makes."""

    def __init__(self, streams: Streams):
        super().__init__()
        for name, child in streams.named_children():
            self.add_module(name, child)

    def enter(self, images: Tensor, streams: Tensor | None) -> tuple[Tensor, None]:
        """(maps [R, 64, h, w] in the images' order, None: no row went elsewhere), as `Streams.enter` gives them."""
        first, *others = self.stems
        maps = first(images)
        for number, stem in enumerate(others if streams is not None else (), start=1):
            maps = torch.where((streams == number)[:, None, None, None], stem(images), maps)
        return maps, None


class Unit(nn.Module):
    """A network's vectors, of unit length."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """[B, 3, H, W] float32, [B] int64 -> [B, D] float32."""
        return F.normalize(self.network.embed(images, modalities).float(), dim=1)


def exportable(model: nn.Module) -> Unit:
    """A copy of a trained model, on the CPU, in operations that a graph can hold."""
    network = folded(model.cpu(), autocast=True)  # without oneDNN's own convolutions
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Streams):
                setattr(module, name, Selecting(child))
    return Unit(network).eval()


def core_graph(model: nn.Module, size: tuple[int, int]) -> Any:
    """An onnx.ModelProto: images [batch, 3, H, W] float32, modality [batch] int64 -> vectors [batch, D] float32.

    It has no input `modality` where the network asks for none. Raises UserError where the network does what no graph
    can.
    """
    onnx = require("onnx", "an export")
    images, modalities = torch.zeros(2, 3, *size), torch.arange(2)
    file = io.BytesIO()
    torch.onnx.register_custom_op_symbolic("aten::mT", _swapped, OPSET)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # an attention in one operation, which ONNX lacks
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing: sizes are fixed but for the batch's, which the tests vary
            torch.onnx.export(
                exportable(model),
                (images, modalities),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=[IMAGES, MODALITY],
                output_names=[VECTORS],
                dynamic_axes={name: {0: "batch"} for name in (IMAGES, MODALITY, VECTORS)},
            )
    except RuntimeError as error:
        raise UserError(f"the network cannot be exported: {reason(error)}") from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.onnx.unregister_custom_op_symbolic("aten::mT", OPSET)
    return onnx.load_from_string(file.getvalue())


def _swapped(graph: Any, x: Any) -> Any:
    """x.mT, for which the exporter has no rule: the last two axes exchanged."""
    *others, rows, columns = range(x.type().dim())
    return graph.op("Transpose", x, perm_i=[*others, columns, rows])
