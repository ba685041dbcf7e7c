# SPDX-License-Identifier: Apache-2.0
"""How steps use a GPU: layouts, copies, and waits of the host, counted on a stand-in for CUDA. It has no speed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cuda.stand_in import ROOT, build, environment, missing

SECONDS = 300


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    why = missing()
    if why:
        pytest.skip(why)
    library = build(tmp_path_factory.mktemp("stand-in"))
    ran = subprocess.run(
        [sys.executable, "-m", "tests.cuda.steps"], cwd=ROOT, env=environment(library), timeout=SECONDS,
        capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_dc_ae_is_channels_last_and_copies_the_image_alone(found):
    counts = found["DC-AE"]
    assert counts["not channels last"] == []
    assert counts["copied inputs"] == ["encoder.conv_in.conv"]
    assert counts["NCHW convolutions"] == 0


def test_a_frozen_convolution_is_one_kernel_backward(found):
    assert (found["frozen convolution"]["convolutions"], found["frozen convolution"]["kernels"]) == (1, 0)


def test_the_norm_is_the_fused_one(found):
    assert found["norm"]["kernels"] <= 8


@pytest.mark.parametrize("step", ["phase of DC-AE", "phase of SD-VAE", "U-ViT", "DiT"])
def test_no_step_waits_for_the_device(found, step):
    assert found[step]["waits"] == {}
    assert found[step]["pageable copies"] == 0


def test_an_evaluation_waits_for_its_reconstructions_features_and_numbers_once_each(found):
    assert sum(found["evaluation"]["waits"].values()) <= 3
    assert found["evaluation"]["pageable copies"] == 0


def test_the_convolutions_of_sd_vae_and_its_losses_are_channels_last(found):
    assert found["phase of SD-VAE"]["NCHW convolutions"] == 0
