# SPDX-License-Identifier: Apache-2.0
"""Detectors of faces and text: decoding against a plain loop and by hand, and tiny networks in the published layout."""

import math

import numpy as np
import pytest
import torch

from dcae.benchmark import Config
from dcae.benchmark.entries import SubsetDetector
from dcae.weights.catalogue import WeightsError, expected_sha256, find
from evaluation.features.detectors import Detector, Detectors, covered, db_boxes, detections_key, yunet_boxes
from evaluation.features.fingerprints import fingerprint
from tests.evaluation import tiny_detectors

SIDE = 64
FACE = SubsetDetector(detector="yunet", weights=tiny_detectors.FACES, score=0.9)
TEXT = SubsetDetector(detector="db", weights=tiny_detectors.TEXT, score=0.5)


def yunet_outputs(seed: int, side: int = SIDE) -> dict[str, np.ndarray]:
    """Scores and boxes at random; scores beyond 0 and 1 as a network without a sigmoid may give them."""
    rng = np.random.default_rng(seed)
    found = {}
    for stride in (8, 16, 32):
        places = (side // stride) ** 2
        found[f"cls_{stride}"] = rng.uniform(-0.2, 1.2, (1, places, 1)).astype(np.float32)
        found[f"obj_{stride}"] = rng.uniform(-0.2, 1.2, (1, places, 1)).astype(np.float32)
        found[f"bbox_{stride}"] = rng.normal(0, 0.7, (1, places, 4)).astype(np.float32)
    return found


def overlap(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)) - common)


