# SPDX-License-Identifier: Apache-2.0
"""Files that are no plain RGB images: each kind follows its rule or is refused, and none passes in silence."""

import io
import resource
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dcae.data.decoding import decode, lacks_end, read_header
from dcae.data.storage.files import DatasetError

GRADIENT = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes, **options) -> np.ndarray:
    return np.asarray(decode(data, "file", **options))


def deep_colour_png() -> bytes:
    """Two pixels of 16-bit RGB, which Pillow reads but does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">6H", 1, 2, 3, 40000, 50000, 60000)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def half_transparent() -> Image.Image:
    image = Image.new("RGBA", (4, 2), (200, 100, 50, 255))
    image.paste((10, 20, 30, 0), (2, 0, 4, 2))
    return image


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_is_repeated_in_three_channels(mode):
    image = Image.fromarray(GRADIENT).convert(mode)
    expected = np.asarray(image.convert("L"))
    for channel in range(3):
        np.testing.assert_array_equal(pixels(saved(image))[..., channel], expected)


def test_palettes_are_looked_up():
    image = Image.fromarray(GRADIENT).convert("RGB").quantize(16)
    np.testing.assert_array_equal(pixels(saved(image)), np.asarray(image.convert("RGB")))


def test_cmyk_becomes_rgb_by_pillows_formula():
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    assert abs(pixels(saved(cyan, "JPEG", quality=95))[0, 0].astype(int) - [0, 255, 255]).max() <= 3  # JPEG's loss


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_without_transparency_is_left_out(mode):
    image = Image.fromarray(GRADIENT).convert(mode)
    np.testing.assert_array_equal(pixels(saved(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("rule", "colour"), [("white", (255, 255, 255)), ("black", (0, 0, 0)), ("drop", (10, 20, 30))])
def test_transparent_pixels_follow_the_rule(rule, colour):
    found = pixels(saved(half_transparent()), transparency=rule)
    assert tuple(found[0, 0]) == (200, 100, 50) and tuple(found[0, 3]) == colour


def transparent_palette() -> bytes:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    return saved(image, transparency=1)


@pytest.mark.parametrize(
    "data", [saved(half_transparent()), saved(half_transparent().convert("LA")), transparent_palette()],
    ids=["RGBA", "LA", "P"],
)  # fmt: skip
def test_without_a_rule_transparent_pixels_are_refused(data):
    with pytest.raises(DatasetError, match=r"^file: has transparent pixels; .*`transparency`: drop, white or black"):
        decode(data, "file")


def test_a_half_transparent_pixel_is_mixed_with_what_lies_below():
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert abs(pixels(saved(image), transparency="white").astype(int) - 127).max() <= 1  # rounding


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.fromarray(np.full((4, 4), 40000, np.uint16))),
        saved(Image.fromarray(np.full((4, 4), 40000, np.int32)), "TIFF"),
        saved(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"),
        deep_colour_png(),
    ],
    ids=["grey PNG", "integer TIFF", "float TIFF", "colour PNG"],
)
def test_more_than_eight_bits_are_refused_rather_than_cut_off(data):
    assert read_header(data, "file").deep
    with pytest.raises(DatasetError, match=r"^file: has more than 8 bits per channel"):
        decode(data, "file")


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_animations_are_refused(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert read_header(data, "file").animated
    with pytest.raises(DatasetError, match=r"^file: is an animation or has several pages"):
        decode(data, "file")


def test_the_second_picture_of_a_telephones_photograph_does_not_count():
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    data = saved(first, "MPO", save_all=True, append_images=[second])
    assert not read_header(data, "file").animated
    assert pixels(data)[0, 0, 0] > 250


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_reported_and_not_applied_but_for_tiff(kind):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    data = saved(Image.fromarray(GRADIENT[:16]).convert("RGB"), kind, exif=exif)
    assert read_header(data, "file").orientation == 6
    assert decode(data, "file").size == ((16, 32) if kind == "TIFF" else (32, 16)), "of a TIFF, Pillow applies it"


def test_a_png_named_jpeg_is_read_by_its_content():
    image = Image.fromarray(GRADIENT).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode(saved(image), "n02105855_2933.JPEG")), np.asarray(image))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image", "cannot identify image file"),
        (saved(Image.fromarray(GRADIENT), "JPEG")[:200], ""),
        (saved(Image.fromarray(GRADIENT), "BMP")[:200], ""),
        (b"GIF89a" + bytes(20), "cannot identify image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "cannot identify image file"),
    ],
    ids=["empty", "text", "half a JPEG", "half a BMP", "GIF", "PostScript, for which Pillow would start a program"],
)
def test_what_is_no_image_is_named_with_the_remedy(data, reason):
    with pytest.raises(DatasetError, match=rf"^file: cannot be read as an image \({reason}.*\); replace or remove"):
        decode(data, "file")


def test_the_header_of_an_image_is_read_without_its_pixels():
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    for kind in ("JPEG", "PNG"):
        data = saved(Image.fromarray(noise), kind)
        header = read_header(data[: len(data) // 2], "file")
        assert (header.width, header.height, header.mode, header.orientation) == (64, 32, "RGB", 1)


def valid_images() -> dict[str, bytes]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    files = {kind: saved(image, kind) for kind in ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")}
    return files | {"palette": saved(image.quantize(8), transparency=3)}


VALID = valid_images()


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(VALID)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    header=st.booleans(),
)
def test_a_damaged_image_is_decoded_or_refused_and_raises_nothing_else(kind, changes, header):
    data = bytearray(VALID[kind])
    for place, value in changes:
        data[int(place * (min(len(data), 120 if header else len(data)) - 1))] = value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of what it mends
            assert decode(bytes(data), "file").mode == "RGB"
    except DatasetError as error:
        assert str(error).startswith("file: ")


@pytest.mark.parametrize("levels", [1023, 65535])
@pytest.mark.parametrize("kind", ["P3", "P6", "P5"])
def test_deep_portable_maps_are_refused_rather_than_cut_off(kind, levels):
    """Pillow scales them to 8 bits, and says so to its decoder alone."""
    values = [0, levels // 2, levels] * (1 if kind == "P5" else 3)
    content = " ".join(map(str, values)).encode() if kind == "P3" else struct.pack(f">{len(values)}H", *values)
    data = f"{kind} 3 1 {levels}\n".encode() + content
    assert read_header(data, "file").deep
    with pytest.raises(DatasetError, match="more than 8 bits per channel"):
        decode(data, "file")


@pytest.mark.parametrize("levels", [100, 255])
def test_portable_maps_of_eight_bits_are_read(levels):
    data = f"P6 2 1 {levels}\n".encode() + bytes([0, 0, 0, levels, levels, levels])
    assert pixels(data).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_a_gif_is_read_and_an_animated_one_refused():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert tuple(pixels(saved(frames[0], "GIF"))[0, 0]) == (255, 0, 0)
    animated = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_header(animated, "file").animated
    with pytest.raises(DatasetError, match="is an animation"):
        decode(animated, "file")


# --- what users' folders hold ---


def with_exif(payload: bytes, pixels: np.ndarray = GRADIENT) -> bytes:
    """A JPEG with this as its EXIF segment."""
    data = saved(Image.fromarray(pixels), "JPEG", dpi=(72, 72))
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + data[2:]


@pytest.mark.parametrize(
    "payload", [bytes(16), b"\0\x08\0\x02\x01\x12\0\x03", b"II*\0", b"", b"Exif\0\0II*\0\x08\0\0\0\0\0"],
    ids=["zeros", "shifted", "cut", "empty", "twice"],
)  # fmt: skip
def test_damaged_exif_data_counts_as_none(payload):
    data = with_exif(b"Exif\0\0" + payload)
    assert read_header(data, "file").orientation == 1
    assert decode(data, "file").size == (32, 32)


def test_a_jpeg_whose_tail_was_overwritten_follows_the_rule():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    noise = Image.fromarray(pixels)
    preview = saved(noise.resize((16, 16)), "JPEG")  # with an end marker of its own
    previewed = with_exif(b"Exif\0\0II*\0" + preview, pixels)
    for whole in (saved(noise, "JPEG"), saved(noise, "JPEG", progressive=True), previewed):
        half = whole[: len(whole) - len(whole) // 8] + bytes(len(whole) // 8)
        assert not lacks_end(whole) and not lacks_end(whole + b"appended") and lacks_end(half)
        with pytest.raises(DatasetError, match=r"^file: is incomplete .*`incomplete: keep`"):
            decode(half, "file")
    assert decode(half, "file", incomplete="keep").mode == "RGB"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a.jpg: is HEIC, a format that is not read; convert it"),
        ("a.avif", b"\0\0\0\x18ftypavif\0\0\0\0", "a.avif: is AVIF"),
        ("a.svg", b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg width="1"/>', "a.svg: is SVG"),
        ("a.tga", bytes(18), "a.tga: is .tga, a format that is not read"),
        ("a.DNG", saved(Image.fromarray(GRADIENT), "TIFF"), "a.DNG: camera raw files are not read; convert it"),
    ],
)
def test_other_formats_are_named(name, data, message):
    with pytest.raises(DatasetError, match=f"^{message}"):
        decode(data, name)


def test_a_picture_that_is_too_large_or_too_long_says_so():
    small = saved(Image.new("RGB", (8, 8)))
    header = b"IHDR" + struct.pack(">II", 20_000, 10_000) + small[24:29]
    large = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with pytest.raises(DatasetError, match=r"^file: has too many pixels \(more than 178,956,970\); scale it down"):
        decode(large, "file")
    with pytest.raises(DatasetError, match=r"^file: is 1 x 8000 px, more than 100"):
        decode(saved(Image.new("RGB", (1, 8000))), "file")


def test_a_palette_with_transparency_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(transparent_palette(), "file", "white")


def many_kinds() -> dict[str, bytes]:
    """One valid file of each kind; JPEG, PNG and WebP with every EXIF orientation."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    image, other = Image.fromarray(noise), Image.fromarray(noise[::-1])
    files = {kind: saved(image, kind) for kind in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")}
    for kind in ("GIF", "MPO", "PNG", "TIFF", "WEBP"):
        files[f"{kind} of two"] = saved(image.copy(), kind, save_all=True, append_images=[other.copy()])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = orientation, "camera"
        kind = ("JPEG", "PNG", "WEBP")[orientation % 3]
        files[f"{kind} orientation {orientation}"] = saved(image, kind, exif=exif)
    return files | {
        "progressive": saved(image, "JPEG", progressive=True),
        "palette": saved(image.quantize(8), transparency=3),
        "CMYK": saved(image.convert("CMYK"), "JPEG"),
        "compressed TIFF": saved(image, "TIFF", compression="tiff_lzw"),
    }


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip bytes, mostly near the beginning, cut the file, swap two parts, or fill one with zeros."""
    found = bytearray(data)
    end = len(data) if rng.random() < 0.4 else min(len(data), 200)
    kind = rng.integers(5)
    start, stop = sorted(rng.integers(0, end, 2).tolist())
    if kind <= 1:
        for place in rng.integers(0, end, rng.integers(1, 8)):
            found[place] ^= rng.integers(1, 256)
    elif kind == 2:
        del found[stop:]
    elif kind == 3:
        found[start:stop] = found[stop:] + found[start:stop]
    else:
        found[start:stop] = bytes(stop - start)
    return bytes(found)


def test_two_thousand_damaged_files_are_decoded_or_refused_by_name_in_bounded_time_and_memory():
    rng, files = np.random.default_rng(0), many_kinds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for number in range(2000):
        data = damaged(files[sorted(files)[number % len(files)]], rng)
        started = time.process_time()
        for read in (decode, read_header):
            try:
                read(data, "file")
            except DatasetError as error:
                assert str(error).startswith("file: ")
                refused += read is decode
        assert time.process_time() - started < 20
    assert 400 < refused < 1900, "some damage is harmless"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3 * 2**20, "KiB"
