# SPDX-License-Identifier: Apache-2.0
"""Reading cached latents: values, normalisation, identity and damage."""

import json
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dcae.diffusion.latents.cached import LatentDataset
from dcae.diffusion.latents.encode import encode_dataset
from dcae.diffusion.latents.posterior import posterior_noise
from tests.diffusion.images import Images, Unshuffle, Variational, shard
from workflow.commands.verify_cache import verify_cache

IDENTITY = {"autoencoder": "unshuffle", "weights": "1234", "resolution": 8}


@pytest.fixture
def folder(tmp_path):
    encode_dataset(Unshuffle(), Images(11), tmp_path, IDENTITY, shard_size=4)
    return tmp_path


def test_batches_are_normalised(folder):
    data, images = LatentDataset(folder, IDENTITY), Images(11)
    assert (len(data), data.shape, data.classes) == (11, (48, 2, 2), 3)
    latents, labels = data.batch([10, 0, 5, 5])
    assert torch.equal(latents, images.latents()[[10, 0, 5, 5]])
    assert labels.tolist() == [1, 0, 2, 2]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 13), st.integers(1, 5), st.lists(st.integers(0, 12), max_size=8))
def test_any_indices_from_any_shards(tmp_path_factory, shard_size, batch_size, indices):
    folder = tmp_path_factory.mktemp("latents")
    encode_dataset(Unshuffle(), Images(13), folder, IDENTITY, shard_size=shard_size, batch_size=batch_size)
    latents, labels = LatentDataset(folder).batch(torch.tensor(indices, dtype=torch.long))
    assert torch.equal(latents, Images(13).latents()[indices])
    assert labels.tolist() == [index % 3 for index in indices]


def test_scale_and_shift_per_channel(tmp_path):
    autoencoder, images = Unshuffle(), Images(3)
    autoencoder.latent_scale = torch.linspace(0.5, 2, 48)
    autoencoder.latent_shift = torch.linspace(-1, 1, 48).tolist()
    encode_dataset(autoencoder, images, tmp_path, IDENTITY)
    raw = images.latents() / 2 + 0.25
    expected = (raw - torch.linspace(-1, 1, 48)[:, None, None]) * torch.linspace(0.5, 2, 48)[:, None, None]
    assert torch.allclose(LatentDataset(tmp_path).batch([0, 1, 2])[0], expected, atol=1e-6)


def test_every_draw_from_cached_moments_is_new(tmp_path):
    encode_dataset(Variational("moments"), Images(6), tmp_path, IDENTITY, shard_size=4)
    data = LatentDataset(tmp_path)
    means, _ = data.batch(range(6))
    assert torch.equal(means, Images(6).latents())
    noise = posterior_noise(0, range(6), data.shape)
    drawn, _ = data.batch(range(6), noise)
    std = 0.1 + 0.1 * (means / 2 + 0.25).abs()
    torch.testing.assert_close(drawn, means + 2 * std * noise, rtol=0, atol=1e-5)  # a few roundings of values below 3
    later, _ = data.batch(range(6), posterior_noise(0, range(6, 12), data.shape))
    assert (later != drawn).all()
    assert torch.equal(posterior_noise(0, [4, 5], data.shape), noise[4:])


def test_nothing_is_left_to_draw_where_modes_are_cached(folder):
    with pytest.raises(ValueError, match="posterior is mode, so nothing is left to draw"):
        LatentDataset(folder).batch([0], torch.zeros(1, 48, 2, 2))


def test_an_index_outside_is_refused(folder):
    for indices in ([11], [-1]):
        with pytest.raises(IndexError, match="holds 11 latents"):
            LatentDataset(folder).batch(indices)


def test_latents_made_by_something_else_are_refused_naming_both(folder):
    LatentDataset(folder, dict(IDENTITY))
    with pytest.raises(ValueError) as error:
        LatentDataset(folder, IDENTITY | {"weights": "5678"})
    assert str(folder) in str(error.value)
    assert "weights '1234', expected '5678'" in str(error.value)
    assert "resolution" not in str(error.value)


