# SPDX-License-Identifier: Apache-2.0
"""What a profile of a denoiser holds: every kind, precision and way to fail."""

import pytest
import torch

from dcae.diffusion.models.build import build_denoiser
from evaluation.efficiency import backends, training
from evaluation.efficiency.cost import count_parameters
from evaluation.efficiency.denoiser import profile_denoiser
from tests.evaluation.efficiency.tiny import CPU, PROTOCOL, changed, shape

UNITS = {
    "parameters": "",
    "gmacs": "GMAC",
    "peak_memory_gb": "GB",
    "peak_memory_gib": "GiB",
    "training_images_per_second": "images/s",
    "inference_images_per_second": "images/s",
    "latency_ms": "ms",
    "training_utilisation": "",
    "training_mfu": "",
    "inference_utilisation": "",
}


@pytest.fixture(autouse=True)
def _a_known_matrix_product(monkeypatch):
    """So that no test waits for one: a million GMAC per second."""
    monkeypatch.setattr("evaluation.efficiency.profile.matrix_product_rate", lambda *arguments, **named: 1e15)


@pytest.mark.parametrize("kind", ["u-vit", "dit", "pixart"])
def test_a_profile_has_every_value_with_its_unit(kind):
    profile = profile_denoiser(shape(kind), PROTOCOL)
    assert {name: value.unit for name, value in profile.values.items()} == UNITS
    assert all(value.value > 0 for value in profile.values.values())
    assert profile.excluded == {}
    assert profile.values["peak_memory_gb"].value / profile.values["peak_memory_gib"].value == pytest.approx(
        1024**3 / 1e9
    )
    assert len(profile.values["latency_ms"].repeats) == PROTOCOL.repeats
    sizes = {name: size for name, size in profile.conditions.items() if name.endswith("batch_size")}
    assert sizes == {
        "training_batch_size": 2, "inference_batch_size": 4, "latency_batch_size": 2, "memory_batch_size": 4,
    }  # fmt: skip
    assert "load" in profile.conditions["before"]


def test_hfu_counts_a_checkpointed_training_as_four_passes_and_mfu_as_three():
    for on, passes in ((False, 3), (True, 4)):
        values = profile_denoiser(shape("dit"), changed(activation_checkpointing=on)).values
        expected = values["training_images_per_second"].value * passes * values["gmacs"].value / 1e6
        assert values["training_utilisation"].value == pytest.approx(expected)
        assert values["training_mfu"].value == pytest.approx(expected * 3 / passes)


def test_parameters_are_those_of_the_model_with_its_classes():
    model = shape("u-vit")
    built = build_denoiser(model.entry, 4, 8, 2, 10)
    assert profile_denoiser(model, PROTOCOL).values["parameters"].value == count_parameters(built)


def test_fewer_tokens_are_cheaper():
    few, many = (profile_denoiser(shape("dit", 32, patch_size), PROTOCOL).values for patch_size in (8, 1))
    assert few["gmacs"].value < many["gmacs"].value / 30
    assert few["peak_memory_gb"].value < many["peak_memory_gb"].value / 4
    assert few["latency_ms"].value < many["latency_ms"].value


def test_reduced_precision_runs():
    options = {"precision": "bf16", "activation_checkpointing": True}
    assert profile_denoiser(shape("u-vit"), changed(**options)).excluded == {}


def test_the_end_of_memory_is_a_result_and_the_rest_is_measured(monkeypatch):
    def fails(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training.Training, "forward_backward", fails)
    profile = profile_denoiser(shape("u-vit"), PROTOCOL)
    assert set(profile.excluded) == {"peak_memory_gb", "peak_memory_gib", "training_images_per_second"}
    assert all("needs more than" in why for why in profile.excluded.values())
    assert profile.values["inference_images_per_second"].value > 0
    assert "training_utilisation" not in profile.values


def test_an_unequal_model_has_no_speed_and_the_reason(monkeypatch):
    monkeypatch.setitem(backends.BACKENDS, "onnxruntime", lambda module, inputs, like: lambda: -module(*inputs))
    profile = profile_denoiser(shape("u-vit"), changed(inference_backend="onnxruntime"))
    assert set(profile.excluded) == {"inference_images_per_second", "latency_ms"}
    assert "outputs of onnxruntime differ from eager by 2.0e+00" in profile.excluded["latency_ms"]


def test_a_table_of_batch_sizes_is_looked_up_by_the_side_of_the_tokens():
    table = {"model": {4: 3}}
    profile = profile_denoiser(shape("u-vit"), changed(training_batch_size=table))
    assert profile.conditions["training_batch_size"] == 3
    with pytest.raises(ValueError, match="training_batch_size has none for model on 8 x 8 tokens"):
        profile_denoiser(shape("u-vit", patch_size=1), changed(training_batch_size=table))


def test_gradients_in_fp16_are_those_in_fp32(monkeypatch):
    """A mean over a large batch has gradients near the least number of fp16, 6e-8, or below it."""
    model = shape("u-vit", latent_size=64, patch_size=32)

    def gradients(precision: str) -> torch.Tensor:
        torch.manual_seed(0)
        protocol = changed(precision=precision)
        step = training.Training(model.build(CPU, protocol), model.inputs(64, CPU), protocol, compiled=False)
        step.forward_backward()
        return torch.cat([each.grad.flatten() for each in step.module.parameters()])

    exact = gradients("fp32")
    scale = training.LOSS_SCALE_OF_FP16
    assert (gradients("fp16") / scale - exact).norm() < 0.01 * exact.norm()  # fp16 has 11 bits
    monkeypatch.setattr(training, "LOSS_SCALE_OF_FP16", 1)
    assert (gradients("fp16") - exact).norm() > 0.03 * exact.norm()


def test_weights_that_are_no_numbers_are_told(monkeypatch):
    monkeypatch.setattr(training.Training, "is_finite", lambda self: False)
    assert any("no numbers" in each for each in profile_denoiser(shape("u-vit"), PROTOCOL).remarks)


def test_a_failure_costs_its_value_and_says_why(monkeypatch):
    def fails(module, inputs, like):
        raise RuntimeError("ptxas was not found\n  in a long trace")

    monkeypatch.setitem(backends.BACKENDS, "compile", fails)
    profile = profile_denoiser(shape("u-vit"), changed(inference_backend="compile"))
    assert profile.failed == profile.excluded
    assert profile.excluded["latency_ms"] == "failed: RuntimeError: ptxas was not found"
    assert profile.values["training_images_per_second"].value > 0


@pytest.mark.parametrize("refused", [False, True])
def test_a_compiled_training_is_checked_against_eager_before_its_time_counts(monkeypatch, refused):
    """The compiler is left out; one that changes what is computed is refused."""

    def compile_blocks(module):
        if refused:
            with torch.no_grad():
                module.denoiser.output.weight *= 1.05

    monkeypatch.setattr(training, "compile_blocks", compile_blocks)
    profile = profile_denoiser(shape("u-vit"), changed(training_backend="compile"))
    assert ("training_images_per_second" in profile.excluded) == refused
    if refused:
        assert "outputs of compile (gradients) differ from eager" in profile.excluded["training_images_per_second"]
