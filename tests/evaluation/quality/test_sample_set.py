# SPDX-License-Identifier: Apache-2.0
"""Sample sets are the same however the work is cut: batches, processes, and where a stopped run goes on."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dcae.benchmark.entries import ADAPTERS, NoiseSchedule, TextEncoder
from dcae.data.dataset import ImageDataset
from dcae.diffusion.captions.dataset import CaptionDataset
from dcae.diffusion.captions.encode import encode_captions
from dcae.diffusion.captions.t5 import T5TextEncoder
from dcae.diffusion.models.build import build_denoiser
from evaluation.features.quantisation import to_uint8
from evaluation.quality.sample_set import FIRST_SAMPLES, INDEX, SHOWN, ImageSource, SampleSet, write_sample_set

COUNT, SHARD = 11, 4
SCHEDULE = NoiseSchedule(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
TEXT = {"config": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}, "tokens": 8}
ENTRIES = {
    "u-vit": {"sampler": "dpm-solver++"},
    "dit": {"sampler": "ddpm"},
    "pixart": {
        "sampler": "dpm-solver++-multistep", "conditioning": "caption", "caption_channels": 16,
        "interpolation_scale": 1, "text_encoder": TEXT,
    },
}  # fmt: skip
# Between batch sizes matrix products differ by rounding; images are rounded to 8 bits after that.
GREY_LEVELS = 1


class Squash(nn.Module):
    """In place of an autoencoder: latents become images of their own size within [-1, 1]."""

    latent_scale, latent_shift, spatial_compression = 1.0, 0.0, 1

    def decode(self, latents: Tensor) -> Tensor:
        return torch.tanh(latents / latents.std(dim=(1, 2, 3), keepdim=True))


class Captioned(ImageDataset):
    """Captions without images."""

    def __len__(self) -> int:
        return 5

    def caption(self, index: int) -> str:
        return f"picture number {index}"


def source_of(kind: str, folder: Path) -> ImageSource:
    """A denoiser with large random weights on 8 x 8 latents."""
    fields = {"depth": 2, "width": 32, "heads": 2, "sampling_steps": 3, "guidance_scale": 2.0, "recipe": "none"}
    entry = ADAPTERS["diffusion"].validate_python({"name": f"tiny-{kind}", "kind": kind, **fields, **ENTRIES[kind]})
    classes = 3 if kind != "pixart" else 0
    torch.manual_seed(0)
    denoiser = build_denoiser(entry, 3, 8, 2, classes).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(0, 0.2)
    captions = None
    if kind == "pixart":
        encode_captions(T5TextEncoder(TextEncoder(**TEXT)), Captioned(), folder / "captions", {"test": "captions"})
        captions = CaptionDataset(folder / "captions")
    return ImageSource(denoiser, entry, SCHEDULE, Squash(), (3, 8, 8), classes, seed=3, captions=captions)


def measures(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The images themselves, as 8-bit values, and the label, or index of the caption, of each."""
    return {"pixels": to_uint8(images).flatten(1).float(), "labels": labels}


def write(source: ImageSource, folder: Path, **arguments):
    return write_sample_set(source, measures, 2.0, COUNT, folder, {"test": "set"}, shard_size=SHARD, **arguments)


@pytest.fixture(params=ENTRIES)
def source(request, tmp_path) -> ImageSource:
    return source_of(request.param, tmp_path)


def test_batch_size_changes_conditions_by_nothing_and_images_by_rounding(source, tmp_path):
    whole, single = (write(source, tmp_path / str(size), batch_size=size) for size in (16, 1))
    assert torch.equal(whole.rows["labels"], single.rows["labels"])  # the label or caption of each
    assert len(whole.rows["pixels"]) == COUNT
    assert (whole.rows["pixels"] - single.rows["pixels"]).abs().max() <= GREY_LEVELS
    assert whole.rows["pixels"].std() > 5, "samples that are all alike would show nothing"


def assert_equal(one: SampleSet, other: SampleSet) -> None:
    assert torch.equal(one.rows["pixels"], other.rows["pixels"])
    assert torch.equal(one.rows["labels"], other.rows["labels"])
    assert torch.equal(one.first, other.first)


def test_large_images_are_decoded_a_few_at_a_time(source, monkeypatch):
    """A batch of samples of 1024 px and more would need the memory of several GPUs."""
    whole, labels = source.images(range(5), 1.0)
    sizes = []
    original = Squash.decode
    monkeypatch.setattr(Squash, "decode", lambda self, latents: sizes.append(len(latents)) or original(self, latents))
    monkeypatch.setattr("dcae.autoencoders.tiling.PIXELS_AT_ONCE", 2 * whole.shape[-1] ** 2)
    parts, same_labels = source.images(range(5), 1.0)
    assert sizes == [2, 2, 1]
    assert torch.equal(whole, parts) and torch.equal(labels, same_labels)


