"""Pictures in files: read with care for whatever they are, written whole or not at all."""

import io
import os
import stat
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from utils.errors import ConfigError, DataError
from utils.files import put

__all__ = ["read_image", "to_tensor", "write_image"]

# Pillow goes by content, not by name; without this list a file called cat.jpg could start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP"}


def read_image(path: str, mode: str = "RGB") -> Image.Image:
    """The picture in a file, turned upright as its EXIF data say, in a Pillow mode.

    Of an animation it is the first frame. Raises DataError, with the path, for whatever cannot be read.
    """
    try:
        _check_regular(path)
        with Image.open(path, formats=FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)  # loads the pixels first
            return _as_mode(image, mode)
    except UnidentifiedImageError:
        reason = f"its content is none of {', '.join(FORMATS)}"
    except Exception as error:
        reason = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    raise DataError(f"cannot read the picture {path} ({reason}); remove it or replace it")


def to_tensor(image: Image.Image) -> Tensor:
    """The picture as float32 [C, H, W] in [0, 1]."""
    pixels = torch.from_numpy(np.array(image))
    return (pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None]).float().div_(255)


def write_image(path: str | Path, pixels: Tensor | np.ndarray) -> None:
    """Write a picture [C, H, W] or [H, W], uint8 or floats in [0, 1], C = 1 or 3, in the format of the suffix.

    Raises ConfigError for a suffix that is no picture's or a folder, StorageError when it cannot be written.
    """
    kind = WRITTEN.get(Path(path).suffix.lower())
    if kind is None or Path(path).is_dir():
        raise ConfigError(f"{path} is no name for a picture; it must end in {', '.join(WRITTEN)}")
    if isinstance(pixels, Tensor):
        pixels = (pixels.float() if pixels.is_floating_point() else pixels).detach().cpu().numpy()
    array = np.asarray(pixels)
    if np.issubdtype(array.dtype, np.floating):
        array = (np.nan_to_num(array).clip(0, 1) * 255).round()
    array = array.astype(np.uint8)
    if array.ndim == 3:
        array = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=kind)
    put(Path(path), buffer.getvalue())


def _check_regular(path: str) -> None:
    """Pillow would wait for ever on a pipe."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    if status.st_size == 0:
        raise OSError("the file is empty")


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image  # convert() would copy it
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would cut off at 255 and leave a white picture
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the way that Pillow's own warning recommends
    return image.convert(mode)
