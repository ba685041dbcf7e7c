# SPDX-License-Identifier: Apache-2.0
"""Images to train on and to measure with: procedural scenes, bundled photographs, data sets, and mixtures of them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "crop": ["adm_crop"],
        "dataset": ["ImageDataset", "Sample"],
        "errors": ["DatasetError"],
        "fingerprints": ["captions_fingerprint", "images_fingerprint"],
        "images": ["Folder", "Images"],
        "loading": ["caption_rows", "open_captioned", "open_dataset"],
        "mixture": ["Mixture"],
        "order": ["epoch_index"],
    },
)
