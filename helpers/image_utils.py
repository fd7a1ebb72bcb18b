"""Pictures in and out: image files to RGB pictures, pictures to normalized tensors, and back."""

import contextlib
import io
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from helpers.errors import CannotError
from helpers.memory import available_bytes, resized_size

# Mean and standard deviation of ImageNet's channels, pixels in [0, 1]. All torchvision networks are trained with them.
SQUEEZENET_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
SQUEEZENET_STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def mean_and_std(like: Tensor) -> tuple[Tensor, Tensor]:
    """SQUEEZENET_MEAN and SQUEEZENET_STD as (3, 1, 1) tensors of the precision and on the device of `like`."""
    mean, std = (torch.as_tensor(v).to(like)[:, None, None] for v in (SQUEEZENET_MEAN, SQUEEZENET_STD))
    return mean, std


def preprocess(img: Image.Image | np.ndarray, size: int | tuple[int, int] = 224) -> Tensor:
    """A picture -> a normalized tensor (1, 3, H, W): (pixel / 255 - MEAN) / STD.

    `size` is the length of the shorter side (the other follows), or (H, W). Resizing is bilinear with
    antialiasing.
    """
    img = Image.fromarray(img) if isinstance(img, np.ndarray) else img
    img = resize(img.convert("RGB"), size)
    pixels = (np.asarray(img, dtype=np.float32) / 255 - SQUEEZENET_MEAN) / SQUEEZENET_STD
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def deprocess(tensor: Tensor, should_rescale: bool = False) -> Image.Image:
    """The inverse of `preprocess`: (1, 3, H, W) or (3, H, W), normalized -> RGB picture.

    Pixels outside [0, 1] are clipped, so the picture shows the values that were optimized; with `should_rescale`
    all pixels are stretched to [0, 1] instead. Raises CannotError for NaN and infinity.
    """
    img = tensor.detach().float().cpu()
    if not img.isfinite().all():
        raise CannotError(
            "the picture holds NaN or infinity: choose smaller weights or a lower learning rate"
        )
    pixels = (img[0] if img.dim() == 4 else img).permute(1, 2, 0).numpy() * SQUEEZENET_STD + SQUEEZENET_MEAN
    pixels = rescale(pixels) if should_rescale else pixels.clip(0, 1)
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def rescale(x: np.ndarray) -> np.ndarray:
    """x stretched to [0, 1]: its minimum becomes 0, its maximum 1. An x of one value becomes 0."""
    low, high = x.min(), x.max()
    return (x - low) / (high - low) if high > low else np.zeros_like(x)


def resize(img: Image.Image, size: int | tuple[int, int]) -> Image.Image:
    """Shorter side to `size`, keeping the aspect ratio; or exactly to (H, W)."""
    if isinstance(size, int):
        size = resized_size(img.size, size)[::-1]
    target = (size[1], size[0])
    return img if img.size == target else img.resize(target, Image.Resampling.BILINEAR)


