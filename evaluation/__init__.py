# SPDX-License-Identifier: Apache-2.0
"""Measurement of autoencoders and diffusion models, and tables and figures of the results.

Offered here for scripts and notebooks of your own, while the project itself imports each from the module that defines
it: ``evaluate(autoencoder, images=folder, protocol="dc-ae")`` returns a record, and the metrics.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "comparison.record": ["evaluate"],
        "features.quantisation": ["to_uint8"],
        "metrics.frechet": ["frechet_distance", "frechet_distance_of_features"],
        "metrics.jackknife": ["jackknife_frechet", "mean_and_standard_error"],
        "metrics.kid_cmmd": ["clip_mmd", "kernel_inception_distance"],
        "metrics.paired": ["compare_distances", "compare_images"],
        "metrics.precision_recall": ["precision_recall"],
        "metrics.psnr_ssim": ["psnr", "ssim"],
    },
)