def test_a_shard_cut_short_is_refused_naming_it(folder):
    damaged = shard(folder, 1)
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"shard-00001-.*\.safetensors: no whole shard .* run the same command again"):
        LatentDataset(folder)
    encode_again(folder)
    damaged.unlink()
    with pytest.raises(ValueError, match=r"shard-00001-.*\.safetensors: no whole shard"):
        LatentDataset(folder)
    encode_again(folder)


def encode_again(folder, made=(1,)):
    """The command that wrote a folder: it makes the shards that are damaged, no others, and the same bytes."""
    before = contents(folder)
    started = []
    images = Images(11)
    encode_dataset(
        Unshuffle(), images, folder, IDENTITY, shard_size=4, progress=lambda done, total: started.append(done)
    )
    assert len(started) == len(made)
    after = contents(folder)
    assert {name for name in after if after[name] != before.get(name)} <= {
        *(shard(folder, n).name for n in made),
        "index.json",
    }
    assert not list(folder.glob("*.damaged"))
    LatentDataset(folder).check_files()


def test_a_shard_of_another_length_is_refused(folder):
    shard(folder, 1).write_bytes(shard(folder, 2).read_bytes())
    with pytest.raises(ValueError, match=r"shard-00001-.*\.safetensors: holds latents \[3, 48, 2, 2\], labels \[3\]"):
        LatentDataset(folder)


def test_a_flipped_bit_is_found_on_request(folder):
    verify_cache(folder)
    flip_a_bit(shard(folder, 1))
    with pytest.raises(ValueError, match=r"shard-00001-.*\.safetensors: damaged"):
        verify_cache(folder)
    encode_again(folder)


def test_the_command_that_wrote_a_damaged_shard_makes_it_anew(folder):
    flip_a_bit(shard(folder, 1))
    encode_again(folder)
    flip_a_bit(shard(folder, 0))
    shard(folder, 2).unlink()
    encode_again(folder, made=(0, 2))


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: text.replace("2.0", "3.0")])
def test_an_index_that_is_not_as_it_was_written_is_made_anew(folder, damage):
    index = folder / "index.json"
    whole = index.read_text()
    index.write_text(damage(whole))
    assert index.read_text() != whole
    with pytest.raises(ValueError, match=r"index\.json: damaged; kept as index.json.damaged; run the same command"):
        LatentDataset(folder)
    encode_again(folder, made=())
    assert index.read_text() == whole


def rewrite_index(folder, *without, **fields):
    """An index as a program without its sha256 may write it."""
    path = folder / "index.json"
    kept = {name: value for name, value in json.loads(path.read_text()).items() if name not in ("sha256", *without)}
    path.write_text(json.dumps(kept | fields))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip_a_bit(path, at=-1000):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_files_changed_after_the_index_are_found_at_a_start(folder):
    LatentDataset(folder).check_files()
    flip_a_bit(shard(folder, 1))
    with pytest.raises(ValueError, match=r"shard-00001-.*\.safetensors: damaged"):
        LatentDataset(folder).check_files()
    encode_again(folder)
    os.utime(shard(folder, 1))
    LatentDataset(folder).check_files()  # touched, and whole


def test_a_start_reads_no_unchanged_shard(folder):
    damaged = shard(folder, 1)
    flip_a_bit(damaged)
    os.utime(damaged, ns=(0, 0))
    LatentDataset(folder).check_files()  # the time stamp says nothing of the damage
    with pytest.raises(ValueError, match=r"shard-00001-.*\.safetensors: damaged"):
        verify_cache(folder)


def test_an_index_without_sizes_is_checked_in_full(folder):
    rewrite_index(folder, "sizes")
    LatentDataset(folder).check_files()
    flip_a_bit(shard(folder, 1))
    os.utime(shard(folder, 1), ns=(0, 0))
    with pytest.raises(ValueError, match=r"shard-00001-.*\.safetensors: damaged"):
        LatentDataset(folder).check_files()


def test_labels_outside_the_classes_are_refused(folder):
    rewrite_index(folder, classes=["zero", "one"])
    with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 1, got 2"):
        LatentDataset(folder)
