# SPDX-License-Identifier: Apache-2.0
"""Generation quality: FID and CLIP score with and without classifier-free guidance (Tables 1 and 3 to 5 of the paper).

Samples are made, decoded and measured as a stream (module ``sample_set``), by any number of protocols in one pass; only
their features are stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dcae.autoencoders.contract import Autoencoder
from dcae.benchmark.entries import DiffusionEntry, NetworkWeights, Protocol
from dcae.benchmark.record import Value
from dcae.data.dataset import ImageDataset
from dcae.shards import Shard
from evaluation.features.extractor import Extractor, feature_sets
from evaluation.features.reference import read_reference
from evaluation.metrics.frechet import Reference
from evaluation.metrics.registry import CLIP_SCORE, mean_value
from evaluation.quality.distances import Quality, distances
from evaluation.quality.image_grid import write_grid
from evaluation.quality.sample_set import ImageSource, SampleSet, write_sample_set

# Raise it when results change, and say below what each raise changed.
# 2: samples are seeded by dcae.randomness; the resize of protocol clean-fid is clean-fid's own function.
# 3: the CLIP score of ImageNet's classes takes their names, not their WordNet ids.
# 4: on a GPU, samples and their decoding are in the protocol's sampling_precision; before, convolutions alone in TF32.
# 5: CLIP's images are resized as 8-bit values, as PIL does; FID∞ from 25,000 images on, with the samples' error.
RESULTS_VERSION = 5

WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Generation:
    """Values, and the first samples of each setting: sample k has the same condition and noise in each.

    Attributes:
        values: fid_without_guidance, kid_without_guidance, clip_score_without_guidance, ....
        samples: by setting (without_guidance, with_guidance), uint8 [K, 3, R, R].
        excluded: values that were left out, with the reason.
        further: values of the additional protocols, by their names.
        prompts: class or caption of each of these samples; empty without conditioning.
    """

    values: dict[str, Value]
    samples: dict[str, Tensor]
    excluded: dict[str, str] = field(default_factory=dict)
    further: dict[str, Quality] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)


def guidance_scales(entry: DiffusionEntry, classes: int) -> dict[str, float]:
    """Return the scale of each setting; with guidance only if there is a condition and a scale other than 1."""
    conditioned = entry.conditioning == "caption" or entry.classes(classes) > 0
    guided = {"with_guidance": entry.guidance_scale} if conditioned and entry.guidance_scale != 1 else {}
    return {"without_guidance": 1.0, **guided}


def class_captions(classes: Sequence[str]) -> list[str]:
    """Return a caption for each class, for the CLIP score of class-conditional samples; raises as ``class_words``."""
    return [f"a picture of {words}" for words in class_words(classes)]


def class_words(classes: Sequence[str]) -> list[str]:
    """Return classes in words; those named by WordNet ids, as ImageNet's, by their synset's first, as timm lists them.

    Raises:
        ValueError: a WordNet id of no class of ImageNet-1k.
    """
    if any(map(WORDNET_ID.fullmatch, classes)):
        classes = _names_of_imagenet_classes(classes)
    return [name.replace("_", " ").replace("-", " ") for name in classes]


def _names_of_imagenet_classes(ids: Sequence[str]) -> list[str]:
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    if unknown := sorted(set(ids) - set(info.label_names())):
        raise ValueError(f"class {unknown[0]} is a WordNet id of no class of ImageNet-1k: its name is unknown")
    return [info.label_name_to_description(each).split(", ")[0] for each in ids]


def evaluate_generation(
    source: ImageSource,
    class_names: Sequence[str],
    dataset: ImageDataset,
    protocol: Protocol,
    reference: Path,
    folder: Path,
    identity: dict[str, Any],
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    all_images: Path | None = None,
    process: int = 0,
    processes: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
    further: Sequence[Protocol] = (),
) -> Generation | None:
    """Measure ``protocol.generation_images`` samples of a diffusion model; the same call resumes a stopped one.

    Args:
        source: denoiser and autoencoder, on the device and in evaluation mode.
        class_names: of the data that a class-conditional denoiser was trained on.
        dataset: the images of ``reference``: the split ``protocol.generation_reference`` at the cell's resolution.
            Their captions condition a text-to-image denoiser.
        protocol: names feature networks, their weights and the numbers of images.
        reference: features of real images, from ``write_reference``.
        folder: for features, from which a stopped run resumes.
        identity: everything that decides the samples (weights, configuration, version), as JSON.
        batch_size: samples at a time; changes values by rounding only.
        device: where everything runs.
        all_images: folder for every sample as a PNG, by setting.
        process, processes: number of this process, and of all processes that share the work.
        progress: called with the setting, the number of finished samples of this process, and of all its samples.
        further: additional protocols for the same samples, with the same numbers of images and the same reference.

    Returns:
        ``None`` in a process that ends before others have finished their share.

    Raises:
        ReferenceError: the reference is missing or does not fit.
        ValueError: the numbers of captions and images differ, or samples hold NaN or infinity.
    """
    if source.captions is not None:
        source.captions.check_number(len(dataset), "samples are compared with a dataset")
    source = replace(source, quantisation=protocol.quantisation, precision=protocol.sampling_precision)
    protocols = [protocol, *further]
    count = protocol.generation_reference_images
    real = {each.name: read_reference(reference, dataset, count, each) for each in protocols}
    measures = SampleMeasures(protocols, _text_of(source, class_captions(class_names), dataset), device)
    scales = guidance_scales(source.entry, source.classes)

    def write(setting: str) -> SampleSet | None:
        return write_sample_set(
            source,
            measures,
            scales[setting],
            protocol.generation_images,
            Path(folder) / setting,
            identity,
            batch_size,
            all_images=all_images / setting if all_images else None,
            process=process,
            processes=processes,
            progress=progress and partial(progress, setting),
        )

    sets = {setting: write(setting) for setting in scales}
    # A set that other processes had not finished when this one turned to the next may be complete by now.
    sets = {setting: done or write(setting) for setting, done in sets.items()}
    if None in sets.values():
        return None
    text = measures.text_of is not None
    qualities = {each.name: _quality(sets, real[each.name], each, text, device) for each in protocols}
    main = qualities.pop(protocol.name)
    samples = {setting: each.first for setting, each in sets.items()}
    prompt_of = _text_of(source, class_words(class_names), dataset)
    shown = range(len(next(iter(samples.values()))))
    prompts = [prompt_of(each) for each in source.conditions(shown)] if prompt_of else []
    return Generation(main.values, samples, main.excluded, qualities, prompts)


def real_image_controls(
    autoencoder: Autoencoder,
    images: ImageDataset,
    dataset: ImageDataset,
    reference: Path,
    protocols: Sequence[Protocol],
    batch_size: int = 16,
    device: str | torch.device = "cpu",
) -> dict[str, Quality]:
    """Return, by protocol, how far real images are from the reference, as they are and autoencoded.

    Names end in ``_of_real_images`` and ``_of_autoencoded_images``. Samples that are drawn from the distribution of the
    latents themselves would have the latter.

    Args:
        autoencoder: on the device and in evaluation mode.
        images: of another split than the reference's; as many as there are samples, or all.
        dataset, reference: as in ``evaluate_generation``.
        protocols: the main one first.
    """
    main = protocols[0]
    real = {each.name: read_reference(reference, dataset, main.generation_reference_images, each) for each in protocols}
    extractor = Extractor(protocols, device)
    rows: dict[str, dict[str, list[Tensor]]] = {"real": {}, "autoencoded": {}}
    for numbers in torch.arange(min(main.generation_images, len(images))).split(batch_size):
        pixels = images.batch(numbers.tolist()).to(device).float() / 127.5 - 1
        with torch.inference_mode():
            shown = {"real": pixels, "autoencoded": autoencoder(pixels)}
        for kind, batch in shown.items():
            for _, _, _, features in extractor.by_quantisation(batch, protocols):
                for column, values in features.items():
                    rows[kind].setdefault(column, []).append(values)
    found = {}
    for protocol in protocols:
        columns = sample_columns(protocol)
        values: dict[str, Value] = {}
        for kind, parts in rows.items():
            made = {role: torch.cat(parts[columns[role]]) for role in real[protocol.name]}
            quality = distances(made, real[protocol.name], protocol, paired=False, device=device)
            values |= quality.renamed(lambda name, kind=kind: f"{name}_of_{kind}_images").values
        found[protocol.name] = Quality(values, {})
    return found


def sample_columns(protocol: Protocol) -> dict[str, str]:
    """Return the column of each number of a sample: feature sets by role, and the CLIP score as ``clip``.

    Protocols that compute a number in the same way have the same column.
    """
    names = {role: each.name for role, each in feature_sets(protocol).items()}
    if protocol.clip:
        which = f"random-{protocol.clip.seed}" if protocol.clip.random else protocol.clip.weights
        names["clip"] = f"clip score:{protocol.clip.network}:{which}"
    return {role: f"{protocol.quantisation}/{name}" for role, name in names.items()}


class SampleMeasures:
    """Computes the stored values of samples: features, and the CLIP score with the text that conditioned each.

    Args:
        protocols: define the columns; shared ones are computed once.
        text_of: returns the text of a label or of a caption's index; without it there is no CLIP score.
        device: where the networks run.
    """

    def __init__(
        self, protocols: Sequence[Protocol], text_of: Callable[[int], str] | None, device: str | torch.device = "cpu"
    ):
        self.protocols, self.text_of = protocols, text_of
        self.extractor = Extractor(protocols, device)
        wanted = dict.fromkeys(each.clip for each in protocols if each.clip and text_of)
        self.clip_scores = {weights: _load_clip_score(weights, device) for weights in wanted}

    def __call__(self, images: Tensor, labels: Tensor) -> Shard:
        """Return rows of every column, for images in [-1, 1], float [B, 3, R, R], and labels [B]."""
        kept: Shard = {}
        for _, pixels, sharing, features in self.extractor.by_quantisation(images, self.protocols):
            kept |= features
            for protocol in sharing:
                column = sample_columns(protocol).get("clip")
                if protocol.clip in self.clip_scores and column not in kept:
                    texts = [self.text_of(label) for label in labels.tolist()]
                    kept[column] = self.clip_scores[protocol.clip](pixels, texts)
        return kept


def _text_of(source: ImageSource, of_classes: Sequence[str], dataset: ImageDataset) -> Callable[[int], str] | None:
    """Return the function from a label to its class's text, or from the index of a caption to the caption."""
    if source.captions is not None:
        return dataset.caption
    return of_classes.__getitem__ if source.entry.classes(source.classes) else None


