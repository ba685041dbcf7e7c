# SPDX-License-Identifier: Apache-2.0
"""What is remembered of data sets is kept apart for each test, and never in the cache of whoever runs the tests."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DCAE_CACHE", str(folder))
    return folder