def yunet_by_loops(outputs, side: int, threshold: float) -> list[list[float]]:
    """One place after the other, then one box after the other, the surest first."""
    candidates = []
    for stride in (8, 16, 32):
        for row in range(side // stride):
            for column in range(side // stride):
                place = row * (side // stride) + column
                cls, obj = (min(max(float(outputs[f"{n}_{stride}"][0, place, 0]), 0), 1) for n in ("cls", "obj"))
                if math.sqrt(cls * obj) < threshold:
                    continue
                x, y, w, h = map(float, outputs[f"bbox_{stride}"][0, place])
                x, y = (column + x) * stride, (row + y) * stride
                w, h = math.exp(w) * stride, math.exp(h) * stride
                candidates.append((math.sqrt(cls * obj), [x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    kept: list[list[float]] = []
    for _, box in sorted(candidates, key=lambda each: -each[0]):
        if all(overlap(box, other) <= 0.3 for other in kept):
            kept.append(box)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_faces_are_those_of_a_loop_over_every_place(seed):
    outputs = yunet_outputs(seed)
    found = yunet_boxes(outputs, SIDE, 0.6)
    expected = yunet_by_loops(outputs, SIDE, 0.6)
    assert len(expected) > 5
    np.testing.assert_allclose(sorted(map(tuple, found)), sorted(map(tuple, expected)), rtol=1e-5, atol=1e-4)


def test_a_face_lies_where_its_place_and_stride_say():
    outputs = {name: np.zeros_like(value) for name, value in yunet_outputs(0).items()}
    place = 2 * 4 + 1  # row 2, column 1 at stride 16
    outputs["cls_16"][0, place], outputs["obj_16"][0, place] = 1, 0.81
    outputs["bbox_16"][0, place] = 0.5, 0.25, math.log(2), 0
    assert yunet_boxes(outputs, SIDE, 0.91).shape == (0, 4)
    np.testing.assert_allclose(yunet_boxes(outputs, SIDE, 0.9), [[8, 28, 40, 44]], rtol=1e-6)


def test_text_is_grown_back_by_area_over_perimeter():
    probabilities = np.zeros((100, 100))
    probabilities[20:30, 10:50] = 0.9  # 400 pixels, 100 around: 8 px each way
    probabilities[50:52, 10:90] = 0.9  # thinner than anything readable
    probabilities[70:80, 10:50] = 0.4  # above the threshold of pixels, not sure enough
    np.testing.assert_array_equal(db_boxes(probabilities, 0.5), [[2, 12, 58, 38]])
    assert len(db_boxes(probabilities, 0.3)) == 2
    assert db_boxes(np.zeros((100, 100)), 0.5).shape == (0, 4)


def test_what_boxes_cover_counts_once_and_ends_at_the_image():
    assert covered(np.empty((0, 4)), 10) == 0
    assert covered(np.array([[0, 0, 5, 10], [3, 0, 6, 10]]), 10) == 0.6
    assert covered(np.array([[-20, 5, 99, 99]]), 10) == 0.5


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Both files, in a catalogue that takes the place of the repository's."""

    def put(missing=(), **files: bytes):
        content = {tiny_detectors.FACES: tiny_detectors.faces(), tiny_detectors.TEXT: tiny_detectors.text()}
        path = tiny_detectors.catalogue(tmp_path, content | files, missing)
        monkeypatch.setenv("DCAE_WEIGHTS_CATALOGUE", str(path))
        return path

    put()
    return put


def picture(*squares: tuple[int, int, int, int, tuple[int, int, int]]) -> torch.Tensor:
    """uint8 [3, 128, 128], grey, with rectangles of (top, bottom, left, right, RGB)."""
    image = torch.full((3, 128, 128), 60, dtype=torch.uint8)
    for top, bottom, left, right, colour in squares:
        image[:, top:bottom, left:right] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return image


RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def test_faces_in_images_are_counted_and_channels_are_in_the_order_of_the_network(weights):
    red, blue = (picture((32, 64, 0, 32, colour)) for colour in (RED, BLUE))
    found = Detector(FACE)(torch.stack([red, blue]))
    # 32 of 128 px are 160 of 640, which are 20 places; the outer ones are blurred by the resize.
    assert found[1].tolist() == [0, 0]
    assert found[0, 0] == pytest.approx(20 * 20, rel=0.1)
    assert found[0, 1] == pytest.approx(1 / 16, rel=0.1)


def test_text_in_images_is_counted_and_its_share_measured(weights):
    found = Detector(TEXT)(torch.stack([picture((10, 20, 10, 60, WHITE), (80, 90, 10, 60, WHITE)), picture()]))
    grown = 10 * 50 * 2 / (2 * 60)
    assert found[0, 0] == 2
    assert found[0, 1] == pytest.approx(2 * (10 + 2 * grown) * (50 + 2 * grown) / 128**2, rel=0.05)
    assert found[1].tolist() == [0, 0]


def protocol(**subsets: SubsetDetector):
    return Config().entry("protocols", "random-features").model_copy(update={"subsets": subsets or None})


def test_a_missing_file_leaves_its_subset_out_and_says_what_to_do(weights):
    weights(missing=[tiny_detectors.TEXT])
    detectors = Detectors([protocol(face=FACE, text=TEXT)])
    assert list(detectors(picture()[None])) == [detections_key("face", FACE)]
    reason = detectors.left_out[detections_key("text", TEXT)]
    assert "missing weights 'ppocr-v3-text-detection' (a subset): get somewhere and put it at" in reason


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no network", "onnxruntime cannot open it"), (tiny_detectors.text(), "is no YuNet: it has no output bbox_16")],
)
def test_a_file_of_something_else_is_refused(weights, content, message):
    path = tiny_detectors.FACES
    weights(**{path: tiny_detectors.faces()})
    with pytest.MonkeyPatch.context() as patch:
        other = find(path).with_name("other.onnx")
        other.write_bytes(content)
        patch.setattr("evaluation.features.detectors.find", lambda name: other)
        with pytest.raises(WeightsError, match=message):
            Detector(FACE)


def test_a_file_with_the_wrong_hash_is_left_out(weights):
    find(tiny_detectors.FACES).write_bytes(b"something else")
    (reason,) = Detectors([protocol(face=FACE)]).left_out.values()
    assert "a partial download or another file" in reason


def test_only_subsets_change_the_fingerprint_of_a_protocol(weights):
    plain, with_faces, with_text = (protocol(**each) for each in ({}, {"face": FACE}, {"text": TEXT}))
    assert len({fingerprint(each) for each in (plain, with_faces, with_text)}) == 3
    before = fingerprint(with_faces)
    weights(missing=[tiny_detectors.FACES])
    assert fingerprint(with_faces) == before  # the other values of the record are the same ones
    weights(**{tiny_detectors.FACES: tiny_detectors.faces(320)})
    assert fingerprint(with_faces) != before


def test_protocols_without_subsets_are_as_they_were():
    """The fingerprint of the paper's protocol is in records already."""
    for name in ("dc-ae", "clean-fid", "torch-fidelity", "adm", "ldm", "modern-features", "random-features"):
        assert "subsets" not in Config().entry("protocols", name).decisive()


def test_the_published_files_are_known_by_their_sha256():
    subsets = Config().entry("protocols", "faces-and-text").subsets
    assert {name: expected_sha256(each.weights)[:8] for name, each in subsets.items()} == {
        "face": "8f2383e4", "text": "03f550c6",
    }  # fmt: skip