def square(img: Image.Image, size: int = 224) -> Image.Image:
    """The centre of the picture as a square of `size` pixels, the input of a classifier: the shorter side is resized to
    8/7 of `size`, then the centre is cropped (torchvision's 256 and 224).
    """
    width, height = img.size
    # The ends of a very long picture are cropped first: they need not be resized.
    long = 4 * min(width, height)
    if max(width, height) > long:
        left, top = max(0, (width - long) // 2), max(0, (height - long) // 2)
        img = img.crop((left, top, min(width, left + long), min(height, top + long)))
    img = resize(img, round(size * 8 / 7))
    left, top = round((img.width - size) / 2), round((img.height - size) / 2)
    return img.crop((left, top, left + size, top + size))


# Formats of photos. Pillow knows others, some of which run another program (EPS) or are hardly ever tested.
DECODED = 12  # bytes per pixel while a picture is read and converted: three copies
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF", "JPEG2000", "MPO")


def open_untrusted(path: Path, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Any file -> the picture in it, loaded. Raises CannotError, in one line, where it is missing, not readable, no
    picture in one of the formats, cut short, damaged, or too large.
    """
    try:
        if path.is_dir():
            raise CannotError(f"{path} is a folder, not an image file")
        if path.exists() and not path.is_file():
            raise CannotError(f"{path} is not a regular file")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CannotError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise CannotError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise CannotError(f"{path} is empty")
    if not set(formats) <= Image.OPEN.keys():
        Image.init()
    try:
        with warnings.catch_warnings():
            # No warning for a large photo: Pillow raises an error at twice the size that it warns of.
            warnings.simplefilter("ignore")
            img = Image.open(io.BytesIO(data), formats=[name for name in formats if name in Image.OPEN])
            needed = DECODED * img.width * img.height
            if needed > (available_bytes(torch.device("cpu")) or math.inf):
                raise CannotError(
                    f"{path} has {img.width} x {img.height} pixels, and reading them needs about "
                    f"{needed / 2**30:.1f} GB of memory, more than is free: make it smaller first"
                )
            img.load()
            return img
    except UnidentifiedImageError as error:
        raise CannotError(
            f"{path} is not an image file of a format read here ({', '.join(formats)})"
        ) from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise CannotError(f"{path} has more than {limit} million pixels: make it smaller first") from error
    except (CannotError, MemoryError):
        raise
    except Exception as error:  # the readers of damaged files raise whatever they meet
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise CannotError(
                f"{path} is incomplete, the end of the file is missing: copy it again"
            ) from error
        raise CannotError(f"{path} is damaged: {error or type(error).__name__}") from error


def read_image(path: str | os.PathLike) -> Image.Image:
    """Any image file -> an upright RGB picture in sRGB.

    EXIF orientation is applied, an embedded colour profile is converted to sRGB, transparent pixels become white, and
    16-bit and floating-point greys become 8-bit. Raises CannotError, in one line, for anything else.
    """
    return to_rgb(upright(open_untrusted(Path(path))))


def upright(img: Image.Image) -> Image.Image:
    """The picture turned as its Exif data say; as it is where these are damaged."""
    with contextlib.suppress(Exception):
        return ImageOps.exif_transpose(img)
    return img


def read_alpha(path: str | os.PathLike) -> Image.Image | None:
    """The transparency of an image file that `read_image` can read, upright, as greys (255 is opaque); None if all
    pixels are opaque.
    """
    img = open_untrusted(Path(path))
    if not img.has_transparency_data:
        return None
    alpha = upright(img).convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == 255 else alpha


def to_rgb(img: Image.Image) -> Image.Image:
    """A picture in any of Pillow's modes -> 8-bit RGB in sRGB, on white where it is transparent."""
    if img.mode.startswith("I;16") or img.mode in ("I", "F"):
        return Image.fromarray(_eight_bits(np.asarray(img))).convert("RGB")
    profile = img.info.get("icc_profile")
    if "transparency" in img.info or img.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        img = img.convert("RGBA")
        alpha = img.getchannel("A")
        opaque = _srgb(img.convert("RGB"), profile)
        return Image.composite(opaque, Image.new("RGB", img.size, "white"), alpha)
    return _srgb(img, profile)


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if np.issubdtype(pixels.dtype, np.integer):
        # Cameras store 10, 12 or 14 bits in 16: white is the largest number of the fewest bits that fit.
        largest = int(pixels.max())
        white = next((2**bits - 1 for bits in (8, 10, 12, 14, 16) if largest < 2**bits), largest)
        scale = 255.0 / white
    else:  # floating-point greys are in [0, 1] or in [0, 255]
        pixels = np.nan_to_num(pixels, posinf=0.0, neginf=0.0)
        scale = 255.0 if pixels.max() <= 1.0 else 1.0
    return (pixels * scale).round().clip(0, 255).astype(np.uint8)


def _srgb(img: Image.Image, profile: bytes | None) -> Image.Image:
    if profile and img.mode in ("RGB", "CMYK", "L"):
        # With a broken profile, the pixels are used as they are.
        with contextlib.suppress(ImageCms.PyCMSError, OSError, TypeError, ValueError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(img, source, srgb, outputMode="RGB")
            assert converted is not None  # None only if it converts in place
            return converted
    return img.convert("RGB")
