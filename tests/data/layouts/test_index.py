# SPDX-License-Identifier: Apache-2.0
"""From the repository's entries to files."""

import pytest

from dcae.benchmark.config import Config
from dcae.data.layouts.index import index_split
from dcae.data.storage.files import DatasetError


@pytest.mark.parametrize("name", ["scenes", "photographs"])
def test_what_is_drawn_has_no_files(name):
    with pytest.raises(DatasetError, match=f"dataset {name} is of kind {name}: it has no image files"):
        index_split(Config().entry("datasets", name), "train")


@pytest.mark.parametrize(
    ("name", "train", "validation"),
    [
        ("imagenet", 1_281_167, 50_000),
        ("imagenet-without-small-images", 1_281_167, 50_000),
        ("ffhq", 60_000, 10_000),
        ("mapillary-vistas", 18_000, 2_000),
        ("mjhq-30k", 27_000, 3_000),
        ("mjhq-30k-evaluation", None, 30_000),
    ],
)
def test_entries_expect_the_published_numbers(name, train, validation):
    expected = Config().entry("datasets", name).expected_images
    assert (expected.train, expected.validation) == (train, validation)
