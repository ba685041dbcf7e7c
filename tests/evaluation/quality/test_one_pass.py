# SPDX-License-Identifier: Apache-2.0
"""One pass for several protocols: what is shared, what is told apart; shards, restarts and processes."""

import pytest
import torch
from torch import Tensor, nn

from dcae.autoencoders.loading import load
from dcae.benchmark import Config
from dcae.benchmark.entries import NetworkWeights, Protocol, ScenesEntry
from dcae.data.loading import open_dataset
from dcae.training.perceptual import perceptual_network
from evaluation.features.inception import InceptionFeatures
from evaluation.features.quantisation import to_network, to_uint8
from evaluation.features.reference import batches, write_reference
from evaluation.quality.one_pass import OnePass, columns, joined, measure, reconstruct_images
from evaluation.quality.reconstruction import evaluate_reconstruction

IMAGES = 23


@pytest.fixture(scope="module")
def protocols() -> list[Protocol]:
    main = Config().entry("protocols", "random-features").model_copy(update={"reconstruction_images": IMAGES})
    clean = main.model_copy(update={"name": "clean", "inception_resize": "clean"})
    vgg = NetworkWeights(network="vgg", weights="random", seed=0)
    ldm = main.model_copy(
        update={"name": "ldm", "inception_resize": "tensorflow1", "lpips": vgg, "quantisation": "truncate"}
    )
    return [main, clean, ldm]


@pytest.fixture(scope="module")
def dataset():
    entry = ScenesEntry(name="scenes", kind="scenes", train_images=1, validation_images=IMAGES)
    return open_dataset(entry, "validation", 64)


