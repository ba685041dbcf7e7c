# SPDX-License-Identifier: Apache-2.0
"""Decode image files to RGB, by fixed rules.

- Greyscale and black-and-white images get three equal channels; palettes are looked up.
- CMYK becomes RGB by Pillow's formula, without a colour profile, as in every loader built on it.
- Transparent pixels follow the data set's rule (``transparency`` of its entry).
- More than 8 bits per channel and animations are refused, rather than cutting bits or taking the first frame silently.
- EXIF orientation and embedded colour profiles are not applied: published protocols do neither. Pillow applies the
  orientation of TIFF files, which is part of their format.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from dcae.data.storage.files import DatasetError

# The formats that Pillow may try, whatever the file's name; some of its other readers start programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ORIENTATION = 0x0112  # EXIF tag

Transparency = Literal["refuse", "drop", "white", "black"]


@dataclass(frozen=True)
class Header:
    """An image file's header, read without decoding pixels."""

    width: int
    height: int
    mode: str  # as Pillow names it
    deep: bool  # more than 8 bits per channel
    animated: bool
    transparency: bool  # an alpha channel or a transparent colour
    orientation: int  # EXIF; 1 is upright, also without EXIF data or where a PNG file has it behind its pixels


def read_header(data: bytes, where: str) -> Header:
    """Read the header of an image file.

    Args:
        data: the file's content or its beginning.
        where: name of the file, for errors.

    Raises:
        DatasetError: it cannot be read as an image.
    """
    with _opened(data, where) as image:
        return _header(image)


def decode(data: bytes, where: str, transparency: Transparency = "refuse") -> Image.Image:
    """Return the image in RGB, in its stored orientation.

    Args:
        data: the file's content.
        where: name of the file, for errors.
        transparency: "refuse" images with transparent pixels, "drop" the alpha channel (as torchvision, which shows
            the colours under transparent pixels), or composite over "white" or "black".

    Raises:
        DatasetError: the file is damaged or refused; names it and says what to do.
    """
    with _opened(data, where) as image:
        header = _header(image)
        if header.deep:
            raise DatasetError(f"{where}: has more than 8 bits per channel (mode {header.mode}); convert it to 8 bits")
        if header.animated:
            raise DatasetError(f"{where}: is an animation or has several pages; save it as a single image")
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
        # MPO: photographs of telephones with a second exposure or a depth map; the first image is the photograph.
        animated=bool(getattr(image, "is_animated", False)) and image.format != "MPO",
        transparency=image.has_transparency_data,
        orientation=_orientation(image),
    )


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode the whole image to find it
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF data, as some photographs of ImageNet have
        orientation = image.getexif().get(ORIENTATION, 1)
    return orientation if isinstance(orientation, int) else 1


def _is_deep(image: Image.Image) -> bool:
    """Return whether there are more than 8 bits per channel, which Pillow cuts to 8 in colour images without a sign."""
    arguments = [each for _, _, _, args in image.tile for each in (args if isinstance(args, tuple) else (args,))]
    raw_modes = (each for each in arguments if isinstance(each, str))
    maxima = (each for each in arguments if isinstance(each, int)) if image.format == "PPM" else ()
    return (
        image.mode.startswith(("I", "F"))
        or any(re.search(r";(12|16|32)", raw) for raw in raw_modes)
        or any(maximum > 255 for maximum in maxima)
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
