# SPDX-License-Identifier: Apache-2.0
"""Every named protocol against the tools that it is named after, on photographs as PNG files.

One pass measures blurred photographs by all protocols at once, with random weights in the place of the published ones.
The tools get the same weights and read the same images from disk.
"""

import itertools
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import evaluation.features.extractor
from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.benchmark.entries import NetworkWeights, Protocol
from dcae.data.loading import open_dataset
from dcae.initialisation import SkipInitialisation, seeded_random_init
from evaluation.features.inception import RESIZES, load_inception
from evaluation.features.quantisation import to_uint8
from evaluation.features.reference import batches, write_reference
from evaluation.metrics.frechet import frechet_distance_of_features
from evaluation.quality.one_pass import reconstruct_images
from evaluation.quality.reconstruction import Reconstruction, evaluate_reconstruction

NAMES = ("dc-ae", "clean-fid", "torch-fidelity", "adm", "ldm")
IMAGES, RESOLUTION = 4, 160
# Weights and images are the same; what remains is the order of float32 sums in 94 layers, and PIL's in the resize.
AGREEMENT = 1e-4


def with_random_weights(protocol: Protocol) -> Protocol:
    random = {
        role: NetworkWeights(network=getattr(protocol, role).network, weights="random", seed=0)
        for role in ("inception", "lpips")
    }
    return protocol.model_copy(update={**random, "clip": None, "reconstruction_images": IMAGES})


@dataclass(frozen=True)
class Measured:
    """What the pass found, and the folders that tools are pointed to."""

    protocols: dict[str, Protocol]
    result: Reconstruction
    real: Path
    made: dict[str, Path]  # by quantisation
    weights: Path  # of Inception, in the form of the published file

    def value(self, name: str, metric: str) -> float:
        quality = self.result if name == NAMES[0] else self.result.further[name]
        return quality.values[metric].value


def images_in(folder: Path) -> Tensor:
    from PIL import Image

    images = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def written(images: Tensor, folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Measured:
    folder = tmp_path_factory.mktemp("tools")
    dataset = open_dataset(Config().entry("datasets", "photographs"), "validation", RESOLUTION)
    protocols = {name: with_random_weights(Config().entry("protocols", name)) for name in NAMES}
    main, *further = protocols.values()
    reference = folder / "reference.safetensors"
    write_reference(dataset, IMAGES, main, reference, further=further)
    result = evaluate_reconstruction(load("blur"), dataset, main, reference, further=further)
    inputs = next(batches(dataset, IMAGES, IMAGES))
    outputs = reconstruct_images(load("blur"), inputs)
    made = {each: written(to_uint8(outputs, each), folder / each) for each in ("round", "truncate")}
    state = load_inception(main.inception).state_dict()
    state |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(state, folder / "inception.pth")
    return Measured(protocols, result, written(inputs, folder / "real"), made, folder / "inception.pth")


@pytest.mark.parametrize("name", ["torch-fidelity", "adm"])
def test_rfid_is_torch_fidelitys(measured, name):
    """ADM's and LDM's network input is the one that torch-fidelity copied from TensorFlow; LDM's rFID is ADM's here.

    End to end, so each takes an eigendecomposition in 2048 dimensions.
    """
    import torch_fidelity

    made = measured.made[measured.protocols[name].quantisation]
    found = torch_fidelity.calculate_metrics(
        input1=str(made),
        input2=str(measured.real),
        fid=True,
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        feature_extractor_weights_path=str(measured.weights),
    )
    assert measured.value(name, "rfid") == pytest.approx(found["frechet_inception_distance"], rel=AGREEMENT)


@pytest.mark.parametrize(("name", "mode"), [("clean-fid", "clean"), ("dc-ae", "legacy_pytorch")])
def test_rfid_is_that_of_clean_fids_features(measured, name, mode):
    """``legacy_pytorch`` is pytorch-fid's input, which the authors of DC-AE took over.

    The Fréchet distance is ours: clean-fid's (equal to ours, see test_statistics) takes a minute in 2048 dimensions.
    """
    from cleanfid.fid import get_folder_features

    network = load_inception(measured.protocols[name].inception)

    def model(pixels: Tensor) -> Tensor:
        scaled = (pixels - 128) / 128 if mode == "clean" else pixels / 127.5 - 1
        with torch.no_grad():
            return network(scaled.contiguous(memory_format=torch.channels_last))

    options = {"num_workers": 0, "batch_size": IMAGES, "device": "cpu", "mode": mode, "verbose": False}
    features = [
        torch.from_numpy(get_folder_features(str(folder), model, **options))
        for folder in (measured.made["round"], measured.real)
    ]
    assert measured.value(name, "rfid") == pytest.approx(frechet_distance_of_features(*features), rel=AGREEMENT)


@pytest.mark.parametrize(("name", "net"), [("dc-ae", "alex"), ("ldm", "vgg")])
def test_lpips_is_the_packages_on_the_files(measured, name, net):
    import lpips

    with SkipInitialisation(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision by arguments that have other names now
        theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    seeded_random_init(theirs.net, 0)
    made, real = (images_in(f) for f in (measured.made[measured.protocols[name].quantisation], measured.real))
    with torch.no_grad():
        expected = theirs(made / 255, real / 255, normalize=True).mean()
    assert measured.value(name, "lpips") == pytest.approx(float(expected), rel=AGREEMENT)


@pytest.mark.parametrize("name", NAMES)
def test_psnr_and_ssim_are_torchmetrics_on_the_files(measured, name):
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    made, real = (images_in(f) for f in (measured.made[measured.protocols[name].quantisation], measured.real))
    psnr = peak_signal_noise_ratio(made, real, data_range=255.0, dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(made, real, data_range=(0.0, 255.0))
    assert measured.value(name, "psnr") == pytest.approx(float(psnr), rel=AGREEMENT)
    assert measured.value(name, "ssim") == pytest.approx(float(ssim), rel=AGREEMENT)


def test_protocols_differ_by_far_more_than_they_agree_with_their_tools(measured):
    values = sorted(measured.value(name, "rfid") for name in NAMES if name != "ldm")  # ldm's rFID is adm's
    assert measured.value("ldm", "rfid") == measured.value("adm", "rfid")
    gaps = [second / first - 1 for first, second in itertools.pairwise(values)]
    assert min(gaps) > 10 * AGREEMENT
    assert measured.value("ldm", "lpips") != pytest.approx(measured.value("adm", "lpips"), rel=0.05)


def test_every_resize_runs_one_forward_on_the_files_images(measured):
    assert {protocol.inception_resize for protocol in measured.protocols.values()} == set(RESIZES)
    assert len(evaluation.features.extractor.distinct(measured.protocols.values())) == len(RESIZES)