def test_two_processes_make_the_set_of_one_to_the_bit(source, tmp_path):
    alone = write(source, tmp_path / "alone", batch_size=SHARD)
    folder = tmp_path / "together"
    assert write(source, folder, batch_size=SHARD, process=1, processes=2) is None
    together = write(source, folder, batch_size=SHARD, process=0, processes=2)
    assert_equal(alone, together)


def test_two_processes_at_the_same_time_make_the_set_of_one_to_the_bit(source, tmp_path):
    alone = write(source, tmp_path / "alone", batch_size=SHARD)
    context = multiprocessing.get_context("fork")  # as loaders start theirs, without new imports
    ended = context.Queue()

    def share(process: int) -> None:
        torch.set_num_threads(1)
        ended.put(write(source, tmp_path / "set", batch_size=SHARD, process=process, processes=2) is not None)

    running = [context.Process(target=share, args=(process,)) for process in range(2)]
    for process in running:
        process.start()
    whole = [ended.get(timeout=60) for _ in running]
    for process in running:
        process.join(timeout=60)
    assert any(whole), "whoever ends last finds the set complete"
    together = write(source, tmp_path / "set", batch_size=SHARD)
    assert_equal(alone, together)


def test_a_stopped_run_goes_on_with_the_shards_that_are_missing(tmp_path, monkeypatch):
    source = source_of("u-vit", tmp_path)
    whole = write(source, tmp_path / "whole", batch_size=2)
    original, made = ImageSource.images, []

    def stop_at_the_last_shard(self, indices, guidance_scale):
        if indices[0] >= 2 * SHARD:
            raise KeyboardInterrupt
        return original(self, indices, guidance_scale)

    def note(self, indices, guidance_scale):
        made.append(indices[0])
        return original(self, indices, guidance_scale)

    folder = tmp_path / "stopped"
    monkeypatch.setattr(ImageSource, "images", stop_at_the_last_shard)
    with pytest.raises(KeyboardInterrupt):
        write(source, folder, batch_size=2)
    monkeypatch.setattr(ImageSource, "images", note)
    resumed = write(source, folder, batch_size=2)
    assert made == [8, 10]
    assert torch.equal(resumed.rows["pixels"], whole.rows["pixels"])
    assert torch.equal(resumed.first, whole.first)


def test_a_set_of_another_identity_is_made_anew(tmp_path):
    source = source_of("u-vit", tmp_path)
    first = write(source, tmp_path / "set")
    other = write_sample_set(source, measures, 1.0, COUNT, tmp_path / "set", {"test": "other"}, shard_size=SHARD)
    assert not torch.equal(first.rows["pixels"], other.rows["pixels"])
    assert len(list((tmp_path / "set").glob("shard-*"))) == 3


def test_every_image_is_kept_on_request_and_the_first_ones_always(tmp_path):
    source = source_of("u-vit", tmp_path)
    result = write(source, tmp_path / "set", all_images=tmp_path / "images")
    files = sorted((tmp_path / "images").iterdir())
    assert [file.name for file in files] == [f"{index:06d}.png" for index in range(COUNT)]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2)
    assert np.array_equal(pixels.reshape(COUNT, -1), result.rows["pixels"].numpy())
    assert np.array_equal(pixels[: min(SHOWN, SHARD)], result.first.numpy())


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True)])
def test_samples_are_made_and_decoded_in_the_precision_of_the_protocol(tmp_path, precision, allowed):
    """On a GPU; here by the switches that are on while the networks run, and back again afterwards."""
    switches = lambda: (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)  # noqa: E731
    before, seen = switches(), []
    source = replace(source_of("u-vit", tmp_path), precision=precision)
    source.denoiser.register_forward_pre_hook(lambda *_: seen.append(switches()))
    source.autoencoder.decode = lambda latents: seen.append(switches()) or torch.tanh(latents)
    source.images([0], 1.0)
    assert set(seen) == {(allowed, allowed)}
    assert switches() == before


@pytest.mark.parametrize("damage", ["first samples missing", "first samples cut", "a flipped bit", "a cut index"])
def test_what_is_damaged_is_made_anew_by_the_same_call(tmp_path, damage):
    source = source_of("u-vit", tmp_path)
    whole, folder = write(source, tmp_path / "whole"), tmp_path / "samples"
    write(source, folder)
    name = {"a flipped bit": sorted(path.name for path in folder.glob("shard-*"))[1], "a cut index": INDEX}
    path = folder / name.get(damage, FIRST_SAMPLES)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content if damage == "a flipped bit" else content[: len(content) // 2])
    if damage == "first samples missing":
        path.unlink()
    assert_equal(write(source, folder), whole)
