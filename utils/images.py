"""Pictures in files: read safely whatever their content is, and written completely or not at all."""

import functools
import importlib
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from utils.errors import ConfigError, PictureError
from utils.files import Stored, content, write_atomic

if TYPE_CHECKING:
    from torch import Tensor  # imported where it is used: the dashboard needs no torch

__all__ = [
    "DENSITY",
    "FORMATS",
    "Region",
    "cut",
    "read_image",
    "read_palette",
    "read_region",
    "read_size",
    "read_values",
    "to_tensor",
    "upright_size",
    "write_image",
]

# Pillow goes by content, not by name. Without this list, a file called cat.jpg could start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}
REDUCTIONS = (8, 4, 2)  # a JPEG can be decoded at one of these parts of its size
# pixels of a reduced picture for each pixel of the result; the filter of a full resize blurs more than that
DENSITY = 0.8
APP1, SCAN = b"\xff\xe1", b"\xff\xda"  # marks in a JPEG: EXIF and XMP data, the start of the pixels
ORIENTATION = 0x0112  # the EXIF tag; 1: upright
TURNED = (5, 6, 7, 8)  # orientations that swap width and height


class Region(NamedTuple):
    """A region of a picture: a box (left, top, right, bottom), shown at a size (width, height), mirrored or not."""

    box: tuple[float, ...]
    size: tuple[int, int]
    across: bool = False
    down: bool = False


def read_image(
    path: str | Stored, mode: str = "RGB", opened: Callable[[Image.Image], object] = lambda image: None
) -> Image.Image:
    """Return the picture in a file in a Pillow mode, turned upright by its EXIF data.

    An animation gives its first frame. `opened` is called with the picture before its pixels are read. Raises
    PictureError, with the path, for anything that cannot be read.
    """
    try:
        with _opened(path) as image:
            opened(image)
            ImageOps.exif_transpose(image, in_place=True)  # loads the pixels first
            return _as_mode(image, mode)
    except Exception as error:
        reason = _reason(error)
    raise PictureError(str(path), reason)


def _reason(error: Exception) -> str:
    """Return why a picture cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        return f"its content is none of {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return f"it has more than {most} million pixels, which take gigabytes of memory; make it smaller"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())


def read_values(path: str | Stored, colours: bool = False) -> np.ndarray:
    """Return the values in a file exactly as they are stored: whole numbers [H, W], of colours uint8 [H, W, 3].

    A palette gives its numbers, unless its colours are grey values or `colours` are asked for; black and white are 0
    and 255. With `colours` grey values are colours, too. Raises DataError, with the path, for a file that cannot be
    read, and for numbers that are not whole.
    """
    try:
        with _opened(path) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _exact(image, colours)
    except Exception as error:
        reason = _reason(error)
    raise PictureError(str(path), reason)


def _exact(image: Image.Image, colours: bool) -> np.ndarray:
    """Return the values of a picture: whole numbers [H, W], or uint8 [H, W, 3]."""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if not np.array_equal(values, np.floor(values)):
            raise ValueError("its numbers are not whole")
        values = values.astype(np.int64)
        return np.repeat(values[:, :, None], 3, 2).clip(0, 255).astype(np.uint8) if colours else values
    if image.mode in ("LA", "RGBA") and len(image.getchannel("A").getcolors() or [0, 0]) > 1:
        raise ValueError("a part of it is transparent, which has no meaning for values; save it without transparency")
    if image.mode == "P" and not colours and not _grey_palette(image):
        return np.asarray(image)
    rgb = np.asarray(image.convert("RGB"))
    grey = bool((rgb == rgb[:, :, :1]).all())
    return rgb if colours or not grey else rgb[:, :, 0]


def _grey_palette(image: Image.Image) -> bool:
    """Return whether all colours of a palette, used or not, are grey: a class of other masks may be coloured."""
    colours = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def read_palette(path: str | Stored) -> list[list[int]]:
    """Return the colours [red, green, blue] of a file's palette; none without one, or where all of them are grey.

    Raises as `read_image` does.
    """
    try:
        with _opened(path) as image:
            plain = image.mode != "P" or _grey_palette(image)
            return [] if plain else np.asarray(image.getpalette("RGB")).reshape(-1, 3).tolist()
    except Exception as error:
        reason = _reason(error)
    raise PictureError(str(path), reason)


def read_size(path: str | Stored) -> tuple[int, int]:
    """Return width and height of a file's picture when it is upright, from its header alone.

    Raises as `read_image` does.
    """
    try:
        with _opened(path) as image:
            return upright_size(image)
    except Exception:
        return read_image(path).size  # or raise its error


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of a picture that was opened, when it is upright."""
    width, height = image.size
    return (height, width) if image.getexif().get(ORIENTATION, 1) in TURNED else (width, height)


def read_region(path: str | Stored, choose: Callable[[int, int], Region]) -> np.ndarray:
    """Return the region of the picture in a file that `choose(width, height)` returns, as uint8 [H, W, 3].

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size, if the box then still has 0.8 pixels for each pixel of the result.
    simplejpeg decodes it if it is installed, with the same values. Raises DataError as `read_image` does.
    """
    try:
        found = _read_jpeg(path.data if isinstance(path, Stored) else content(Path(path)), choose)
    except Exception:  # read_image accepts the file, or reports its fault
        found = None
    if found is None:
        image = read_image(path)
        return cut(image, choose(*image.size))
    return found