class Counted(nn.Module):
    """A network that counts how often it runs."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, *arguments: Tensor) -> Tensor:
        self.calls += 1
        return self.network(*arguments)


def test_a_pass_runs_each_network_once_for_each_distinct_input(protocols, dataset):
    one_pass = OnePass(protocols[:2], "cpu")
    counted = [Counted(each) for each in one_pass.extractor.networks.values()]
    one_pass.extractor.networks = dict(zip(one_pass.extractor.networks, counted, strict=True))
    autoencoder = Counted(load("blur"))
    autoencoder.encode = lambda images: images
    autoencoder.decode = lambda latents: autoencoder(latents)
    autoencoder.spatial_compression = 1
    measure(one_pass, autoencoder, dataset, 0, 2, batch_size=2)
    assert autoencoder.calls == 1
    assert [each.calls for each in counted] == [1, 1]  # one forward for each resize
    assert len([column for column in one_pass.of_pairs if column.startswith("lpips")]) == 1
    assert len({id(each.network.network) for each in counted}) == 1  # of one and the same Inception network


def test_each_protocol_gets_its_own_numbers(protocols, dataset):
    """What a pass for three protocols says of each is what its tools say one by one."""
    inputs = next(batches(dataset, 2, 2))
    outputs = reconstruct_images(load("blur"), inputs)
    table = OnePass(protocols, "cpu").compare(outputs, inputs)
    for protocol in protocols:
        images = to_uint8(outputs, protocol.quantisation)
        names = columns(protocol)
        torch.testing.assert_close(table[names["inception"]], InceptionFeatures(protocol)(images), rtol=1e-5, atol=1e-5)
        with torch.no_grad():
            expected = perceptual_network(protocol.lpips)(to_network(images), to_network(inputs)).flatten().double()
        torch.testing.assert_close(table[names["lpips"]], expected)
    main, clean, ldm = map(columns, protocols)
    assert main["lpips"] == clean["lpips"] and main["psnr"] == clean["psnr"]  # computed once
    assert not set(main.values()) & set(ldm.values())
    assert not torch.equal(table[main["psnr"]], table[ldm["psnr"]])


# --- shards ---------------------------------------------------------------------------------------------------------


class Noisy(nn.Module):
    """An autoencoder that samples."""

    spatial_compression = 1

    def encode(self, images: Tensor) -> Tensor:
        return images + 0.1 * torch.randn_like(images)

    def decode(self, latents: Tensor) -> Tensor:
        return latents


@pytest.fixture
def evaluate(protocols, dataset, few_features, tmp_path):
    """Evaluation of the noisy autoencoder by two protocols, in shards of 5 images."""
    reference = tmp_path / "reference.safetensors"
    write_reference(dataset, IMAGES, protocols[0], reference, further=protocols[1:2])

    def run(**options):
        options = {"batch_size": 4, "shard_size": 5, "further": protocols[1:2], **options}
        return evaluate_reconstruction(Noisy(), dataset, protocols[0], reference, **options)

    return run


@pytest.mark.parametrize("processes", [1, 2, 7])
def test_any_number_of_shards_gives_the_same_values(evaluate, processes, tmp_path):
    whole = evaluate()
    order = [(3 * k) % processes for k in range(processes)]  # whoever ends last has the result
    results = [evaluate(state=tmp_path / "state", process=k, processes=processes) for k in order]
    assert results[:-1] == [None] * (processes - 1)
    # 1e-9 is asked for; features, rows and their order are the same, so every bit is.
    assert results[-1].values == whole.values
    assert results[-1].further == whole.further
    for name, rows in whole.per_image.items():
        assert torch.equal(results[-1].per_image[name], rows)
    assert torch.equal(results[-1].pairs, whole.pairs)


def test_batches_and_shards_of_other_sizes_change_rfid_by_rounding_alone(evaluate, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)  # noise is drawn by shard
    found = [evaluate(batch_size=b, shard_size=s).values["rfid"].value for b, s in ((4, 5), (23, 23), (1, 2), (7, 8))]
    assert found == pytest.approx([found[0]] * 4, rel=1e-9)


def test_a_killed_evaluation_goes_on_with_what_is_missing(evaluate, dataset, monkeypatch, tmp_path):
    whole, seen = evaluate(), []
    read = type(dataset).__getitem__

    def dies(self, index):
        seen.append(index)
        if index == 12 and seen.count(12) == 1:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(type(dataset), "__getitem__", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(state=tmp_path / "state")
    before = len(seen)
    again = evaluate(state=tmp_path / "state")
    assert again.values == whole.values
    assert set(seen[before:]) == set(range(10, IMAGES)) | {0, 1, 2, 3}  # shards from 10 on, and the pairs to show
    assert evaluate(state=tmp_path / "state").values == whole.values  # nothing left to do


def test_shards_of_another_identity_are_not_taken(evaluate, tmp_path):
    first = evaluate(state=tmp_path / "state", identity={"weights": "a"}, seed=0)
    second = evaluate(state=tmp_path / "state", identity={"weights": "b"}, seed=1)
    assert first.values != second.values
    assert evaluate(seed=1).values == second.values


def test_a_shard_cut_short_is_measured_again(evaluate, tmp_path):
    whole = evaluate(state=tmp_path / "state")
    shard = next((tmp_path / "state").glob("shard-00001-*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-50])
    assert evaluate(state=tmp_path / "state").values == whole.values
    assert next((tmp_path / "state").glob("shard-00001-*")).read_bytes() == content


def test_many_processes_need_a_state_folder(evaluate):
    with pytest.raises(ValueError, match="state folder"):
        evaluate(processes=2)


def test_tables_join_by_rows():
    a, b = {"x": torch.ones(2), "f": torch.ones(2, 3)}, {"x": torch.zeros(1), "f": torch.zeros(1, 3)}
    assert joined([a, b])["x"].tolist() == [1, 1, 0]
    assert joined([a, b])["f"].shape == (3, 3)


def test_without_images_there_is_no_number(protocols, tmp_path, few_features):
    class Empty:
        fingerprint, resolution = "none", 64

        def __len__(self) -> int:
            return 0

    with pytest.raises(ValueError, match="no images to reconstruct"):
        evaluate_reconstruction(Noisy(), Empty(), protocols[0], tmp_path / "reference.safetensors")


def test_values_that_need_more_images_are_left_out_by_name(protocols, dataset, few_features, tmp_path):
    few = protocols[0].model_copy(update={"reconstruction_images": 2})
    reference = tmp_path / "reference.safetensors"
    write_reference(dataset, 2, few, reference)
    result = evaluate_reconstruction(Noisy(), dataset, few, reference)
    assert list(result.values) == ["psnr", "ssim", "lpips"]
    assert result.excluded == {
        "rfid": "needs at least 3 images, there are 2",
        "kid": "needs at least 3 images, there are 2",
        "precision": "needs at least 4 images, there are 2",
        "recall": "needs at least 4 images, there are 2",
        "rfid_infinity": "needs at least 25000 images, there are 2",
    }


def test_a_model_that_gives_nan_leaves_no_shard_behind(evaluate, monkeypatch, tmp_path):
    monkeypatch.setattr(Noisy, "decode", lambda self, latents: latents * float("nan"))
    with pytest.raises(ValueError, match="reconstructions hold NaN"):
        evaluate(state=tmp_path / "state")
    assert not list((tmp_path / "state").glob("shard-*"))
