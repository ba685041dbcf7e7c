# SPDX-License-Identifier: Apache-2.0
"""Encoding a dataset: what is written, what goes on after a stop, and what is refused."""

import json
import multiprocessing

import pytest
import torch
from safetensors.torch import load_file

from dcae.diffusion.latents.cached import LatentDataset
from dcae.diffusion.latents.encode import encode_dataset
from dcae.shards import CacheError
from tests.diffusion.images import Images, Unshuffle, Variational, shard

IDENTITY = {"autoencoder": "unshuffle", "dataset": "abc", "resolution": 8}


def contents(folder):
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_hold_the_latents_and_the_index_says_what_they_are(tmp_path):
    images = Images(11)
    encode_dataset(Unshuffle(), images, tmp_path, IDENTITY, batch_size=3, shard_size=4)
    shards = [load_file(shard(tmp_path, n)) for n in range(3)]
    assert [len(each["labels"]) for each in shards] == [4, 4, 3]
    latents = torch.cat([each["latents"] for each in shards])
    assert latents.dtype == torch.float32
    assert torch.equal((latents - 0.25) * 2, images.latents())
    assert torch.cat([each["labels"] for each in shards]).tolist() == [i % 3 for i in range(11)]
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["identity"] == IDENTITY
    assert (index["count"], index["shape"], index["classes"]) == (11, [48, 2, 2], ["zero", "one", "two"])
    assert (index["latent_scale"], index["latent_shift"]) == (2.0, 0.25)
    assert list(index["shards"]) == [shard(tmp_path, n).name for n in range(3)]


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


@pytest.mark.parametrize("autoencoder", [Unshuffle(), Variational("sample"), Variational("moments")])
def test_a_stopped_encoding_goes_on_and_ends_in_the_same_files(tmp_path, autoencoder):
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    encode_dataset(autoencoder, Images(11), undisturbed, IDENTITY, shard_size=4, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        encode_dataset(autoencoder, Images(11, fails_at=9), stopped, IDENTITY, shard_size=4, batch_size=2)
    assert not (stopped / "index.json").exists()
    with pytest.raises(CacheError, match=r"index\.json: no such file; encode the dataset"):
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
    shard(tmp_path, 1).unlink()
    encode_dataset(Unshuffle(), again, tmp_path, IDENTITY, shard_size=4)
    assert again.read == [4, 5, 6, 7]
    assert contents(tmp_path) == before


def test_latents_of_another_identity_are_replaced(tmp_path):
    encode_dataset(Unshuffle(), Images(11), tmp_path, IDENTITY, shard_size=2)
    encode_dataset(Unshuffle(), Images(3), tmp_path, IDENTITY | {"autoencoder": "other"}, shard_size=2)
    assert sorted(contents(tmp_path)) == ["index.json", shard(tmp_path, 0).name, shard(tmp_path, 1).name]
    assert LatentDataset(tmp_path).identity["autoencoder"] == "other"


def test_while_latents_of_another_identity_are_replaced_the_folder_is_not_complete(tmp_path):
    encode_dataset(Unshuffle(), Images(11), tmp_path, IDENTITY, shard_size=4)
    with pytest.raises(KeyboardInterrupt):
        encode_dataset(Unshuffle(), Images(11, fails_at=5), tmp_path, {"autoencoder": "other"}, shard_size=4)
    assert not (tmp_path / "index.json").exists()
    again = Images(11)
    encode_dataset(Unshuffle(), again, tmp_path, {"autoencoder": "other"}, shard_size=4)
    assert again.read == list(range(4, 11)), "the two shards of the other identity are not taken for done"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_processes_share_the_shards_and_the_last_one_completes_the_folder(tmp_path, order):
    alone, together = tmp_path / "alone", tmp_path / "together"
    encode_dataset(Variational("sample"), Images(13), alone, IDENTITY, shard_size=2)
    for process in order:
        assert not (together / "index.json").exists()
        images = Images(13)
        encode_dataset(Variational("sample"), images, together, IDENTITY, shard_size=2, process=process, processes=3)
        assert {index // 2 for index in images.read} == set(range(process, 7, 3))
    assert contents(together) == contents(alone)


def test_processes_that_run_at_the_same_time_complete_the_folder(tmp_path):
    def share(process: int) -> None:
        torch.set_num_threads(1)
        together = tmp_path / "together"
        encode_dataset(Unshuffle(), Images(40), together, {}, shard_size=2, process=process, processes=3)

    context = multiprocessing.get_context("fork")  # as loaders start theirs, without new imports
    running = [context.Process(target=share, args=(process,)) for process in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=60)
    assert [process.exitcode for process in running] == [0, 0, 0]
    encode_dataset(Unshuffle(), Images(40), tmp_path / "alone", {}, shard_size=2)
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")


def test_more_processes_than_shards(tmp_path):
    for process in range(3):
        encode_dataset(Unshuffle(), Images(3), tmp_path, IDENTITY, shard_size=2, process=process, processes=3)
    assert len(LatentDataset(tmp_path)) == 3


def test_a_sample_depends_on_the_seed_and_on_the_image_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    settings = {
        "one": {},
        "two": {"shard_size": 2, "batch_size": 1},
        "three": {"shard_size": 5, "batch_size": 3},
        "other seed": {"seed": 1},
    }
    latents = {}
    for name, how in settings.items():
        encode_dataset(Variational("sample"), Images(7), tmp_path / name, IDENTITY, **how)
        latents[name] = LatentDataset(tmp_path / name).batch(range(7))[0]
    assert torch.equal(torch.randn(3), expected), "the global random state is left alone"
    assert torch.equal(latents["one"], latents["two"]) and torch.equal(latents["one"], latents["three"])
    assert (latents["one"] != latents["other seed"]).all()
    noise = (latents["one"] - Images(7).latents()) / 2 / (0.1 + 0.1 * (Images(7).latents() / 2 + 0.25).abs())
    assert noise.mean().abs() < 0.1 and (noise.std() - 1).abs() < 0.1  # of 1344 values: three standard errors


def test_moments_are_kept(tmp_path):
    encode_dataset(Variational("moments"), Images(50), tmp_path / "moments", IDENTITY, shard_size=20)
    first = load_file(shard(tmp_path / "moments", 0))
    assert sorted(first) == ["labels", "mean", "std"]
    assert torch.equal(first["std"], 0.1 + 0.1 * first["mean"].abs())


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
