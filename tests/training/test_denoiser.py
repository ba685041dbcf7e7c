# SPDX-License-Identifier: Apache-2.0
"""Training of diffusion models on cached latents."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from pydantic import ValidationError
from torch import nn

from dcae.autoencoders.loading import load
from dcae.benchmark.config import Config, ConfigError
from dcae.benchmark.entries import ADAPTERS, FolderEntry
from dcae.data.loading import open_dataset
from dcae.data.mixture import epoch_index
from dcae.diffusion.captions.dataset import CaptionDataset
from dcae.diffusion.captions.encode import encode_captions
from dcae.diffusion.latents.cached import LatentDataset
from dcae.diffusion.latents.encode import encode_dataset
from dcae.diffusion.latents.on_the_fly import EncodedOnTheFly
from dcae.diffusion.models.build import build_denoiser
from dcae.diffusion.models.checkpoint import load_denoiser
from dcae.training.denoiser import DenoiserTraining, fingerprint, train_denoiser
from dcae.training.state import CHECKPOINTS
from dcae.training.stopping import Unfinished

ENTRIES = {
    kind: ADAPTERS["diffusion"].validate_python(
        {"name": f"tiny-{kind}", "kind": kind, "depth": 2, "width": 16, "heads": 2, "recipe": "none",
         "sampler": "ddpm", "sampling_steps": 2, "guidance_scale": 1.5}
    )
    for kind in ("dit", "u-vit")
}  # fmt: skip


def recipe(kind: str, **fields):
    content = {
        "name": "tiny", "kind": "diffusion", "steps": 5, "batch_size": 4, "checkpoint_every": 2,
        "objective": "epsilon-learned-range" if kind == "dit" else "epsilon", "label_dropout": 0.3,
        "noise_schedule": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        "optimiser": {"learning_rate": 1e-3}, "ema": {"decay": 0.5}, **fields,
    }  # fmt: skip
    return ADAPTERS["recipes"].validate_python(content)


@pytest.fixture(scope="module")
def latents(tiny, tmp_path_factory) -> Path:
    """Latents [4, 4, 4] of 24 scenes."""
    folder = tmp_path_factory.mktemp("latents") / "scenes"
    autoencoder = load(tiny.dc_ae(latent_scale=0.5))
    encode_dataset(autoencoder, open_dataset(tiny.DATASETS["scenes"], "train", 32), folder, {"autoencoder": "tiny"})
    return folder


def train(folder: Path, latents: Path, kind: str, patch_size: int = 1, expected_latents: dict | None = None):
    """Train in ``folder`` and return what was saved."""
    train_denoiser(
        entry=ENTRIES[kind], recipe=recipe(kind), latents=latents, patch_size=patch_size, output=folder / "output",
        state=folder / "state", seed=0, config_digest="config", expected_latents=expected_latents,
    )  # fmt: skip
    return load_denoiser(folder / "output")


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", ["dit", "u-vit"])
def test_a_stopped_training_goes_on_to_the_same_bits(latents, tmp_path, monkeypatch, kind):
    undisturbed = train(tmp_path / "undisturbed", latents, kind).state_dict()
    step = DenoiserTraining.step

    def stopping_step(self, number, batch):
        if number == 3:
            raise Stop
        return step(self, number, batch)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(DenoiserTraining, "step", stopping_step)
        train(tmp_path / "stopped", latents, kind)
    torch.manual_seed(77)
    resumed = train(tmp_path / "stopped", latents, kind).state_dict()
    assert [name for name in undisturbed if not torch.equal(undisturbed[name], resumed[name])] == []


def test_sigterm_saves_and_the_same_call_goes_on_to_the_same_bits(latents, tmp_path, monkeypatch):
    undisturbed = train(tmp_path / "undisturbed", latents, "u-vit").state_dict()
    step = DenoiserTraining.step

    def signalled(self, number, batch):
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, batch)

    with monkeypatch.context() as patch, pytest.raises(Unfinished, match="stopped by SIGTERM, saved at step 3/5"):
        patch.setattr(DenoiserTraining, "step", signalled)
        train(tmp_path / "stopped", latents, "u-vit")
    resumed = train(tmp_path / "stopped", latents, "u-vit").state_dict()
    assert [name for name in undisturbed if not torch.equal(undisturbed[name], resumed[name])] == []


def test_recomputed_activations_are_the_recipes_option_and_change_no_bit(latents):
    weights = {}
    for recomputed in (False, True):
        loop = training(latents, gradient_checkpointing=recomputed)
        assert loop.denoiser.gradient_checkpointing == recomputed
        for step, batch in enumerate(loop.batches(0)):
            loop.step(step, batch)
        weights[recomputed] = loop.denoiser.state_dict()
    assert [name for name, value in weights[False].items() if not torch.equal(value, weights[True][name])] == []


def training(latents: Path, kind: str = "u-vit", **fields) -> DenoiserTraining:
    data = LatentDataset(latents)
    torch.manual_seed(0)
    denoiser = build_denoiser(ENTRIES[kind], 4, 4, 1, data.classes)
    return DenoiserTraining(denoiser, recipe(kind, **fields), data, 0, Accelerator(cpu=True))


def training_of(latents, kind: str, **fields) -> DenoiserTraining:
    data = LatentDataset(latents)
    denoiser = build_denoiser(ENTRIES[kind], *data.shape[:2], 1, data.classes)
    return DenoiserTraining(denoiser, recipe(kind, **fields), data, 0, Accelerator(cpu=True))


@pytest.mark.parametrize("kind", ["dit", "u-vit"])
def test_a_step_looks_no_noise_schedule_up(latents, monkeypatch, kind):
    """Compiled, it would compute the table on the CPU in each step."""
    training = training_of(latents, kind)
    monkeypatch.delattr("dcae.diffusion.objectives.coefficients")
    assert training.step(0, next(training.batches(0)))["loss"].isfinite()
    assert set(training.losses.state_dict()) == {f"denoiser.{name}" for name in training.denoiser.state_dict()}


def test_tokens_take_the_precision_of_the_training_where_the_recipe_says_so(latents):
    found = {}
    for token_precision in (None, "autocast"):
        denoiser = training_of(latents, "u-vit", token_precision=token_precision).denoiser
        kept = []
        denoiser.mid_block.register_forward_pre_hook(lambda _block, tokens, kept=kept: kept.append(tokens[0].dtype))
        with torch.autocast("cpu", torch.bfloat16):
            denoiser(torch.randn(2, 4, 4, 4), torch.tensor([1, 500]), torch.tensor([0, 1]))
        found[token_precision] = kept
    assert found == {None: [torch.float32], "autocast": [torch.bfloat16]}
    with pytest.raises(ConfigError, match="token_precision is autocast in tiny, which only U-ViT has"):
        training_of(latents, "dit", token_precision="autocast")


def test_what_is_saved_is_the_average(latents, tmp_path):
    loop = training(latents)
    batches = loop.batches(0)
    for step in range(3):
        loop.step(step, next(batches))
    loop.task({"note": "kept"}).save(tmp_path)
    saved = load_denoiser(tmp_path)
    assert saved.metadata == {"note": "kept"}
    for (name, value), average in zip(saved.named_parameters(), loop.average.module.parameters(), strict=True):
        assert torch.equal(value, average), name
    assert any(
        not torch.equal(value, raw) for value, raw in zip(saved.parameters(), loop.denoiser.parameters(), strict=True)
    )


def test_an_epoch_shows_every_latent_once_and_every_time_with_new_noise(latents):
    loop = training(latents)
    data = LatentDataset(latents)
    timesteps, noise, labels, whole = loop.read(range(len(data)))
    everything, _ = data.batch(range(len(data)))
    distances = torch.cdist(whole.flatten(1), everything.flatten(1))
    assert sorted(distances.argmin(dim=1).tolist()) == list(range(len(data)))
    assert set(labels.tolist()) <= {*range(data.classes), loop.denoiser.null_label}
    assert loop.denoiser.null_label in labels.tolist()
    assert len(set(timesteps.tolist())) > 12
    _, later, _, _ = loop.read(range(len(data), 2 * len(data)))
    assert not torch.equal(noise, later)
    assert torch.equal(loop.read(range(7, 9))[1], noise[7:9])


def test_the_loss_falls_on_latents_that_are_always_the_same(latents):
    loop = training(latents, "dit", optimiser={"learning_rate": 3e-3})
    batch = next(loop.batches(0))
    losses = [loop.step(step, batch)["mse"].item() for step in range(30)]
    assert losses[-1] < 0.8 * losses[0]


def losses(data, steps: int = 6, **fields) -> list[float]:
    """The loss of each step of a training on these latents."""
    torch.manual_seed(0)
    denoiser = build_denoiser(ENTRIES["u-vit"], 4, 4, 1, data.classes)
    loop = DenoiserTraining(denoiser, recipe("u-vit", steps=steps, **fields), data, 0, Accelerator(cpu=True))
    return [loop.step(step, batch)["loss"].item() for step, batch in enumerate(loop.batches(0))]


@pytest.mark.parametrize("posterior", ["mode", "sample", "moments"])
def test_latents_encoded_on_the_fly_are_the_cached_ones(tiny, tmp_path, posterior):
    """The same images in the same order with the same draws; batches of another size are all that rounds otherwise."""
    images = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    autoencoder = load(tiny.dc_ae(latent_scale=0.5, variational=True, posterior=posterior))
    encode_dataset(autoencoder, images, tmp_path, {})
    cached = losses(LatentDataset(tmp_path), gradient_accumulation=2)
    assert losses(EncodedOnTheFly(autoencoder, images)) == pytest.approx(cached, rel=1e-4)
    if posterior == "sample":
        encode_dataset(autoencoder, images, tmp_path / "other seed", {}, seed=1)
        other = losses(LatentDataset(tmp_path / "other seed"))
        assert other != pytest.approx(cached, rel=1e-4), "the curves would show other draws"


def test_moments_are_drawn_anew_in_every_epoch(tiny, tmp_path):
    images = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    encode_dataset(load(tiny.dc_ae(latent_scale=0.5, variational=True, posterior="moments")), images, tmp_path, {})
    data = LatentDataset(tmp_path)
    (first,), (again,), (later,) = (data.read([3], [draw], seed=0) for draw in (3, 3, 3 + len(data)))
    assert torch.equal(first, again) and not torch.equal(first, later)


def test_random_crops_of_images_encoded_on_the_fly(tmp_path, tiny):
    pixels = np.random.default_rng(0).integers(256, size=(48, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    latents = {}
    for crop in ("centre", "random"):
        images = open_dataset(FolderEntry(name="one", kind="folder", path=str(tmp_path), train=".", validation="."),
                              "train", 32, crop)  # fmt: skip
        data = EncodedOnTheFly(load(tiny.dc_ae(latent_scale=0.5)), images)
        latents[crop] = data.latents(*data.read([0, 0], [0, 1], seed=0))  # two epochs
    assert torch.equal(*latents["centre"])
    assert not torch.equal(*latents["random"])


def test_training_on_the_fly_from_end_to_end(tiny, tmp_path):
    images = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    train_denoiser(
        entry=ENTRIES["u-vit"], recipe=recipe("u-vit", latents="on-the-fly"), latents=None, patch_size=1,
        output=tmp_path / "output", state=tmp_path / "state", seed=0, config_digest="config",
        expected_latents={"autoencoder": "tiny"},
        on_the_fly=lambda device: EncodedOnTheFly(load(tiny.dc_ae(latent_scale=0.5), device=device), images),
    )  # fmt: skip
    assert load_denoiser(tmp_path / "output").config.latent_size == 4


class OnCaptions(nn.Module):
    """Predicts from the caption alone; remembers the conditions it was given."""

    null_label, first_timestep = 0, 0

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(3, 4), []

    def forward(self, latents, timesteps, captions):
        self.seen.append(captions)
        return self.linear(captions.embeddings.sum(dim=1))[:, :, None, None] + 0 * latents


@pytest.mark.parametrize("latents_are", ["cached", "on-the-fly"])
def test_captions_go_with_their_images_and_some_are_dropped(tiny, latents, tmp_path, latents_are):
    images = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    marks = {images.caption(index): index for index in range(len(images))}

    def encoder(captions):  # the caption's image as a number, 100 for none
        values = torch.tensor([float(marks.get(caption, 100)) for caption in captions])
        return values[:, None, None].expand(-1, 5, 3), torch.tensor([caption != "" for caption in captions]).repeat(
            5, 1
        ).T

    encode_captions(encoder, images, tmp_path, {})
    captions = CaptionDataset(tmp_path)
    data = LatentDataset(latents, captions=captions)
    if latents_are == "on-the-fly":
        data = EncodedOnTheFly(load(tiny.dc_ae(latent_scale=0.5)), images, captions)
    loop = DenoiserTraining(OnCaptions(), recipe("u-vit", label_dropout=0.3), data, 0, Accelerator(cpu=True))
    for step, batch in enumerate(loop.batches(0)):
        loop.step(step, batch)
    seen = torch.cat([each.embeddings[:, 0, 0] for each in loop.denoiser.seen]).tolist()
    masks = torch.cat([each.mask[:, 0] for each in loop.denoiser.seen]).tolist()
    order = [images.caption(epoch_index(len(images), 0, number)) for number in range(20)]
    assert all(value in (100, marks[caption]) for value, caption in zip(seen, order, strict=True))
    assert masks == [value != 100 for value in seen]
    assert 1 <= masks.count(False) <= 12  # six expected of 20


def test_captions_of_other_images_are_refused(tiny, latents, tmp_path):
    images = open_dataset(tiny.DATASETS["scenes"], "validation", 32)
    encode_captions(
        lambda captions: (torch.zeros(len(captions), 2, 3), torch.ones(len(captions), 2)), images, tmp_path, {}
    )
    with pytest.raises(ValueError, match=r"holds 3 captions, but .* holds latents of 24"):
        LatentDataset(latents, captions=CaptionDataset(tmp_path))


def test_captions_that_are_missing_or_not_wanted_are_refused(latents, tmp_path):
    def start(entry, captions):
        train_denoiser(
            entry=entry, recipe=recipe("dit"), latents=latents, patch_size=1, output=tmp_path / "output",
            state=tmp_path / "state", seed=0, config_digest="config", captions=captions,
        )  # fmt: skip

    on_captions = Config().entry("diffusion", "pixart-demo")
    with pytest.raises(ValueError, match="pixart-demo: conditioning is caption, but captions are missing: embed them"):
        start(on_captions, None)
    with pytest.raises(ValueError, match="tiny-dit: conditioning is class, but captions are given: leave them out"):
        start(ENTRIES["dit"], tmp_path / "captions")
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_labels_outside_the_classes_are_refused_as_they_are_read(tiny):
    images = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    images.classes = images.classes[:2]
    data = EncodedOnTheFly(load(tiny.dc_ae(latent_scale=0.5)), images)
    with pytest.raises(ValueError, match=r"labels must be in 0 \.\.\. 1, got"):
        data.condition(range(len(images)))


def test_random_crops_need_latents_on_the_fly():
    with pytest.raises(ValidationError, match="crop is random, but latents are cached, of centre crops"):
        recipe("u-vit", crop="random")


def test_latents_of_another_identity_are_refused(latents, tmp_path):
    with pytest.raises(ValueError, match="have another identity: autoencoder 'tiny', expected 'other'"):
        train(tmp_path, latents, "dit", expected_latents={"autoencoder": "other"})


def test_latents_count_and_not_what_made_them(tiny, latents, tmp_path):
    """The same latents, encoded again by code of another digest, are no reason to train again."""
    data = open_dataset(tiny.DATASETS["scenes"], "train", 32)
    encode_dataset(load(tiny.dc_ae(latent_scale=0.5)), data, tmp_path / "again", {"autoencoder": "same", "code": "x"})
    assert fingerprint(tmp_path / "again") == fingerprint(latents)
    encode_dataset(load(tiny.dc_ae(latent_scale=0.6)), data, tmp_path / "other", {"autoencoder": "other"})
    assert fingerprint(tmp_path / "other") != fingerprint(latents)


def test_another_patch_size_is_another_training(latents, tmp_path, capsys):
    train(tmp_path, latents, "dit")
    denoiser = train(tmp_path, latents, "dit", patch_size=2)
    assert denoiser.config.patch_size == 2
    assert "differs in patch_size; kept" in capsys.readouterr().out
    assert len(list((tmp_path / "state").glob("*/completed.json"))) == 2
    assert list((tmp_path / "state").glob(f"*/{CHECKPOINTS}")) == []
