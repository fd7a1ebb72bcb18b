"""Any picture a user may bring is read right, or refused in one line."""

import io
import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torchvision import transforms as T

from helpers import data_utils
from helpers.data_utils import find_class, load_imagenet_val, load_images, open_image
from helpers.errors import CannotError, UsageError
from helpers.image_utils import (
    SQUEEZENET_MEAN,
    SQUEEZENET_STD,
    deprocess,
    preprocess,
    read_image,
    rescale,
    square,
)

RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))  # 48 x 64, dark to bright


def saved(tmp_path, img, name, **options):
    path = tmp_path / name
    img.save(path, **options)
    return path


def test_preprocess_is_torchvisions(photo_file):
    img = Image.open(photo_file)
    pipeline = T.Compose([T.Resize(40), T.ToTensor(), T.Normalize(SQUEEZENET_MEAN, SQUEEZENET_STD)])
    torch.testing.assert_close(preprocess(img, 40), pipeline(img)[None], rtol=1e-6, atol=1e-6)
    assert preprocess(img, (30, 50)).shape == (1, 3, 30, 50)


def test_deprocess_undoes_preprocess_and_does_not_stretch(photo_file):
    img = Image.open(photo_file)
    assert deprocess(preprocess(img, 60)).tobytes() == img.tobytes()
    grey = Image.new("RGB", (8, 8), (120, 130, 140))
    assert deprocess(preprocess(grey, 8)).getpixel((3, 3)) == (120, 130, 140)
    assert deprocess(torch.full((1, 3, 4, 4), 99.0)).getpixel((0, 0)) == (255, 255, 255)


def test_mean_and_deviation_are_published_numpy_arrays():
    for array, expected in (
        (SQUEEZENET_MEAN, [0.485, 0.456, 0.406]),
        (SQUEEZENET_STD, [0.229, 0.224, 0.225]),
    ):
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float32
        assert array.tolist() == pytest.approx(expected)


def test_rescale_maps_the_minimum_to_0_and_the_maximum_to_1():
    assert rescale(np.array([[-3.0, 1.0], [5.0, 3.0]])).tolist() == [[0.0, 0.5], [1.0, 0.75]]
    assert rescale(np.full((2, 2), 7.0)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_deprocess_stretches_when_asked():
    pixels = np.array([[-1.0, 0.0], [1.0, 3.0]], dtype=np.float32)[..., None].repeat(3, axis=2)
    normalized = torch.from_numpy((pixels - SQUEEZENET_MEAN) / SQUEEZENET_STD).permute(2, 0, 1)
    clipped, stretched = deprocess(normalized), deprocess(normalized[None], should_rescale=True)
    assert np.asarray(clipped)[..., 0].tolist() == [[0, 0], [255, 255]]
    assert np.asarray(stretched)[..., 2].tolist() == [[0, 64], [128, 255]]


def test_square_is_torchvisions_resize_and_centre_crop(photo_file):
    img = Image.open(photo_file).resize((451, 300))
    assert square(img).tobytes() == T.CenterCrop(224)(T.Resize(256)(img)).tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "1", "I;16", "I", "F", "YCbCr"])
def test_every_mode_becomes_the_right_picture(tmp_path, mode):
    grey = Image.fromarray(RAMP)
    if mode in ("I;16", "I"):
        img, name = Image.fromarray(RAMP.astype(np.uint16) * 257), "x.png"
        if mode == "I":
            img, name = Image.fromarray(RAMP.astype(np.int32) * 257), "x.tif"
    elif mode == "F":
        img, name = Image.fromarray(RAMP.astype(np.float32) / 255), "x.tif"
    else:
        img = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
        name = "x.jpg" if mode in ("CMYK", "YCbCr") else "x.png"
    read = read_image(saved(tmp_path, img, name))
    assert read.mode == "RGB"
    assert read.size == (64, 48)
    expected = np.where(RAMP > 127, 255, 0) if mode == "1" else RAMP
    difference = np.abs(np.asarray(read).astype(int) - expected[..., None])
    assert np.median(difference) <= 3
    if mode != "1":  # which is dithered
        assert difference.max() <= 12


