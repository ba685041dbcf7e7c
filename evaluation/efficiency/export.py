# SPDX-License-Identifier: Apache-2.0
"""A model as an ONNX file of static shapes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

LARGEST_FILE = 1_500_000_000  # bytes of weights in the file itself; protocol buffers end at 2 GiB


def export_onnx(module: nn.Module, inputs: Sequence[Tensor], path: Path) -> Path:
    """Write a module as an ONNX file for inputs of exactly these shapes; weights keep their precision.

    Args:
        module: in evaluation mode, from the inputs to one tensor.
        inputs: in their order.
        path: of the file; weights that are too large for one file lie beside it.
    """
    with torch.no_grad(), _quiet():
        program = torch.export.export(module, tuple(inputs), strict=False)
        _drop_squeezes_of_nothing(program.graph)
        onnx = torch.onnx.export(program, (), dynamo=True, verbose=False)
    size = sum(parameter.nbytes for parameter in module.parameters())
    onnx.save(path, external_data=size > LARGEST_FILE)
    return Path(path)


def _drop_squeezes_of_nothing(graph: torch.fx.Graph) -> None:
    """PyTorch squeezes a dimension only if it is 1, ONNX any: drop what changes no shape (PixArt in diffusers)."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.squeeze.dim and node.meta["val"].shape == node.args[0].meta["val"].shape:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
