"""What is drawn, and that it is written whole or not at all."""

import numpy as np
import pytest
from PIL import Image

from helpers.errors import CannotError
from helpers.figures import (
    Cell,
    colorize,
    draw_grid,
    overlay,
    save_animation,
    save_grid,
    save_image,
    signed_picture,
    smoothed_overlay,
)

PHOTO = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def test_a_map_of_nothing_is_dark_and_the_maximum_is_bright():
    dark, bright = colorize(np.zeros((4, 4))), colorize(np.eye(4))
    assert dark.max() <= 4
    assert bright[0, 0].sum() > 600
    assert bright[0, 1].max() <= 4


def test_overlay_of_an_empty_map_is_the_toned_photo_without_any_tint():
    plain = overlay(PHOTO, np.zeros((40, 60)))
    marked = overlay(PHOTO, np.pad(np.ones((10, 10)), ((0, 30), (0, 50))))
    assert np.array_equal(plain[20:, 20:], marked[20:, 20:])
    assert not np.array_equal(plain[:10, :10], marked[:10, :10])
    assert np.isfinite(smoothed_overlay(PHOTO, np.zeros((40, 60)))).all()


def test_signed_picture_has_grey_for_zero():
    gradient = np.zeros((10, 10, 3))
    gradient[0, 0], gradient[0, 1] = 1, -1
    picture = signed_picture(gradient)
    assert set(picture[5, 5]) == {128} or set(picture[5, 5]) == {127}
    assert picture[0, 0, 0] > 250
    assert picture[0, 1, 0] < 5
    assert len(np.unique(signed_picture(np.zeros((3, 3, 3))))) == 1


def cells_of(path):
    """The separate coloured pictures that stand on the white page, row by row."""
    from scipy.ndimage import find_objects, label, maximum_filter, minimum_filter

    page = np.asarray(Image.open(path).convert("RGB"))
    # An opening with a square of 25 pixels, which leaves no text. These two filters are ten times as fast.
    inside = minimum_filter((page < 250).any(axis=2), 25, mode="constant")
    return [page[box] for box in find_objects(label(maximum_filter(inside, 25, mode="constant"))[0])]


def cells_found(path):
    """How many there are."""
    return len(cells_of(path))


def test_a_grid_shows_every_cell_once(tmp_path):
    dark = np.full((30, 30, 3), 60, dtype=np.uint8)
    rows = [
        [Cell(dark, "one"), Cell(dark, "two")],
        [Cell(np.ones((20, 40))), Cell(dark), Cell(dark, "", "six")],
    ]
    path = save_grid(
        tmp_path / "grid.png", rows, row_labels=["first", "second"], heading="Heading", note="A note. " * 30
    )
    assert cells_found(path) == 5


def test_long_titles_are_broken_not_cut_off(tmp_path):
    dark = np.full((30, 30, 3), 60, dtype=np.uint8)
    short = Image.open(save_grid(tmp_path / "a.png", [[Cell(dark, "tick")]])).size
    path = save_grid(tmp_path / "b.png", [[Cell(dark, "a very long title of a class that goes on, " * 3)]])
    page = np.asarray(Image.open(path).convert("L"))
    assert Image.open(path).size[0] == short[0]
    assert Image.open(path).size[1] > short[1]
    assert (page[:, :8] > 250).all()
    assert (page[:, -8:] > 250).all()
    assert (page[:8] > 250).all()


def test_the_same_figure_is_the_same_bytes(tmp_path):
    a = save_grid(tmp_path / "a.png", [[Cell(PHOTO, "x")]], metadata={"recipe": "{}"})
    b = save_grid(tmp_path / "b.png", [[Cell(PHOTO, "x")]], metadata={"recipe": "{}"})
    assert a.read_bytes() == b.read_bytes()
    assert Image.open(a).text["recipe"] == "{}"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")

    class Unwritable:
        size = (2, 2)

        def save(self, partial, **options):
            partial.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(CannotError, match="x.png cannot be written: No space left"):
        save_image(path, Unwritable())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_endings_folders_and_formats(tmp_path):
    img = Image.fromarray(PHOTO)
    with pytest.raises(CannotError, match="unsupported file extension"):
        save_image(tmp_path / "x.txt", img)
    with pytest.raises(CannotError, match="cannot be written"):
        (tmp_path / "file").write_text("")
        save_image(tmp_path / "file" / "x.png", img)
    for ending in ("png", "jpg", "webp", "tif"):
        assert Image.open(save_image(tmp_path / "new" / "folders" / f"x.{ending}", img)).size == (60, 40)


def test_a_grid_shows_in_a_notebook_as_it_is_written(tmp_path):
    import io

    rows = [[Cell(PHOTO, "a photo")]]
    shown = Image.open(io.BytesIO(draw_grid(rows, note="one cell")._repr_png_()))
    written = Image.open(save_grid(tmp_path / "grid.png", rows, note="one cell"))
    assert np.array_equal(np.asarray(shown), np.asarray(written))


def test_an_animation_has_the_colours_of_its_middle(tmp_path):
    grey, red = (Image.new("RGB", (20, 20), color) for color in ("grey", "red"))
    film = Image.open(save_animation(tmp_path / "film.gif", [grey, red, grey]))
    film.seek(1)
    assert film.convert("RGB").getpixel((5, 5)) == (255, 0, 0)
