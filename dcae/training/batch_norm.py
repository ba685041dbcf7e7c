# SPDX-License-Identifier: Apache-2.0
"""BatchNorm whose batch is that of all processes, so that a training does not depend on how many there are."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def _mean_over_processes(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


class _MeanOverProcesses(torch.autograd.Function):
    """Mean of the processes' tensors. The losses of all of them depend on it, so gradients are averaged likewise."""

    @staticmethod
    def forward(ctx, x):
        return _mean_over_processes(x)

    @staticmethod
    def backward(ctx, gradient):
        return _mean_over_processes(gradient)


class SynchronisedBatchNorm(_BatchNorm):
    """BatchNorm over the samples of all processes, which are as many in each, on CPUs; GPUs have torch's own.

    Gradients are those of the sum of the processes' losses; averaged over the processes, as DDP does, they are those
    of the mean loss. Statistics are computed in fp32 at least.
    """

    @classmethod
    def of(cls, norm: _BatchNorm) -> SynchronisedBatchNorm:
        """In place of a BatchNorm, with its very parameters and buffers."""
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta")
        for name, parameter in norm.named_parameters():
            made.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers():
            made.register_buffer(name, buffer)
        return made.train(norm.training)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, x: Tensor) -> Tensor:  # [B, C, ...]
        if not self.training:
            return super().forward(x)
        others = [dimension for dimension in range(x.dim()) if dimension != 1]
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _MeanOverProcesses.apply(precise.mean(others, keepdim=True))  # [1, C, ...]
        deviations = precise - mean
        variance = _MeanOverProcesses.apply(deviations.square().mean(others, keepdim=True))
        if self.track_running_stats:
            self._follow(mean.detach().flatten(), variance.detach().flatten(), x.numel() // x.shape[1])
        normed = deviations * torch.rsqrt(variance + self.eps)
        if self.affine:
            normed = torch.addcmul(self.bias.view_as(mean), normed, self.weight.view_as(mean))
        return normed.to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, own_count: int) -> None:
        """Move the running statistics, the variance as the unbiased one of all processes."""
        count = own_count * distributed.get_world_size()
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), momentum)


def over_all_processes(module: nn.Module) -> nn.Module:
    """Let every BatchNorm in training mode take its statistics over all processes; replaced within the module.

    In evaluation mode statistics are fixed, and those of a frozen autoencoder stay as they are.
    """
    if isinstance(module, _BatchNorm):
        if not module.training or isinstance(module, nn.SyncBatchNorm | SynchronisedBatchNorm):
            return module
        on_cpu = all(tensor.device.type == "cpu" for tensor in module.state_dict().values())
        return SynchronisedBatchNorm.of(module) if on_cpu else nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        setattr(module, name, over_all_processes(child))
    return module