def _quality(
    sets: dict[str, SampleSet],
    real: dict[str, Reference],
    protocol: Protocol,
    text: bool,
    device: str | torch.device,
) -> Quality:
    """Return the values of one protocol in every setting; ``text``: samples were conditioned by a text."""
    columns = sample_columns(protocol)
    values: dict[str, Value] = {}
    excluded: dict[str, str] = {}
    for setting, samples in sets.items():
        made = {role: samples.rows[columns[role]] for role in real}
        quality = distances(made, real, protocol, paired=False, device=device)
        quality = quality.renamed(lambda name, setting=setting: f"{name}_{setting}")
        values |= quality.values
        excluded |= quality.excluded
        if text and protocol.clip:
            scores = samples.rows[columns["clip"]]
            values[f"{CLIP_SCORE.name}_{setting}"] = mean_value(scores, random_features=protocol.clip.random)
    return Quality(values, excluded)


def _load_clip_score(weights: NetworkWeights, device: str | torch.device):
    from evaluation.features.clip_score import ClipScore  # slow to import, and few protocols need it

    return ClipScore(weights, device)


def save_generation_samples(result: Generation, path: Path) -> None:
    """Write the first samples as one PNG: without guidance in the first row, with guidance below."""
    write_grid(torch.stack(list(result.samples.values())).numpy(), path)
