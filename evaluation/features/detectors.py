# SPDX-License-Identifier: Apache-2.0
"""Detection of faces and text in real images: their number, and the share of the image that they cover.

Two detectors of OpenCV's model zoo, ONNX files run by onnxruntime and decoded as in OpenCV:

- ``yunet``: faces, by YuNet of March 2023. BGR in 0 ... 255; at strides 8, 16 and 32 a class score, an objectness and a
  box for each place (modules/objdetect/src/face_detect.cpp). Made for faces of 10 to 300 px of its 640.
- ``db``: text, by Differentiable Binarization, trained for PP-OCRv3. BGR, normalised by ImageNet's mean of RGB channel
  by channel, as in PaddleOCR; a map of probabilities, in which text is shrunk (arXiv 1911.08947, section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor
from torchvision.ops import nms

from dcae.benchmark.entries import Protocol, SubsetDetector, digest
from dcae.weights.catalogue import WeightsError, expected_sha256, find

YUNET_STRIDES, YUNET_SIDE, YUNET_OVERLAP = (8, 16, 32), 640, 0.3
DB_SIDE, DB_BINARY, DB_UNCLIP, DB_SMALLEST = 736, 0.3, 2.0, 3
MEAN, DEVIATION = np.array((123.675, 116.28, 103.53)), 255 * np.array((0.229, 0.224, 0.225))

Outputs = dict[str, np.ndarray]


# --- from a network's outputs to boxes [K, 4]: left, top, right and bottom in pixels of its input -------------------


def yunet_boxes(outputs: Outputs, side: int, score: float) -> np.ndarray:
    """Decode faces of at least the score, of which no two overlap by more than 0.3 of their union.

    Args:
        outputs: ``cls_8`` and ``obj_8`` [1, n, 1], ``bbox_8`` [1, n, 4], n being (side / 8)²; the same for 16 and 32.
        side: of the input, in pixels.
        score: least square root of the product of both scores.
    """
    boxes, scores = [], []
    for stride in YUNET_STRIDES:
        cells = side // stride
        cls, obj = (outputs[f"{name}_{stride}"].reshape(-1).clip(0, 1) for name in ("cls", "obj"))
        box = outputs[f"bbox_{stride}"].reshape(-1, 4).astype(np.float64)
        place = np.stack([np.arange(cells**2) % cells, np.arange(cells**2) // cells], axis=1)  # column, row
        centre, size = (place + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride
        boxes.append(np.concatenate([centre - size / 2, centre + size / 2], axis=1))
        scores.append(np.sqrt(cls * obj))
    boxes, scores = np.concatenate(boxes), np.concatenate(scores)
    sure = scores >= score
    boxes, scores = boxes[sure], scores[sure].astype(np.float64)
    return boxes[nms(torch.from_numpy(boxes), torch.from_numpy(scores), YUNET_OVERLAP).numpy()]


def db_boxes(probabilities: np.ndarray, score: float) -> np.ndarray:
    """Decode boxes of text with a mean probability of at least the score, grown back to the size before shrinking.

    OpenCV turns a box with its text; these are upright, so that their share of the image is an upper bound.

    Args:
        probabilities: [H, W].
        score: least mean probability of the pixels of a region.
    """
    regions, count = ndimage.label(probabilities > DB_BINARY, structure=np.ones((3, 3)))
    means = ndimage.mean(probabilities, regions, range(1, count + 1))
    boxes = []
    for (rows, columns), mean in zip(ndimage.find_objects(regions), np.atleast_1d(means), strict=True):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if mean < score or min(height, width) < DB_SMALLEST:
            continue
        grown = height * width * DB_UNCLIP / (2 * (height + width))  # area by perimeter
        boxes.append((columns.start - grown, rows.start - grown, columns.stop + grown, rows.stop + grown))
    return np.array(boxes, np.float64).reshape(-1, 4)


def covered(boxes: np.ndarray, side: int) -> float:
    """Return the share of a square image that the union of boxes covers."""
    mask = np.zeros((side, side), bool)
    for left, top, right, bottom in boxes.round().astype(int).clip(0, side):
        mask[top:bottom, left:right] = True
    return float(mask.mean())


# --- detectors ------------------------------------------------------------------------------------------------------


class Detector:
    """A detector with the weight file that a protocol names.

    Raises:
        WeightsError: the file is missing, has the wrong content, or is no such network.
    """

    def __init__(self, subset: SubsetDetector):
        self.subset = subset
        path = find(subset.weights)
        import onnxruntime  # it starts threads

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # a job may have few
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [each for each in wanted if each in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            raise WeightsError(f"{path}: onnxruntime cannot open it ({error})") from error
        self.input = self.session.get_inputs()[0]
        _check_outputs(path, subset, {each.name for each in self.session.get_outputs()})
        default = {"yunet": YUNET_SIDE, "db": DB_SIDE}[subset.detector]
        self.side = self.input.shape[-1] if isinstance(self.input.shape[-1], int) else default

    def __call__(self, images: Tensor) -> Tensor:
        """Return count and covered share of the image, float64 [B, 2], of uint8 images [B, 3, R, R]."""
        return torch.tensor([self._found(image) for image in images], dtype=torch.float64).reshape(-1, 2)

    def _found(self, image: Tensor) -> tuple[float, float]:
        boxes = self.boxes(image)
        return len(boxes), covered(boxes, self.side)

    def boxes(self, image: Tensor) -> np.ndarray:
        """Return the boxes in one image, uint8 [3, R, R], in pixels of the network's input."""
        names = [each.name for each in self.session.get_outputs()]
        pixels = network_input(image, self.side, self.subset)
        outputs = dict(zip(names, self.session.run(names, {self.input.name: pixels}), strict=True))
        if self.subset.detector == "yunet":
            return yunet_boxes(outputs, self.side, self.subset.score)
        (probabilities,) = outputs.values()
        return db_boxes(probabilities.reshape(self.side, self.side), self.subset.score)


