# SPDX-License-Identifier: Apache-2.0
"""From the bytes of an image file to RGB, by rules that have names.

- Grey and black-and-white images get three equal channels; palettes are looked up.
- CMYK becomes RGB by Pillow's formula, without a colour profile, as in every loader built on it.
- Transparent pixels follow the data set's rule (``transparency`` of its entry). Without any, alpha is dropped.
- More than 8 bits per channel and animations are refused: bits cut off, or the first picture taken, would be silent.
- An orientation in EXIF data is not applied, and embedded colour profiles are not: published protocols do neither. The
  orientation of a TIFF file is part of its format, which Pillow applies.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from dcae.data.errors import DatasetError

# What Pillow may take a file for, whatever its name; some of its other readers start programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ORIENTATION = 0x0112  # EXIF tag

Transparency = Literal["refuse", "drop", "white", "black"]


@dataclass(frozen=True)
class Header:
    """What a file says about its image before any pixel is decoded."""

    width: int
    height: int
    mode: str  # as Pillow names it
    deep: bool  # more than 8 bits per channel
    animated: bool
    transparency: bool  # an alpha channel, or a colour that counts as transparent
    orientation: int  # 1: upright, as without EXIF data, or where a PNG file has it behind its pixels


def read_header(data: bytes, where: str) -> Header:
    """The header of an image file.

    Args:
        data: the file's content, or its beginning.
        where: the file, for errors.

    Raises:
        DatasetError: it is no image file that can be read.
    """
    with _opened(data, where) as image:
        return _header(image)


def decode(data: bytes, where: str, transparency: Transparency = "refuse") -> Image.Image:
    """The image in RGB, as its pixels are stored.

    Args:
        data: the file's content.
        where: the file, for errors.
        transparency: refuse images with a transparent pixel, drop the alpha channel (which shows the colours that
            transparent pixels have underneath, as torchvision does), or lay the image over white or black.

    Raises:
        DatasetError: the file is damaged, or of a kind that is refused; names it and what to do.
    """
    with _opened(data, where) as image:
        header = _header(image)
        if header.deep:
            raise DatasetError(f"{where}: has more than 8 bits per channel (mode {header.mode}); convert it to 8 bits")
        if header.animated:
            raise DatasetError(f"{where}: is an animation or has several pages; save the one picture that is meant")
        try:
            without_alpha = image.convert("RGB")
            layered = image.convert("RGBA") if header.transparency else None
        except Exception as error:  # Pillow's decoders raise errors of many types
            raise _unreadable(where, error) from error
    return without_alpha if layered is None else _by_rule(without_alpha, layered, where, transparency)


def _opened(data: bytes, where: str) -> Image.Image:
    if not data:
        raise DatasetError(f"{where}: cannot be read as an image (the file is empty); replace or remove it")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow's readers raise errors of many types
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> DatasetError:
    reason = re.sub(r" <_io\.BytesIO[^>]*>", "", str(error)) or type(error).__name__
    return DatasetError(f"{where}: cannot be read as an image ({reason}); replace or remove the file")


def _header(image: Image.Image) -> Header:
    return Header(
        *image.size,
        image.mode,
        deep=_is_deep(image),
        # A photograph of a telephone may carry a second one, of another exposure or depth; the first is the photograph.
        animated=bool(getattr(image, "is_animated", False)) and image.format != "MPO",
        transparency=image.has_transparency_data,
        orientation=_orientation(image),
    )


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode the whole image to look for it
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF data, as some photographs of ImageNet have
        orientation = image.getexif().get(ORIENTATION, 1)
    return orientation if isinstance(orientation, int) else 1


def _is_deep(image: Image.Image) -> bool:
    """More than 8 bits per channel; Pillow itself cuts those of colour images to 8 and tells it only to its decoder."""
    told = [each for _, _, _, args in image.tile for each in (args if isinstance(args, tuple) else (args,))]
    raw_modes = (each for each in told if isinstance(each, str))
    levels = (each for each in told if isinstance(each, int)) if image.format == "PPM" else ()  # of the brightest
    return (
        image.mode.startswith(("I", "F"))
        or any(re.search(r";(12|16|32)", raw) for raw in raw_modes)
        or any(level > 255 for level in levels)
    )


def _by_rule(without_alpha: Image.Image, layered: Image.Image, where: str, transparency: Transparency) -> Image.Image:
    least, _ = layered.getchannel("A").getextrema()
    if least == 255 or transparency == "drop":
        return without_alpha
    if transparency == "refuse":
        raise DatasetError(
            f"{where}: has transparent pixels; give the data set's entry a rule "
            "(`transparency`: drop, white or black), or replace the file"
        )
    return Image.alpha_composite(Image.new("RGBA", layered.size, transparency), layered).convert("RGB")
