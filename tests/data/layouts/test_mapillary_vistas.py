# SPDX-License-Identifier: Apache-2.0
"""Mapillary Vistas: both versions, as folder and as zip file."""

import zipfile

import pytest

from dcae.benchmark.entries import (
    MapillaryVistasEntry,
)
from dcae.data.layouts.split_index import select
from tests.data import replicas


def names(entry, split):
    return select(entry, split).names.to_pylist()


@pytest.mark.parametrize("version", ["1.2", "2.0"])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_mapillary_vistas_in_both_versions_and_forms(tmp_path, version, form):
    members = replicas.mapillary_vistas(version)
    path = replicas.zipped(tmp_path / "mapillary.zip", members)
    if form == "folder":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "mapillary")
        path = tmp_path / "mapillary"
    entry = MapillaryVistasEntry(kind="mapillary-vistas", name="mapillary-vistas", path=str(path))
    assert names(entry, "train") == ["a.jpg", "b.jpg", "c.jpg"]
    assert names(entry, "validation") == ["d.jpg", "e.jpg"]
    assert select(entry, "validation").read(1) == replicas.encoded("e")
