# SPDX-License-Identifier: Apache-2.0
"""What is remembered of datasets is kept apart for each test, and never in the cache of whoever runs the tests."""

import pytest

SLOWEST = ("tests/workflow/", "tests/training/")


def pytest_collection_modifyitems(items):
    """Begin with the slowest folders, so that no process of pytest-xdist is left alone with them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLOWEST))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DCAE_CACHE", str(folder))
    return folder