def _check_outputs(path: Path, subset: SubsetDetector, found: set[str]) -> None:
    wanted = {f"{name}_{stride}" for name in ("cls", "obj", "bbox") for stride in YUNET_STRIDES}
    if subset.detector == "yunet" and not wanted <= found:
        raise WeightsError(f"{path} is no YuNet: it has no output {', '.join(sorted(wanted - found))}")
    if subset.detector == "db" and len(found) != 1:
        raise WeightsError(f"{path} is no detector of text: expected one output, it has {', '.join(sorted(found))}")


def network_input(image: Tensor, side: int, subset: SubsetDetector) -> np.ndarray:
    """Convert an image, uint8 RGB [3, R, R], to the network's input, float32 BGR [1, 3, side, side]."""
    resized = F.interpolate(image.float()[None], (side, side), mode="bilinear", align_corners=False, antialias=True)
    pixels = resized.flip(1).round().cpu().numpy()
    if subset.detector == "db":
        pixels = (pixels - MEAN[:, None, None]) / DEVIATION[:, None, None]
    return pixels.astype(np.float32)


# --- all of some protocols ------------------------------------------------------------------------------------------


def detections_key(name: str, subset: SubsetDetector) -> str:
    """Return a key that is equal for subsets of the same detector, file and threshold.

    The file is the one that ``config/weights.yaml`` expects, even if it is missing.
    """
    return digest(name, subset.detector, expected_sha256(subset.weights), str(subset.score))


class Detectors:
    """Every detector that some protocols name, each once.

    Attributes:
        left_out: by key, why a detector cannot be used: its weights are missing. Only subsets need them.
    """

    def __init__(self, protocols: Iterable[Protocol]):
        self.left_out: dict[str, str] = {}
        self._detectors: dict[str, Callable[[Tensor], Tensor]] = {}
        for protocol in protocols:
            for name, subset in (protocol.subsets or {}).items():
                key = detections_key(name, subset)
                try:
                    self._detectors[key] = self._detectors.get(key) or Detector(subset)
                except WeightsError as error:
                    self.left_out[key] = str(error)

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Return counts and shares by key, float64 [B, 2], of uint8 images [B, 3, R, R]."""
        return {key: detector(images) for key, detector in self._detectors.items()}
