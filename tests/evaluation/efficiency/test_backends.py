# SPDX-License-Identifier: Apache-2.0
"""Every backend computes what eager does, or is refused."""

import sys

import onnxruntime
import pytest
import torch
from torch import nn

from evaluation.efficiency import backends
from evaluation.efficiency.backends import check_outputs, ready, repeated_blocks
from evaluation.efficiency.memory import BackendError, UnequalOutputs
from evaluation.efficiency.onnx_runtime import export_onnx
from tests.evaluation.efficiency.tiny import CPU, changed, shape


def model_and_inputs(kind: str):
    model = shape(kind)
    return model.build(CPU, changed()).eval(), model.inputs(2, CPU)


@pytest.mark.parametrize("kind", ["u-vit", "dit", "pixart"])
def test_an_exported_model_computes_what_eager_does(tmp_path, kind):
    module, inputs = model_and_inputs(kind)
    session = onnxruntime.InferenceSession(export_onnx(module, inputs, tmp_path / "model.onnx"))
    names = [each.name for each in session.get_inputs()]
    outputs = session.run(None, {name: each.numpy() for name, each in zip(names, inputs, strict=True)})[0]
    with torch.no_grad():
        expected = module(*inputs)
    # The bound of the efficiency protocols; both compute in float32, so that the difference is that of orders of sums.
    assert check_outputs(torch.from_numpy(outputs), expected, "onnxruntime") < 1e-3


def test_onnxruntime_is_ready_to_run():
    module, inputs = model_and_inputs("u-vit")
    call = ready("onnxruntime", module, inputs)
    with torch.no_grad():
        torch.testing.assert_close(call(), module(*inputs), rtol=1e-3, atol=1e-4)


def test_compiled_blocks_are_ready_to_run(monkeypatch):
    """Traced as always; the generated code, which takes a C++ compiler minutes, is replaced by the traced operators."""
    compiled = []
    original = nn.Module.compile

    def traced(module, **options):
        compiled.append(module)
        original(module, **options, backend="eager", fullgraph=True)

    monkeypatch.setattr(nn.Module, "compile", traced)
    module, inputs = model_and_inputs("u-vit")
    call = ready("compile", module, inputs)
    assert compiled
    with torch.no_grad():
        torch.testing.assert_close(call(), module(*inputs))


def test_what_outputs_are_compared_with_is_eager_though_parts_were_compiled_before(monkeypatch):
    """Encoder and decoder share a network that the first of them compiles where it stands."""
    module = nn.Linear(4, 4).eval()
    module.compile(backend=lambda graph, inputs: lambda *given: [2 * each for each in graph(*given)])  # wrong
    inputs = [torch.randn(2, 4)]
    assert not torch.allclose(module(*inputs), nn.functional.linear(*inputs, module.weight, module.bias))
    seen = []
    monkeypatch.setitem(
        backends.BACKENDS, "compile", lambda module, inputs, like: seen.append(like) or (lambda: like.clone())
    )
    ready("compile", module, inputs)
    torch.testing.assert_close(seen[0], nn.functional.linear(*inputs, module.weight, module.bias))


def test_repeated_blocks_are_compiled_and_others_as_a_whole():
    deep = shape("u-vit", depth=6).build(torch.device("meta"), changed()).denoiser
    assert repeated_blocks(deep) == [*deep.in_blocks, deep.mid_block, *deep.out_blocks]
    assert repeated_blocks(nn.ModuleList(nn.Linear(8, width) for width in (1, 2, 3, 4))) == []
    assert repeated_blocks(nn.Linear(2, 2)) == []


def test_unequal_outputs_are_refused(monkeypatch):
    module, inputs = model_and_inputs("u-vit")
    monkeypatch.setitem(backends.BACKENDS, "compile", lambda module, inputs, like: lambda: module(*inputs) * 1.01)
    with pytest.raises(UnequalOutputs, match="outputs of compile differ from eager by 1"):
        ready("compile", module, inputs)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_eager_outputs_that_nothing_can_be_compared_with_are_refused(value):
    with pytest.raises(UnequalOutputs, match="nothing can be compared"):
        check_outputs(torch.ones(4), torch.full((4,), value), "compile")


def test_outputs_that_are_not_numbers_are_refused():
    with pytest.raises(UnequalOutputs, match="differ from eager by nan"):
        check_outputs(torch.tensor([1.0, float("nan")]), torch.ones(2), "compile")


def test_half_precision_may_differ_by_its_own_rounding():
    expected = torch.ones(4)
    assert check_outputs(expected * 1.005, expected.half(), "compile") == pytest.approx(0.005, rel=1e-3)
    with pytest.raises(UnequalOutputs):
        check_outputs(expected * 1.005, expected, "compile")


def test_a_backend_that_is_not_there_says_what_to_do(monkeypatch):
    module, inputs = model_and_inputs("u-vit")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match="Install NVIDIA's package tensorrt"):
        ready("tensorrt", module, inputs)
    with pytest.raises(BackendError, match="no bf16"):
        ready("onnxruntime", module.to(torch.bfloat16), [inputs[0].to(torch.bfloat16), *inputs[1:]])