def cut(image: Image.Image, region: Region, whole: tuple[int, int] | None = None) -> np.ndarray:
    """Return a region as uint8 [H, W, C], C at most 3, antialiased and bilinear; `whole` is the size it counts in."""
    width, height = image.size
    across, down = (width / whole[0], height / whole[1]) if whole else (1, 1)
    left, top, right, bottom = region.box
    # rounding may exceed the border
    box = (left * across, top * down, min(right * across, width), min(bottom * down, height))
    if box != (0, 0, width, height) and all(map(float.is_integer, map(float, box))):
        image, box = image.crop(box), (0, 0, box[2] - box[0], box[3] - box[1])
    part = image if image.size == region.size == box[2:] else image.resize(region.size, Image.Resampling.BILINEAR, box)
    pixels = np.frombuffer(part.tobytes(), np.uint8).reshape(part.height, part.width, -1)
    return pixels[:: -1 if region.down else 1, :: -1 if region.across else 1, :3]


def _read_jpeg(data: bytes, choose: Callable[[int, int], Region]) -> np.ndarray | None:
    """Return the region of a JPEG; None for any other file, and for a JPEG that must be turned."""
    if data[:2] != b"\xff\xd8":
        return None
    tagged = APP1 in data[: data.find(SCAN)]
    if not tagged and (found := _read_by_simplejpeg(data, choose)) is not None:
        return found
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if image.format != "JPEG" or (tagged and image.getexif().get(ORIENTATION, 1) != 1):
        return None
    whole = image.size
    region = choose(*whole)
    image.draft("RGB", _reduced(whole, region))
    return cut(_as_mode(image, "RGB"), region, whole)


def _read_by_simplejpeg(data: bytes, choose: Callable[[int, int], Region]) -> np.ndarray | None:
    """Return the region; None without simplejpeg, and for a file that Pillow may read differently."""
    library = _simplejpeg()
    if library is None:
        return None
    try:
        height, width, colours, _ = library.decode_jpeg_header(data)
        if colours != "YCbCr" or width * height > (Image.MAX_IMAGE_PIXELS or width * height):
            return None
        region = choose(width, height)
        w, h = _reduced((width, height), region)
        least = {} if (w, h) == (width, height) else {"min_width": w, "min_height": h, "min_factor": 1}
        pixels = library.decode_jpeg(data, "RGBX", **least)  # Pillow's memory layout, so that nothing is copied
    except ValueError:  # simplejpeg's error for a damaged file
        return None
    image = Image.frombuffer("RGBX", pixels.shape[1::-1], pixels, "raw", "RGBX", 0, 1)
    return cut(image, region, (width, height))


@functools.cache
def _simplejpeg() -> Any:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _reduced(whole: tuple[int, int], region: Region) -> tuple[int, int]:
    """Return the size at which to decode, so that the box has enough pixels for the result."""
    left, top, right, bottom = region.box
    most = min((right - left) / region.size[0], (bottom - top) / region.size[1])
    factor = next((factor for factor in REDUCTIONS if factor * DENSITY <= most), 1)
    return max(whole[0] // factor, 1), max(whole[1] // factor, 1)


def to_tensor(image: Image.Image) -> "Tensor":
    """Return the picture as float32 [C, H, W] in [0, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(image))
    return (pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None]).float().div_(255)


def write_image(path: str | Path, pixels: "Tensor | np.ndarray") -> None:
    """Write a picture [C, H, W] or [H, W], uint8 or floats in [0, 1], C = 1 or 3, in the format of the suffix.

    Raises ConfigError for a folder, or a suffix without a picture format, and StorageError when it cannot be written.
    """
    kind = WRITTEN.get(Path(path).suffix.lower())
    if kind is None or Path(path).is_dir():
        raise ConfigError(f"{path} is no name for a picture; it must end in {', '.join(WRITTEN)}")
    if not isinstance(pixels, np.ndarray):
        pixels = (pixels.float() if pixels.is_floating_point() else pixels).detach().cpu().numpy()
    array = np.asarray(pixels)
    if np.issubdtype(array.dtype, np.floating):
        array = (np.nan_to_num(array).clip(0, 1) * 255).round()
    wide = array.dtype.kind in "iu" and array.ndim == 2 and array.size and 255 < array.max() < 65536
    array = array.astype(np.uint16 if wide else np.uint8)  # the values of masks may have 16 bits
    if array.ndim == 3:
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=kind)
    write_atomic(Path(path), buffer.getvalue())


def _opened(path: str | Stored) -> Image.Image:
    """Open a picture. Raises OSError for a file that is empty or not regular: Pillow would wait for ever on a pipe."""
    if isinstance(path, str) and not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("it is not a regular file")
    if not (len(path.data) if isinstance(path, Stored) else os.stat(path).st_size):
        raise OSError("the file is empty")
    return Image.open(io.BytesIO(path.data) if isinstance(path, Stored) else path, formats=FORMATS)


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image  # convert() would copy it
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip at 255 and leave a white picture
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the way that Pillow's own warning recommends
    return image.convert(mode)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Return the values of a picture of more bits as uint8, by the range of its format.

    Raises ValueError for values outside of it.
    """
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (low >= 0 and high <= 255):
            raise ValueError(f"it holds numbers from {low:g} to {high:g}; save it with 8 or 16 bits a pixel")
        return (values * 255 if high <= 1 else values).round().astype(np.uint8)
    if low < 0 or high > 65535:
        raise ValueError(f"it holds numbers from {low} to {high}; save it with 8 or 16 bits a pixel")
    return values.astype(np.uint8) if values.dtype.itemsize > 2 and high <= 255 else (values >> 8).astype(np.uint8)
