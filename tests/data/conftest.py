# SPDX-License-Identifier: Apache-2.0
"""Listings of data sets are kept apart for each test."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DCAE_CACHE", str(folder))
    return folder
