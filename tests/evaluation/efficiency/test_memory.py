# SPDX-License-Identifier: Apache-2.0
"""Peaks by hand, counted ones against those of real tensors, and the end of memory as a result."""

import gc

import pytest
import torch
from torch import nn

from evaluation.efficiency import batch_sizes
from evaluation.efficiency.batch_sizes import largest_batch_size, run_at_largest, training_memory
from evaluation.efficiency.denoiser import MemoryEstimator
from evaluation.efficiency.memory import (
    LiveTensors,
    NotEnoughMemory,
    Peaks,
    catch_out_of_memory,
    training_peaks,
)
from evaluation.efficiency.training import Training
from tests.evaluation.efficiency.tiny import CPU, changed, shape


def test_memory_is_that_of_tensors_alive_at_once():
    kilobyte = 256  # float32 values
    with LiveTensors() as tensors:
        a = torch.zeros(4 * kilobyte)
        b = a + 1
        c = b.view(2, -1)
        b.add_(1)
        assert tensors.bytes == 8 * 1024  # neither the view nor the operator in place is new
        del b
        assert tensors.bytes == 8 * 1024  # the view keeps it
        del c
        assert tensors.bytes == 4 * 1024
        d = torch.zeros(kilobyte)
        del a, d
    assert tensors.bytes == 0
    assert tensors.peak == 8 * 1024
    tensors.restart()
    assert tensors.peak == 0


def test_memory_of_a_training_is_weights_gradients_optimiser_and_activations():
    def peak(batch_size: int) -> int:
        def make() -> Training:
            layers = nn.Sequential(nn.Linear(256, 256, bias=False), nn.ReLU(), nn.Linear(256, 256, bias=False))
            return Training(layers, [torch.zeros(batch_size, 256)], changed(), compiled=False)

        return training_peaks(make, CPU).all

    weights = 2 * 256 * 256 * 4
    assert 4 * weights < peak(1) < 6 * weights  # weights, gradients, two moments, and AdamW's temporaries
    activations = peak(8192) - peak(1)
    assert 3 * 8192 * 1024 < activations < 8 * 8192 * 1024  # input, hidden, output; gradients while they are needed


@pytest.mark.parametrize("kind", ["u-vit", "dit", "pixart"])
def test_counted_memory_is_that_of_real_tensors(kind):
    protocol = changed(activation_checkpointing=True)
    model = shape(kind)

    def make() -> Training:
        return Training(model.build(CPU, protocol), model.inputs(8, CPU), protocol, compiled=False)

    assert MemoryEstimator(model, protocol, CPU).training(8) == training_peaks(make, CPU)


def test_checkpointing_saves_memory():
    deep = shape("dit", latent_size=16, patch_size=1, depth=4)
    plain, saving = (
        MemoryEstimator(deep, changed(activation_checkpointing=on), CPU).training(16).all for on in (False, True)
    )
    assert saving < 0.7 * plain


# --- the end of memory ---


def fits_up_to(limit: int):
    """A step that needs a fixed 100 bytes and 10 for each image, and fails as PyTorch does beyond a batch size."""

    def peaks(batch_size: int) -> Peaks:
        if batch_size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return Peaks(100 + 10 * batch_size, 120)

    return peaks


def test_memory_at_a_batch_size_that_does_not_fit_is_extrapolated_and_says_so():
    assert training_memory(fits_up_to(256), 256, CPU) == (2660, "")
    count, how = training_memory(fits_up_to(100), 256, CPU)
    assert count == 2660
    assert "from batch sizes 32 and 64: at 128 it needs more than" in how


def test_what_grows_is_extrapolated_even_if_the_update_is_fuller_at_small_batches():
    def peaks(batch_size: int) -> Peaks:
        return Peaks(fits_up_to(32)(batch_size).forward_backward, 1000)

    assert training_memory(peaks, 256, CPU)[0] == 100 + 10 * 256


def test_memory_is_not_extrapolated_from_one_batch_size():
    with pytest.raises(NotEnoughMemory, match=r"needs more than [\d.]+ GiB at batch size 4"):
        training_memory(fits_up_to(1), 4, CPU)


@pytest.mark.parametrize("words", ["CUDA error: out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
                                   "DefaultCPUAllocator: can't allocate memory"])  # fmt: skip
def test_what_libraries_say_of_memory_is_understood(words):
    def call():
        raise RuntimeError(words)

    with pytest.raises(NotEnoughMemory, match="GiB"):
        catch_out_of_memory(call, CPU)


def test_an_error_that_hides_the_end_of_memory_is_understood():
    def call():
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    with pytest.raises(NotEnoughMemory):
        catch_out_of_memory(call, CPU)


def test_another_error_is_not_taken_for_the_end_of_memory():
    def call():
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        catch_out_of_memory(call, CPU)


def test_what_a_failed_call_held_is_given_back():
    class Held:
        pass

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, Held) for each in gc.get_objects())

    def call():
        held = Held()
        raise torch.OutOfMemoryError(f"out of memory with {held}")

    with pytest.raises(NotEnoughMemory) as caught:
        catch_out_of_memory(call, CPU)
    assert alive() == 0
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("limit", "free", "expected"), [
    (10**6, 10**9, 64),  # more than allowed fits
    (10**6, 380, 24),  # 92 % of the free bytes are 349: 24 images and the fixed part
    (50, 10**9, 48),  # free memory looks endless, but allocating fails
    (1, 10**9, 1),
])  # fmt: skip
def test_the_largest_batch_is_found(monkeypatch, limit, free, expected):
    monkeypatch.setattr(batch_sizes, "free_memory", lambda device: free)
    found = largest_batch_size(lambda size: fits_up_to(limit)(size).all, CPU, at_most=64)
    assert found == expected


def test_no_batch_is_the_largest_if_not_one_image_fits(monkeypatch):
    monkeypatch.setattr(batch_sizes, "free_memory", lambda device: 50)
    with pytest.raises(NotEnoughMemory, match="even for one image"):
        largest_batch_size(lambda size: 100 + size, CPU, at_most=64)


def test_a_protocol_can_ask_for_the_largest_batch():
    protocol = changed(training_batch_size="largest", inference_batch_size="largest", largest_batch_size=2)
    needs = MemoryEstimator(shape("u-vit"), protocol, CPU)
    assert [needs.run(work, lambda size: -size) for work in ("training", "inference")] == [(2, -2), (2, -2)]


def test_a_backend_that_needs_more_than_eager_steps_gets_a_smaller_batch():
    tried = []

    def run(size: int) -> str:
        tried.append(size)
        if size > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert run_at_largest(run, 80, CPU) == (60, "done")
    assert tried == [80, 70, 60]
    with pytest.raises(torch.OutOfMemoryError):
        run_at_largest(run, 100, CPU)
