# SPDX-License-Identifier: Apache-2.0
"""Captions that are embedded once: what is written and read, and what is refused."""

import numpy as np
import pytest
import torch

from dcae.data.storage.files import DatasetError
from dcae.diffusion.captions.dataset import CaptionDataset
from dcae.diffusion.captions.encode import encode_captions
from workflow.commands.verify_cache import verify_cache

IDENTITY = {"dataset": "letters", "text_encoder": "1234"}


class Letters:
    """Image i has the caption that is i + 1 letters long, or none if i is in ``silent``."""

    def __init__(self, number: int, silent: tuple[int, ...] = ()):
        self.number, self.silent = number, silent

    def __len__(self):
        return self.number

    def caption(self, index):
        return "" if index in self.silent else "a" * (index + 1)


def lengths(captions):
    """Embeddings [B, 12, 4] hold the captions' lengths, and masks as many tokens."""
    counts = torch.tensor([len(caption) for caption in captions])
    return counts[:, None, None].expand(-1, 12, 4) / 8, torch.arange(12) < counts[:, None]


@pytest.mark.parametrize("batch_size", [1, 7])
def test_what_is_written_is_read_by_index(tmp_path, batch_size):
    for process in (1, 0):
        encode_captions(lengths, Letters(9), tmp_path, IDENTITY, batch_size, shard_size=4, process=process, processes=2)
    data = CaptionDataset(tmp_path, IDENTITY)
    assert (len(data), data.tokens, data.channels) == (9, 12, 4)
    embeddings, mask = data.batch([8, 0, 4, 4])
    assert embeddings.dtype == torch.float16 and mask.dtype == torch.bool
    assert (embeddings[:, 0, 0] * 8).tolist() == mask.sum(dim=1).tolist() == [9, 1, 5, 5]
    assert data.empty[0].shape == (1, 12, 4) and not data.empty[1].any()
    verify_cache(tmp_path)
    with pytest.raises(IndexError, match="holds 9 captions, index 9"):
        data.batch([9])


def test_rows_are_the_captions_of_some_of_the_images(tmp_path):
    encode_captions(lengths, Letters(9), tmp_path, IDENTITY, shard_size=4)
    data = CaptionDataset(tmp_path, IDENTITY, rows=np.array([1, 5, 8]))
    assert len(data) == 3
    assert data.batch([2, 0])[1].sum(dim=1).tolist() == [9, 2]
    assert not data.empty[1].any()
    data.check_number(3, "there are images")
    with pytest.raises(IndexError, match="holds 3 captions, index 3"):
        data.batch([3])
    with pytest.raises(ValueError, match="holds 9 captions, row 9 is asked for"):
        CaptionDataset(tmp_path, IDENTITY, rows=np.array([1, 9]))


def test_a_field_that_the_reader_does_not_know_is_not_compared(tmp_path):
    encode_captions(lengths, Letters(3), tmp_path, IDENTITY)
    assert len(CaptionDataset(tmp_path, IDENTITY | {"text_encoder": None})) == 3
    with pytest.raises(ValueError, match="text_encoder '1234', expected '5'"):
        CaptionDataset(tmp_path, IDENTITY | {"dataset": None, "text_encoder": "5"})


def test_captions_of_another_text_encoder_are_refused_naming_both(tmp_path):
    encode_captions(lengths, Letters(3), tmp_path, IDENTITY)
    with pytest.raises(ValueError, match="captions have another identity: text_encoder '1234', expected '5'"):
        CaptionDataset(tmp_path, IDENTITY | {"text_encoder": "5"})


def test_a_data_set_without_captions_is_refused_naming_it(tmp_path):
    with pytest.raises(DatasetError, match="dataset letters: 2 of 5 images have no caption, image 1 first"):
        encode_captions(lengths, Letters(5, silent=(1, 3)), tmp_path, IDENTITY)
    assert not list(tmp_path.iterdir())


def test_embeddings_beyond_float16_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not finite in float16"):
        encode_captions(lambda captions: (lengths(captions)[0] + 1e6, lengths(captions)[1]), Letters(3), tmp_path, {})
