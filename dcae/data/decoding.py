# SPDX-License-Identifier: Apache-2.0
"""Decode image files to RGB, by fixed rules.

- Greyscale and black-and-white images get three equal channels; palettes are looked up.
- CMYK becomes RGB by Pillow's formula, without a colour profile, as in every loader built on it.
- Transparent pixels follow the dataset's rule (``transparency`` of its entry).
- More than 8 bits per channel and animations are refused, rather than cutting bits or taking the first frame silently.
- Camera raw files are refused by their ending: Pillow would return the small preview inside.
- A JPEG file without an end marker, whose tail was lost, follows the dataset's rule (``incomplete`` of its entry).
- More than 179 million pixels are refused, as by Pillow, and images more than 100 times as long as wide.
- EXIF orientation and embedded colour profiles are not applied: published protocols do neither. Pillow applies the
  orientation of TIFF files, which is part of their format.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from dcae.data.storage.files import OTHER_IMAGE_ENDINGS, RAW_ENDINGS, DatasetError

# The formats that Pillow may try, whatever the file's name; some of its other readers start programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ORIENTATION = 0x0112  # EXIF tag
LONGEST = 100  # times the short side; a crop of a longer image shows next to nothing of it

# The beginning of files of other formats, to name them.
OTHER_FORMATS = {
    "AVIF": rb"....ftypavi",
    "HEIC": rb"....ftyp(hei|hev|mif|msf)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "Photoshop": rb"8BPS",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "SVG": rb"\s*(<\?xml[^<]*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg\b",
}

Transparency = Literal["refuse", "drop", "white", "black"]
Incomplete = Literal["refuse", "keep"]


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
    with _reading(data, where) as image:
        return _header(image)


def decode(
    data: bytes, where: str, transparency: Transparency = "refuse", incomplete: Incomplete = "refuse"
) -> Image.Image:
    """Return the image in RGB, in its stored orientation.

    Args:
        data: the file's content.
        where: name of the file, for errors.
        transparency: "refuse" images with transparent pixels, "drop" the alpha channel (as torchvision, which shows
            the colours under transparent pixels), or composite over "white" or "black".
        incomplete: "refuse" JPEG files without an end marker, or "keep" what their decoder makes of them.

    Raises:
        DatasetError: the file is damaged or refused; names it and says what to do.
    """
    with _reading(data, where) as image:
        header = _header(image)
        if header.deep:
            raise DatasetError(f"{where}: has more than 8 bits per channel (mode {header.mode}); convert it to 8 bits")
        if header.animated:
            raise DatasetError(f"{where}: is an animation or has several pages; save it as a single image")
        if max(image.size) > LONGEST * min(image.size):
            raise DatasetError(
                f"{where}: is {header.width} x {header.height} px, more than {LONGEST} times as long as wide; cut it"
            )
        if incomplete == "refuse" and lacks_end(data):
            raise DatasetError(
                f"{where}: is incomplete (a JPEG without an end marker); replace or remove the file, or set "
                "`incomplete: keep` in the dataset's entry"
            )
        layered = image.convert("RGBA") if header.transparency else None
        without_alpha = image.convert("RGB")
    return without_alpha if layered is None else _by_rule(without_alpha, layered, where, transparency)


def lacks_end(data: bytes) -> bool:
    """Return whether a JPEG file has no end marker behind its pixels, as when its tail is missing or was overwritten.

    Segments before the pixels are passed over, since the preview of a photograph has a marker of its own.
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    position = 2
    while data[position : position + 1] == b"\xff":
        marker = data[position + 1]
        if marker == 0xDA:  # within the pixels, 0xff never comes before 0xd9
            return data.find(b"\xff\xd9", position) < 0
        # Fill bytes stand alone; other segments have their length.
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if position + 1 >= len(data):
            break
    return False  # no pixels; the decoder says what is wrong


@contextmanager
def _reading(data: bytes, where: str) -> Iterator[Image.Image]:
    """Open an image; any error while it is open becomes a ``DatasetError`` that names the file.

    Pillow's readers raise errors of many types for damaged files, and warn without naming the file.
    """
    if not data:
        raise DatasetError(f"{where}: cannot be read as an image (the file is empty); replace or remove it")
    if where.lower().endswith(RAW_ENDINGS):
        raise DatasetError(f"{where}: camera raw files are not read; convert it to PNG or JPEG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                yield image
    except DatasetError:
        raise
    except Image.DecompressionBombError as error:
        raise DatasetError(
            f"{where}: has too many pixels (more than {2 * Image.MAX_IMAGE_PIXELS:,}); scale it down"
        ) from error
    except MemoryError as error:
        raise DatasetError(f"{where}: needs more memory than there is; scale it down") from error
    except Exception as error:
        raise _unreadable(data, where, error) from error


def _unreadable(data: bytes, where: str, error: Exception) -> DatasetError:
    other = [name for name, beginning in OTHER_FORMATS.items() if re.match(beginning, data[:1000], re.DOTALL)]
    other += [ending for ending in OTHER_IMAGE_ENDINGS if where.lower().endswith(ending)]
    if other:
        return DatasetError(f"{where}: is {other[0]}, a format that is not read; convert it to PNG or JPEG")
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
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data, as some photographs of ImageNet have: errors of many types
        return 1
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
            f"{where}: has transparent pixels; give the dataset's entry a rule "
            "(`transparency`: drop, white or black), or replace the file"
        )
    return Image.alpha_composite(Image.new("RGBA", layered.size, transparency), layered).convert("RGB")
