# SPDX-License-Identifier: Apache-2.0
"""Detectors in the layout of the published ones, small enough to be made by a test: red is a face, white is text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml
from onnx import TensorProto, helper, numpy_helper

FACES, TEXT = "yunet-2023mar", "ppocr-v3-text-detection"


def _model(nodes: list, inputs: dict[str, list[int]], outputs: dict[str, list[int]], constants: dict) -> bytes:
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in each.items()]
        for each in (inputs, outputs)
    ]
    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", *values, initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def faces(side: int = 640) -> bytes:
    """Scores at stride 8 are how red each cell is (the last of BGR) and how little blue; boxes are the cells around."""
    shapes = {
        f"{name}_{stride}": [1, (side // stride) ** 2, width]
        for name, width in (("cls", 1), ("obj", 1), ("bbox", 4))
        for stride in (8, 16, 32)
    }
    empty = [name for name in shapes if name not in ("cls_8", "obj_8")]
    constants = {f"zero_{name}": np.zeros(shapes[name], np.float32) for name in empty}
    constants |= {"255": np.float32(255), "one": np.float32(1), "flat": np.array([1, -1, 1])}
    constants |= {"blue": np.array([0]), "red": np.array([2])}
    constants["zero_bbox_8"][..., :2] = 0.5  # centres of the cells
    nodes = [
        helper.make_node("AveragePool", ["input"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Div", ["cells", "255"], ["scaled"]),
        helper.make_node("Gather", ["scaled", "red"], ["red cells"], axis=1),
        helper.make_node("Gather", ["scaled", "blue"], ["blue cells"], axis=1),
        helper.make_node("Sub", ["one", "blue cells"], ["no blue"]),
        helper.make_node("Reshape", ["red cells", "flat"], ["cls_8"]),
        helper.make_node("Reshape", ["no blue", "flat"], ["obj_8"]),
        *(helper.make_node("Identity", [f"zero_{name}"], [name]) for name in empty),
    ]
    return _model(nodes, {"input": [1, 3, side, side]}, shapes, constants)


def text(side: int = 736) -> bytes:
    """Probabilities are how far the middle channel is above its mean, which makes 1 of white; without a batch."""
    white = np.float32((255 - 116.28) / (255 * 0.224))
    constants = {"white": white, "green": np.array([1]), "0": np.float32(0), "1": np.float32(1)}
    constants["map"] = np.array([side, side])
    nodes = [
        helper.make_node("Gather", ["x", "green"], ["channel"], axis=1),
        helper.make_node("Div", ["channel", "white"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "0", "1"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "map"], ["4"]),
    ]
    return _model(nodes, {"x": [1, 3, side, side]}, {"4": [side, side]}, constants)


def catalogue(folder: Path, files: dict[str, bytes], missing: Iterable[str] = ()) -> Path:
    """A ``config/weights.yaml`` of such files, of which some are missing."""
    entries = {
        name: {
            "file": f"{name}.onnx", "sha256": hashlib.sha256(content).hexdigest(), "used_for": "a subset",
            "source": "somewhere", "licence": "none",
        }
        for name, content in files.items()
    }  # fmt: skip
    path = folder / "config" / "weights.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"weights_dir": "weights", "files": entries}))
    (folder / "weights").mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / "weights" / f"{name}.onnx").write_bytes(content)
    for name in missing:
        (folder / "weights" / f"{name}.onnx").unlink()

    return path