def test_transparency_is_laid_on_white(tmp_path):
    img = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    img.putpixel((1, 1), (0, 0, 255, 255))
    read = read_image(saved(tmp_path, img, "x.png"))
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert read.getpixel((1, 1)) == (0, 0, 255)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((2, 2), 1)
    read = read_image(saved(tmp_path, palette, "p.png", transparency=0))
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert read.getpixel((2, 2)) == (0, 255, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = Image.fromarray(np.dstack([RAMP, RAMP[::-1], RAMP // 2]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    read = read_image(saved(tmp_path, stored, "x.png", exif=exif))
    assert read.tobytes() == upright.tobytes()


def test_an_embedded_profile_is_converted_to_srgb(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    img = Image.fromarray(np.dstack([RAMP] * 3))
    same = read_image(saved(tmp_path, img, "srgb.png", icc_profile=srgb))
    assert np.abs(np.asarray(same).astype(int) - np.asarray(img)).max() <= 1
    # A profile in which the file's red means blue, and its blue red.
    swapped = srgb.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    red = read_image(saved(tmp_path, Image.new("RGB", (8, 8), (255, 0, 0)), "red.png", icc_profile=swapped))
    assert np.abs(np.array(red.getpixel((4, 4))) - (0, 0, 255)).max() <= 2
    broken = read_image(saved(tmp_path, img, "broken.png", icc_profile=b"not a profile"))
    assert broken.tobytes() == img.tobytes()


def test_a_very_long_picture_is_cut_before_it_is_enlarged():
    thin = Image.new("RGB", (3000, 1), (10, 20, 30))
    thin.putpixel((1500, 0), (255, 255, 255))
    shown = square(thin)
    assert shown.size == (224, 224)
    assert np.asarray(shown).max() > 200


def test_one_pixel_is_a_picture(tmp_path):
    path = saved(tmp_path, Image.new("L", (1, 1), 200), "x.png")
    assert preprocess(read_image(path), 224).shape == (1, 3, 224, 224)
    assert square(read_image(path)).size == (224, 224)


def truncated_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        buffer, "JPEG"
    )
    return buffer.getvalue()[: buffer.tell() // 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is text, not an image", "is not an image file"),
        (b"", "is empty"),
        (truncated_jpeg(), "is incomplete"),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "is not an image file|damaged"),
    ],
    ids=["text", "empty", "truncated", "broken png"],
)
def test_what_is_no_image_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(CannotError, match=message) as caught:
        read_image(path)
    assert "x.jpg" in str(caught.value)


@pytest.mark.parametrize(("largest", "white"), [(255, 255), (900, 1023), (4095, 4095), (30000, 65535)])
def test_greys_of_more_than_eight_bits_are_scaled_by_what_they_hold(tmp_path, largest, white):
    stored = np.array([[0, largest // 2, largest]], np.uint16)
    read = np.asarray(read_image(saved(tmp_path, Image.fromarray(stored), "x.png")))[0, :, 0]
    np.testing.assert_allclose(read, stored[0].astype(float) * 255 / white, atol=0.51)


@pytest.mark.parametrize("ending", ["EPS", "PDF", "PCX", "TGA", "ICO"])
def test_formats_that_nobody_photographs_in_are_not_opened(tmp_path, ending):
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (32, 32)).save(path, ending)
    with pytest.raises(CannotError, match="is not an image file of a format read here"):
        read_image(path)


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tif", "x.gif", "x.bmp", "x.avif", "x.jp2"])
def test_damage_anywhere_in_a_file_is_one_line_or_a_picture(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(
        tmp_path, Image.fromarray(noise), name, **({} if name.endswith(("bmp", "gif")) else {"exif": exif})
    )
    whole = bytearray(path.read_bytes())
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        for data in (damaged, whole[:place]):
            path.write_bytes(data)
            try:
                assert read_image(path).mode == "RGB"
            except CannotError as error:
                assert "\n" not in str(error) and str(path) in str(error)


def test_what_is_no_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(CannotError, match="is not a regular file"):
        read_image(tmp_path / "pipe.jpg")


def test_missing_file_folder_and_bomb(tmp_path, monkeypatch):
    with pytest.raises(CannotError, match="no such file"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(CannotError, match="is a folder"):
        read_image(tmp_path)
    path = saved(tmp_path, Image.new("L", (100, 100)), "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(CannotError, match="million pixels"):
        read_image(path)


def test_open_image_takes_a_file_a_photo_or_a_style(photo_file, tmp_path, monkeypatch):
    assert open_image(photo_file).size == (90, 60)
    assert open_image("coffee").size == (600, 400)
    assert open_image("waves", style_size=64).size == (64, 64)
    with pytest.raises(CannotError, match="did you mean coffee"):
        open_image("cofee")
    with pytest.raises(CannotError, match="bundled images: chelsea, .*, waves"):
        open_image("zzz")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (5, 5)).save(tmp_path / "coffee", "PNG")
    assert open_image("coffee").size == (5, 5)  # a file wins over a name


def test_the_bundled_photos_are_the_sample_where_the_course_data_is_absent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y, labels, names = load_images()
    assert X.shape == (6, 224, 224, 3)
    assert X.dtype == np.uint8
    assert labels[:2] == ["chelsea", "coffee"]
    assert [names[i] for i in y[:2]] == ["tiger cat", "espresso"]
    X2, y2, names2 = load_imagenet_val(num=2)
    assert np.array_equal(X2, X[:2])
    assert y2.tolist() == y[:2].tolist()
    assert names2 == names
    with pytest.raises(UsageError, match="there are 6"):
        load_images(7)


def test_the_course_data_is_used_and_its_pickle_never_read(tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('the pickled label_map was run')",))

    monkeypatch.chdir(tmp_path)
    data_utils.IMAGENET_VAL.parent.mkdir()
    X = np.random.default_rng(0).integers(0, 255, (3, 224, 224, 3), dtype=np.uint8)
    np.savez(data_utils.IMAGENET_VAL, X=X, y=np.array([1, 2, 3]), label_map=np.array(Bomb(), dtype=object))
    found, y, labels, _ = load_images()
    assert np.array_equal(found, X)
    assert y.tolist() == [1, 2, 3]
    assert labels == ["goldfish", "great white shark", "tiger shark"]
    np.savez(data_utils.IMAGENET_VAL, X=X.astype(float), y=np.array([1, 2, 3]))
    with pytest.raises(CannotError, match="expected uint8"):
        load_images()
    data_utils.IMAGENET_VAL.write_bytes(b"junk")
    with pytest.raises(CannotError, match="damaged"):
        load_images()


@pytest.mark.parametrize(
    ("query", "index"),
    [("tiger cat", 282), ("TIGER CAT", 282), ("espresso", 967), (282, 282), ("0", 0), ("tiger", 292), ("flaming", 130),
     ("great_white", 2)],
)  # fmt: skip
def test_classes_are_found_by_any_unambiguous_part(names, query, index):
    assert find_class(query, names) == index


def test_classes_that_are_not_found(names):
    with pytest.raises(UsageError, match="ambiguous.*Egyptian cat"):
        find_class("cat", names)
    with pytest.raises(UsageError, match="did you mean flamingo \\(130\\)"):
        find_class("flamigno", names)
    with pytest.raises(UsageError, match="0 to 999"):
        find_class("1000", names)
    with pytest.raises(UsageError, match="no class is called"):
        find_class("", names)
