# SPDX-License-Identifier: Apache-2.0
"""Encoding a data set: what is written, what goes on after a stop, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file

from dcae.diffusion import LatentDataset, encode_dataset
from tests.diffusion.images import Images, Sampling, Unshuffle

IDENTITY = {"autoencoder": "unshuffle", "dataset": "abc", "resolution": 8}


def contents(folder):
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_hold_the_latents_and_the_index_says_what_they_are(tmp_path):
    images = Images(11)
    encode_dataset(Unshuffle(), images, tmp_path, IDENTITY, batch_size=3, shard_size=4)
    shards = [load_file(tmp_path / f"shard-0000{n}.safetensors") for n in range(3)]
    assert [len(shard["labels"]) for shard in shards] == [4, 4, 3]
    latents = torch.cat([shard["latents"] for shard in shards])
    assert latents.dtype == torch.float32
    assert torch.equal((latents - 0.25) * 2, images.latents())
    assert torch.cat([shard["labels"] for shard in shards]).tolist() == [i % 3 for i in range(11)]
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["identity"] == IDENTITY
    assert (index["count"], index["shape"], index["classes"]) == (11, [48, 2, 2], ["zero", "one", "two"])
    assert (index["latent_scale"], index["latent_shift"]) == (2.0, 0.25)
    assert sorted(index["shards"]) == [f"shard-0000{n}.safetensors" for n in range(3)]
    channels = latents.transpose(0, 1).flatten(1).double()
    assert torch.allclose(torch.tensor(index["mean"]).double(), channels.mean(dim=1), atol=1e-7)
    assert torch.allclose(torch.tensor(index["std"]).double(), channels.std(dim=1, correction=0), atol=1e-7)


def test_only_the_first_images_are_encoded_if_so_asked(tmp_path):
    images = Images(11)
    encode_dataset(Unshuffle(), images, tmp_path, IDENTITY, first=5)
    assert images.read == list(range(5))
    assert len(LatentDataset(tmp_path)) == 5


def test_batch_size_changes_nothing(tmp_path):
    for batch_size in (1, 5):
        encode_dataset(
            Unshuffle(), Images(9), tmp_path / str(batch_size), IDENTITY, batch_size=batch_size, shard_size=4
        )
    assert contents(tmp_path / "1") == contents(tmp_path / "5")


@pytest.mark.parametrize("autoencoder", [Unshuffle(), Sampling()])
def test_a_stopped_encoding_goes_on_and_ends_in_the_same_files(tmp_path, autoencoder):
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    encode_dataset(autoencoder, Images(11), undisturbed, IDENTITY, shard_size=4, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        encode_dataset(autoencoder, Images(11, fails_at=9), stopped, IDENTITY, shard_size=4, batch_size=2)
    assert not (stopped / "index.json").exists()
    with pytest.raises(FileNotFoundError, match=r"index\.json: no such file; encode the data set"):
        LatentDataset(stopped)
    again = Images(11)
    encode_dataset(autoencoder, again, stopped, IDENTITY, shard_size=4, batch_size=2)
    assert again.read == [8, 9, 10], "finished shards are not made again"
    assert contents(stopped) == contents(undisturbed)


def test_a_finished_encoding_returns_at_once_and_a_deleted_shard_is_made_again(tmp_path):
    encode_dataset(Unshuffle(), Images(11), tmp_path, IDENTITY, shard_size=4)
    before = contents(tmp_path)
    again = Images(11)
    encode_dataset(Unshuffle(), again, tmp_path, IDENTITY, shard_size=4)
    assert again.read == []
    (tmp_path / "shard-00001.safetensors").unlink()
    encode_dataset(Unshuffle(), again, tmp_path, IDENTITY, shard_size=4)
    assert again.read == [4, 5, 6, 7]
    assert contents(tmp_path) == before


def test_latents_of_another_identity_are_replaced(tmp_path):
    encode_dataset(Unshuffle(), Images(11), tmp_path, IDENTITY, shard_size=2)
    encode_dataset(Unshuffle(), Images(3), tmp_path, IDENTITY | {"autoencoder": "other"}, shard_size=2)
    assert sorted(contents(tmp_path)) == [
        "identity.json",
        "index.json",
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]
    assert LatentDataset(tmp_path).identity["autoencoder"] == "other"


def test_sampled_latents_depend_on_the_seed_and_leave_the_random_state_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    for seed in (0, 1):
        encode_dataset(Sampling(), Images(4), tmp_path / str(seed), IDENTITY, seed=seed)
    assert torch.equal(torch.randn(3), expected)
    first, second = (LatentDataset(tmp_path / str(seed)).batch([0])[0] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_progress_counts_images(tmp_path):
    seen = []
    encode_dataset(Unshuffle(), Images(11), tmp_path, IDENTITY, shard_size=4, progress=lambda *of: seen.append(of))
    assert seen == [(4, 11), (8, 11), (11, 11)]


def test_what_cannot_become_latents_is_refused(tmp_path):
    unscaled, infinite, few = Unshuffle(), Unshuffle(), Images(4)
    unscaled.latent_scale = None
    infinite.encode = lambda images: images / 0
    few.classes = ("zero", "one")
    with pytest.raises(ValueError, match="the autoencoder has no latent_scale"):
        encode_dataset(unscaled, Images(4), tmp_path, IDENTITY)
    with pytest.raises(ValueError, match="latents are not finite"):
        encode_dataset(infinite, Images(4), tmp_path, IDENTITY)
    with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 1, got 2"):
        encode_dataset(Unshuffle(), few, tmp_path, IDENTITY)
    with pytest.raises(ValueError, match="no images to encode"):
        encode_dataset(Unshuffle(), Images(0), tmp_path, IDENTITY)
    assert not list(tmp_path.glob("shard-*")) and not (tmp_path / "index.json").exists()
