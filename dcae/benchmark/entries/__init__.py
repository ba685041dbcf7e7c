# SPDX-License-Identifier: Apache-2.0
"""The typed form of every YAML file under ``config/`` that describes one thing: an *entry*."""

from pydantic import TypeAdapter

from dcae.benchmark.entries.autoencoders import (
    MEASURED,
    AutoencoderEntry,
    AutoencoderFields,
    Conventions,
    DCAEEntry,
    DCAEStages,
    DiffusersEntry,
    Posterior,
    Pretrained,
    PythonEntry,
    SpaceToChannelEntry,
    StartFrom,
    Tiling,
)
from dcae.benchmark.entries.base import DESCRIPTIVE, Entry, Settings, WithChoices, digest
from dcae.benchmark.entries.datasets import (
    DatasetEntry,
    ExpectedImages,
    FFHQEntry,
    FolderEntry,
    ImageFilesEntry,
    ImageNetEntry,
    MapillaryVistasEntry,
    MJHQEntry,
    PhotographsEntry,
    SA1BEntry,
    ScenesEntry,
    WebDatasetEntry,
)
from dcae.benchmark.entries.diffusion import DiffusionEntry, TextEncoder
from dcae.benchmark.entries.networks import NetworkWeights, SubsetDetector
from dcae.benchmark.entries.protocols import EfficiencyProtocol, Protocol, ProtocolEntry
from dcae.benchmark.entries.recipes import (
    EMA,
    AdamW,
    AutoencoderRecipe,
    DiffusionRecipe,
    Losses,
    NoiseSchedule,
    PatchGAN,
    Perceptual,
    Phase,
    RecipeEntry,
    TrainingFields,
)
from dcae.benchmark.entries.suites import SuiteEntry

ADAPTERS: dict[str, TypeAdapter] = {
    "autoencoders": TypeAdapter(AutoencoderEntry),
    "diffusion": TypeAdapter(DiffusionEntry),
    "datasets": TypeAdapter(DatasetEntry),
    "recipes": TypeAdapter(RecipeEntry),
    "protocols": TypeAdapter(ProtocolEntry),
    "suites": TypeAdapter(SuiteEntry),
}
"""Folder under ``config/`` to the type of the entries in it."""

__all__ = [
    "ADAPTERS",
    "DESCRIPTIVE",
    "EMA",
    "MEASURED",
    "AdamW",
    "AutoencoderEntry",
    "AutoencoderFields",
    "AutoencoderRecipe",
    "Conventions",
    "DCAEEntry",
    "DCAEStages",
    "DatasetEntry",
    "DiffusersEntry",
    "DiffusionEntry",
    "DiffusionRecipe",
    "EfficiencyProtocol",
    "Entry",
    "ExpectedImages",
    "FFHQEntry",
    "FolderEntry",
    "ImageFilesEntry",
    "ImageNetEntry",
    "Losses",
    "MJHQEntry",
    "MapillaryVistasEntry",
    "NetworkWeights",
    "NoiseSchedule",
    "PatchGAN",
    "Perceptual",
    "Phase",
    "PhotographsEntry",
    "Posterior",
    "Pretrained",
    "Protocol",
    "ProtocolEntry",
    "PythonEntry",
    "RecipeEntry",
    "SA1BEntry",
    "ScenesEntry",
    "Settings",
    "SpaceToChannelEntry",
    "StartFrom",
    "SubsetDetector",
    "SuiteEntry",
    "TextEncoder",
    "Tiling",
    "TrainingFields",
    "WebDatasetEntry",
    "WithChoices",
    "digest",
]
