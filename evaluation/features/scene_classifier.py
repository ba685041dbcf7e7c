# SPDX-License-Identifier: Apache-2.0
"""A classifier of procedural scenes, whose features give distances between distributions a meaning without downloads.

It names the class of a scene and the words of its caption: colours, kinds of shapes, moods, counts. Its weights are
in the repository; ``python -m evaluation.features.scene_classifier`` made them.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcae.benchmark.entries import NetworkWeights
from dcae.data.scenes.dataset import Scenes
from dcae.initialisation import seeded_random_init
from dcae.weights.catalogue import find

NETWORK = "scene-classifier"
SIDE = 64  # of its input, in pixels
WIDTHS = (32, 64, 128, 192)
RAREST_WORD = 0.01  # share of the captions that a word of the classifier is in, at least

# Of its training, by the command above: images, learning rate, batch.
IMAGES, VALIDATION_IMAGES, EPOCHS, LEARNING_RATE, BATCH = 24_000, 1_200, 3, 2e-3, 32


def layers() -> nn.Sequential:
    """Return the network from images in [-1, 1], [B, 3, 64, 64], to features [B, 192], uninitialised."""
    stages: list[nn.Module] = [nn.PixelUnshuffle(2)]
    channels = 12
    for width in WIDTHS:
        if channels != 12:
            stages.append(nn.MaxPool2d(2))
        stages += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def load_scene_classifier(weights: NetworkWeights, device: str | torch.device = "cpu") -> nn.Sequential:
    """Load the network with the weights that a protocol names, or with random ones of its seed.

    Raises:
        WeightsError: the weight file is missing or has the wrong content.
    """
    network = layers()
    if weights.random:
        seeded_random_init(network, weights.seed)
    else:
        state = load_file(find(weights.weights))
        network.load_state_dict({name: value for name, value in state.items() if not name.startswith("head.")})
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


class SceneFeatures(nn.Module):
    """Computes features of uint8 images, which are resized to 64 px by the mean over areas."""

    def __init__(self, network: nn.Sequential):
        super().__init__()
        self.network = network

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return features, float32 [B, 192], of uint8 images [B, 3, H, W].

        Raises:
            TypeError: images are not uint8.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"expected uint8 images, got {images.dtype}")
        pixels = F.interpolate(images.float(), size=(SIDE, SIDE), mode="area") / 127.5 - 1
        return self.network(pixels.contiguous(memory_format=torch.channels_last))


# --- training --------------------------------------------------------------------------------------------------------


def words_of(caption: str) -> set[str]:
    """Return the words of a caption; those printed in a scene of text are left out."""
    return set(re.findall(r"[a-z]+|\d+", re.sub('".*"', "", caption)))


def train(output: Path, images: int, epochs: int, validation_images: int) -> dict[str, float]:
    """Train the classifier, write its weights, and return its accuracy on validation scenes.

    Returns:
        ``class``: share of right classes; ``words``: of words that occur, the share that it finds at a threshold of ½.
    """
    scenes = Scenes(0, "train", images, SIDE), Scenes(0, "validation", validation_images, SIDE)
    captions = [[each.caption(index) for index in range(len(each))] for each in scenes]
    counts = Counter(word for caption in captions[0] for word in words_of(caption))
    vocabulary = sorted(word for word, count in counts.items() if count >= RAREST_WORD * images)
    pixels = [each.batch(range(len(each))) for each in scenes]
    words = [
        torch.tensor([[word in found for word in vocabulary] for found in map(words_of, each)]).float()
        for each in captions
    ]
    labels = [torch.arange(len(each)) % len(each.classes) for each in scenes]

    torch.manual_seed(0)
    network, head = layers(), nn.Linear(WIDTHS[-1], len(scenes[0].classes) + len(vocabulary))
    both = nn.Sequential(network, head).to(memory_format=torch.channels_last)
    steps = epochs * images // BATCH
    optimiser = torch.optim.AdamW(both.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    order = torch.cat([torch.randperm(images) for _ in range(epochs)])
    for chosen in order[: steps * BATCH].split(BATCH):
        batch = pixels[0][chosen].float() / 127.5 - 1
        classes, said = both(batch).tensor_split([len(scenes[0].classes)], dim=1)
        loss = F.cross_entropy(classes, labels[0][chosen])
        loss = loss + 10 * F.binary_cross_entropy_with_logits(said, words[0][chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()

    both.eval()
    with torch.inference_mode():
        outputs = torch.cat([both(part.float() / 127.5 - 1) for part in pixels[1].split(100)])
    classes, said = outputs.tensor_split([len(scenes[0].classes)], dim=1)
    state = {f"head.{name}": value for name, value in head.state_dict().items()} | network.state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, output, {"words": " ".join(vocabulary)})
    right = (classes.argmax(dim=1) == labels[1]).float().mean().item()
    found = ((said > 0) & (words[1] > 0)).sum().item() / words[1].sum().item()
    return {"class": right, "words": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="train the classifier of scenes")
    parser.add_argument("output", type=Path, help="the safetensors file to write")
    print(train(parser.parse_args().output, IMAGES, EPOCHS, VALIDATION_IMAGES))
