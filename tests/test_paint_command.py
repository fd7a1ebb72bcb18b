"""style_transfer.py --method paint from the outside: options in, pictures out."""

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import style_transfer
from extras.painter import figures, optimization, options, session
from extras.painter.moments import MatchedMoments
from extras.painter.optimization import OTHER_TERMS, Progress
from extras.painter.options import duration
from extras.painter.schedule import Schedule
from helpers import memory
from helpers.image_utils import read_alpha

QUICK = ["--method", "paint", "--model", "squeezenet", "--size", "64", "--steps", "3"]


@pytest.fixture
def photo(tmp_path) -> Path:
    """A photo, wider than high, bright on the left."""
    x, y = np.meshgrid(np.linspace(1, 0, 90), np.linspace(0, 1, 60))
    pixels = np.stack([255 * x, 120 + 80 * np.sin(9 * y), 200 * y * x], axis=-1).astype(np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def paint(photo, tmp_path):
    """Runs the painter on the photo and returns (exit code, the output's path)."""

    def run(*options, output="out.png", content=photo, style=("coffee",)):
        path = tmp_path / output
        arguments = [*QUICK, "--content", str(content), "--style", *style, "--output", str(path), *options]
        return style_transfer.main(arguments), path

    return run


def test_the_last_line_is_the_picture_and_the_picture_has_the_photos_shape(paint, capsys):
    code, path = paint()
    assert code == 0 and capsys.readouterr().out == f"{path}\n"
    assert Image.open(path).size == (64, 43)


def test_the_same_seed_gives_the_same_bytes(paint):
    first, second = (paint("--init", "random", output=f"{i}.png")[1].read_bytes() for i in (1, 2))
    other = paint("--init", "random", "--seed", "1", output="3.png")[1].read_bytes()
    assert first == second != other


@pytest.mark.parametrize(
    "options", [[], ["--keep-colors", "--init", "random", "--strength", "2"], ["--style", "coffee", "rocket"]]
)
def test_a_replay_paints_the_same_bytes_and_nothing_else_again(paint, tmp_path, options):
    film, plot = tmp_path / "film.gif", tmp_path / "plot.png"
    _, path = paint(*options, "--animate", str(film), "--plot", str(plot))
    film.unlink()
    plot.unlink()
    again = tmp_path / "again.png"
    assert style_transfer.main(["--replay", str(path), "--output", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()
    assert not film.exists() and not plot.exists()


@pytest.mark.parametrize("ending", ["jpg", "webp", "tif"])
def test_every_format_carries_the_recipe(paint, tmp_path, ending):
    _, path = paint("--steps", "1", "--seed", "3", output=f"out.{ending}")
    again = tmp_path / f"again.{ending}"
    assert style_transfer.main(["--replay", str(path), "--output", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()
    plain = tmp_path / f"plain.{ending}"
    Image.open(path).convert("L").save(plain)
    assert style_transfer.main(["--replay", str(plain)]) == 1


def test_a_replay_of_a_budget_counts_the_steps_that_the_clock_allowed(photo, tmp_path, monkeypatch):
    """The clock advances a quarter of a second each time it is read: a budget is a number of steps, on any machine."""
    quarters = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(quarters) / 4)
    monkeypatch.setitem(Schedule.__init__.__kwdefaults__, "clock", time.monotonic)
    path, again = tmp_path / "a.png", tmp_path / "b.png"
    arguments = ["--content", str(photo), "--style", "coffee", "--output", str(path), "--budget", "45s"]
    assert style_transfer.main([*QUICK[:4], "--size", "256", *arguments]) == 0
    assert style_transfer.main(["--replay", str(path), "--output", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "A"], "--preset goes with --method course"),
        (["--tv-weight", "1"], "--tv-weight goes with --method course"),
        (["--steps", "1", "2", "3"], "3 numbers in --steps"),
        (["--steps", "0"], "1 numbers in --steps"),
        (["--budget", "10s"], "--budget chooses the steps"),
        (["--blend", "1", "2"], "2 values in --blend for 1 --style"),
        (["--size", "20"], "--size 20 must be from 64"),
        (["--model", "densenet121"], "--model densenet121: the painter knows no layers of this network"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(paint, capsys, options, message):
    if "densenet121" in options:
        options = [*options, "--weights", "random"]
    code, path = paint(*options)
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1 and not path.exists()


@pytest.mark.parametrize(("option", "file"), [("--animate", "film.mp4"), ("--plot", "plot.gif")])
def test_a_file_that_cannot_be_written_is_refused_before_the_painting(paint, capsys, option, file):
    code, path = paint(option, file)
    error = capsys.readouterr().err
    assert code == 1 and f"{option} {file}: " in error and error.count("\n") == 1 and not path.exists()


@pytest.mark.parametrize(
    "options",
    [["--budget", "1m"], ["--style-scale", "2"], ["--keep-colors"], ["--style", "coffee", "rocket"]],
)
def test_the_course_method_refuses_the_painters_options(options, capsys):
    assert style_transfer.main(["--content", "coffee", *options]) == 2
    assert "--method paint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1.5M", 90), ("1h", 3600)]
)
def test_two_m_is_two_minutes(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["0", "-3s", "soon", "5 days", "nan"])
def test_a_budget_is_a_time(text, capsys):
    with pytest.raises(SystemExit) as stopped:
        style_transfer.main([*QUICK, f"--budget={text}"])
    assert stopped.value.code == 2 and "is not a time like" in capsys.readouterr().err


def test_a_narrow_photo_is_refused_with_the_size_that_would_do(paint, tmp_path, capsys):
    Image.new("RGB", (900, 90), "teal").save(tmp_path / "strip.png")
    assert paint(content=tmp_path / "strip.png")[0] == 2
    assert "use --size 320 or more" in capsys.readouterr().err


def test_a_budget_that_loading_has_used_up_is_said_to_be_too_small(photo, tmp_path, capsys):
    path = tmp_path / "out.png"
    arguments = ["--content", str(photo), "--style", "coffee", "--output", str(path), "--budget", "0.1s"]
    assert style_transfer.main([*QUICK[:4], *arguments]) == 1
    assert "is too short: loading alone took" in capsys.readouterr().err and not path.exists()


def test_too_large_a_size_is_refused_before_it_starts_with_the_largest_that_fits(paint, monkeypatch, capsys):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**30)
    code, path = paint("--size", "8192")
    error = capsys.readouterr().err
    assert code == 1 and not path.exists() and "1.0 GB are free" in error
    fits = int(error.split("--size ")[2].split()[0])
    assert 256 < fits < 4096
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**40)
    monkeypatch.setattr(Schedule, "next_scale", lambda self: pytest.fail("painted"))
    with pytest.raises(pytest.fail.Exception):
        style_transfer.main([*QUICK, "--debug", "--size", "8192", "--content", "coffee", "--style", "coffee"])


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpg", "JPEG"), ("a.png", "PNG"), ("a.tif", "TIFF"), ("a.webp", "WEBP")]
)
def test_the_files_ending_says_the_format(paint, name, kind):
    code, path = paint(output=name)
    with Image.open(path) as img:
        assert code == 0 and img.format == kind and img.size == (64, 43)
        if kind == "JPEG":
            assert {sampling[1:3] for sampling in img.layer} == {(1, 1)}  # 4:4:4


def test_transparency_is_laid_on_again(paint, photo, tmp_path, capsys):
    img = Image.open(photo).convert("RGBA")
    alpha = Image.new("L", img.size, 255)
    alpha.paste(0, (0, 0, 45, 60))
    img.putalpha(alpha)
    img.save(tmp_path / "clear.png")
    _, path = paint(content=tmp_path / "clear.png")
    result = Image.open(path)
    assert result.mode == "RGBA"
    assert result.getpixel((5, 20))[3] == 0 and result.getpixel((60, 20))[3] == 255
    assert Image.open(paint(content=tmp_path / "clear.png", output="a.jpg")[1]).mode == "RGB"
    assert "holds no transparency" in capsys.readouterr().err


def test_the_transparency_of_a_turned_photo_is_read_upright(tmp_path):
    img = Image.new("RGBA", (90, 60), (200, 30, 30, 255))
    img.paste((0, 0, 0, 0), (0, 0, 45, 60))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise: left becomes top
    img.save(tmp_path / "turned.png", exif=exif)
    alpha = read_alpha(tmp_path / "turned.png")
    assert alpha.size == (60, 90)
    assert alpha.getpixel((30, 10)) == 0 and alpha.getpixel((30, 80)) == 255


def test_an_opaque_photo_has_no_transparency(photo, tmp_path):
    Image.open(photo).convert("RGBA").save(tmp_path / "opaque.png")
    assert read_alpha(photo) is None and read_alpha(tmp_path / "opaque.png") is None


def upright(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.open(photo).rotate(90, expand=True).save(tmp_path / "in.jpg", exif=exif)
    return tmp_path / "in.jpg"


def sixteen_bits(tmp_path, photo):
    grey = np.asarray(Image.open(photo).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def sixteen_bits_a_colour(tmp_path, photo):
    tifffile = pytest.importorskip("tifffile")  # comes with scikit-image
    pixels = np.asarray(Image.open(photo)).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="rgb")
    return tmp_path / "in.tif"


def in_mode(mode, ending):
    def write(tmp_path, photo):
        Image.open(photo).convert(mode).save(tmp_path / f"in{ending}")
        return tmp_path / f"in{ending}"

    return write


@pytest.mark.parametrize(
    "write",
    [
        *(upright, sixteen_bits, sixteen_bits_a_colour),
        *(in_mode("CMYK", ".jpg"), in_mode("L", ".png"), in_mode("P", ".gif")),
    ],
    ids=["EXIF", "16 bits grey", "16 bits a colour", "CMYK", "grey", "palette"],
)
def test_any_photo_is_painted_upright(paint, photo, tmp_path, write):
    code, path = paint("--steps", "1", content=write(tmp_path, photo))
    assert code == 0
    grey = np.asarray(Image.open(path).convert("L"), dtype=float)
    assert grey.shape == (43, 64) and grey[:, :20].mean() > grey[:, -20:].mean()


def test_a_photos_colour_profile_is_heeded(paint, tmp_path):
    # A profile in which the file's red means blue, and its blue red.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    red = Image.new("RGB", (90, 60), (200, 30, 30))
    red.save(tmp_path / "in.jpg", icc_profile=profile)
    _, path = paint("--keep-colors", "--steps", "1", content=tmp_path / "in.jpg")
    r, _, b = np.asarray(Image.open(path)).mean(axis=(0, 1))
    assert b > r + 100


def test_colours_of_the_photo_are_kept_in_the_file(paint, photo):
    _, path = paint("--keep-colors", "--size", "90", "--steps", "8")
    planes = [np.asarray(Image.open(p).convert("YCbCr"), dtype=int)[..., 1:] for p in (photo, path)]
    assert np.abs(planes[0] - planes[1]).max() <= 1


def test_a_start_from_a_file_and_two_styles(paint):
    assert paint("--init", "rocket", "--blend", "3", "1", style=("coffee", "rocket"))[0] == 0


@pytest.mark.parametrize("count", [1, 5, figures.MAX_FRAMES + 1, 3 * figures.MAX_FRAMES])
def test_an_animation_starts_with_the_first_picture_and_ends_with_the_last(tmp_path, count):
    recorder = figures.FrameRecorder()
    for n in range(count):
        recorder.add(torch.full((1, 3, 20, 30), n / max(1, count - 1)))
    with Image.open(recorder.save(tmp_path / "film.gif")) as film:
        shown = []
        for k in range(film.n_frames):
            film.seek(k)
            shown.append(np.asarray(film.convert("L"), dtype=float).mean())
    assert shown[0] == pytest.approx(0, abs=2)
    assert shown[-1] == pytest.approx(255 if count > 1 else 0, abs=2)
    assert len(shown) <= figures.MAX_FRAMES + 1
    steps = np.diff([np.asarray(frame, dtype=float).mean() for frame in recorder.frames])
    assert len(steps) == 0 or np.ptp(steps) <= 1  # evenly spaced


def test_a_large_picture_is_recorded_small(tmp_path):
    recorder = figures.FrameRecorder()
    recorder.add(torch.zeros(1, 3, 100, 150))
    recorder.add(torch.zeros(1, 3, 480, 720))
    with Image.open(recorder.save(tmp_path / "film.gif")) as film:
        assert film.size == (360, 240)


def test_the_plot_says_where_a_size_begins_and_draws_each_term(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "rendered", lambda figure: drawn.append(figure) or Image.new("RGB", (9, 9)))
    monkeypatch.setattr(figures, "save_image", lambda path, picture: path)
    terms = {name: float(k + 1) for k, name in enumerate(("relu1_1", *OTHER_TERMS))}
    shares = {name: value / 10 for name, value in terms.items()}
    history = [
        Progress(scale, (64 * (scale + 1), 32), n, 10.0, terms, torch.zeros(1), shares)
        for scale in (0, 1)
        for n in (1, 2)
    ]
    figures.save_plot(tmp_path / "plot.png", history)
    losses, gradient = drawn[0].axes
    assert [text.get_text() for text in losses.texts] == ["32 x 64", "32 x 128"]
    for k, name in enumerate(terms):
        assert losses.lines[k].get_label() == name
        assert list(losses.lines[k].get_ydata()) == [terms[name]] * 4
        assert list(gradient.lines[k].get_ydata()) == [100 * shares[name]] * 4


def test_the_film_and_the_plot_are_written(paint, tmp_path):
    code, path = paint("--animate", str(tmp_path / "film.gif"), "--plot", str(tmp_path / "plot.png"))
    with Image.open(tmp_path / "film.gif") as film:
        assert code == 0 and film.n_frames >= 3 and film.size == (64, 43)
    assert min(Image.open(tmp_path / "plot.png").size) > 400


def test_the_plot_names_picture_and_network_as_they_are(paint, photo, tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(figures, "noted", lambda picture, note: notes.append(note) or picture)
    content = photo.rename(tmp_path / "$5_^{.png")
    assert paint("--plot", str(tmp_path / "plot.png"), content=content, style=("coffee", "rocket"))[0] == 0
    assert notes == ["$5_^{ in the style of coffee, rocket. Network: squeezenet, packaged weights."]


def test_a_term_that_starts_at_nothing_does_not_stretch_the_plot(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "rendered", lambda figure: drawn.append(figure) or Image.new("RGB", (9, 9)))
    monkeypatch.setattr(figures, "save_image", lambda path, picture: path)

    def lowest(start):
        terms = [dict.fromkeys(("relu1_1", *OTHER_TERMS), 2.0) | {"range": value} for value in (start, 0.02)]
        history = [Progress(0, (64, 64), n, 8.0, shown, torch.zeros(1)) for n, shown in enumerate(terms)]
        figures.save_plot(tmp_path / "plot.png", history)
        return drawn[-1].axes[0].get_ylim()[0]

    assert lowest(1e-9) == lowest(1e-300) == pytest.approx(2e-6)
    assert lowest(0.0) >= 2e-6
    assert 0.005 < lowest(0.01) < 0.01


def test_ctrl_c_saves_the_best_picture_so_far_and_says_where(paint, monkeypatch, capsys):
    stepped = Schedule.stepped

    def interrupted(self):
        stepped(self)
        if sum(self.done) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Schedule, "stepped", interrupted)
    code, path = paint("--steps", "20")
    assert code == 130
    assert f"the best picture so far is in {path}" in capsys.readouterr().err
    assert Image.open(path).size == (64, 43)
    monkeypatch.setattr(Schedule, "stepped", stepped)
    again = path.with_name("again.png")
    assert style_transfer.main(["--replay", str(path), "--output", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()


def test_ctrl_c_before_the_first_step_writes_nothing(paint, monkeypatch, capsys):
    monkeypatch.setattr(Schedule, "go_on", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    code, path = paint()
    assert (
        code == 130 and not path.exists() and "the current picture was not written" in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize("budget", [15, 30])
def test_a_budget_is_kept_by_the_wall_clock(photo, tmp_path, budget):
    command = [sys.executable, "style_transfer.py", *QUICK[:4], "--content", str(photo), "--style", "coffee"]
    began = time.monotonic()
    subprocess.run([*command, "--budget", f"{budget}s", "--output", str(tmp_path / "a.png")], check=True)
    assert time.monotonic() - began == pytest.approx(budget, rel=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_the_estimate_of_memory_is_neither_too_low_nor_three_times_too_high(tmp_path):
    script = (
        "import torch\n"
        "from benchmarks.memory import peak\n"
        "from helpers.models import load_features\n"
        "from extras.painter.network import FeatureNet, bytes_per_pixel\n"
        "from extras.painter.optimization import paint\n"
        "from extras.painter.settings import settings_for\n"
        "from extras.painter.schedule import Schedule\n"
        "cnn = load_features('squeezenet'); settings = settings_for(cnn)\n"
        "net = FeatureNet(cnn, settings.layers)\n"
        "x = torch.rand(1, 3, 64, 64)\n"
        "list(paint(net, x, [x], Schedule([(64, 64)], [2]), settings))\n"
        "before = peak(); x = torch.rand(1, 3, 700, 700)\n"
        "list(paint(net, x, [x], Schedule([(700, 700)], [18]), settings))\n"
        "print(1024 * (peak() - before) / (bytes_per_pixel(net) * 700**2))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert 0.33 < float(done.stdout) < 1.0


@pytest.fixture
def half_mask(tmp_path):
    """Black on the left, white on the right, as large as the photo."""
    pixels = np.zeros((60, 90), np.uint8)
    pixels[:, 45:] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def test_a_mask_keeps_the_black_side_and_a_replay_paints_the_same(paint, photo, half_mask, tmp_path):
    code, path = paint("--mask", half_mask)
    assert code == 0
    shown, kept = np.asarray(Image.open(path), dtype=int), Image.open(photo).resize((64, 43))
    change = np.abs(shown - np.asarray(kept, dtype=int)).mean(axis=(0, 2))
    assert change[:30].max() < 3 < change[36:].mean()  # two ways to resize differ by little
    again = tmp_path / "again.png"
    assert style_transfer.main(["--replay", str(path), "--output", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()


def test_regions_paint_each_part_like_its_part(paint, photo, half_mask):
    pictures = []
    for mask in (half_mask, flipped(half_mask)):
        code, path = paint("--regions", half_mask, str(mask), "--steps", "12", style=(str(photo),))
        assert code == 0
        pictures.append(np.asarray(Image.open(path), dtype=float))
    # The photo is bright and red on its left: painted like its right side, the left gets darker.
    assert pictures[0][:, :25, 0].mean() > pictures[1][:, :25, 0].mean() + 5


def flipped(path):
    mirrored = Path(path).with_name("flipped.png")
    Image.fromarray(np.asarray(Image.open(path))[:, ::-1]).save(mirrored)
    return mirrored


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mask", "MASK", "--regions", "MASK", "MASK"], "give one of them"),
        (["--regions", "MASK", "MASK", "--style", "coffee", "rocket"], "give one --style, not 2"),
        (["--regions", "MASK", "MASK", "--sweep", "style=coffee,rocket"], "sweep strength or loss"),
        (["--sweep", "strength=1,2", "--animate", "film.gif"], "--animate and --plot go without it"),
        (["--mask", "MASK", "--sweep", "content=coffee,rocket"], "sweep strength, style or loss"),
        (["--loss", "transport", "--optimizer", "lbfgs"], "which --optimizer lbfgs cannot use"),
        (["--sweep", "loss=moments,transport", "--optimizer", "lbfgs"], "which --optimizer lbfgs cannot use"),
        (["--sweep", "style=coffee,nowhere.png"], "nowhere.png: no such file"),
        (["--sweep", "speed=1,2"], "give one of strength, content, style, loss"),
        (["--sweep", "strength=1"], "has 1 values: give two or more"),
        (["--sweep", "loss=moments,magic"], "'magic' is no loss"),
        (["--mask", "square.png"], "square.png is 50 x 50 and its picture 90 x 60"),
        (["--mask", "black.png"], "black all over"),
        (["--mask", "missing.png"], "missing.png: no such file"),
    ],
)
def test_masks_and_sweeps_that_do_not_fit_are_refused_in_one_line(
    paint, half_mask, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (50, 50), 255).save("square.png")
    Image.new("L", (90, 60)).save("black.png")
    try:
        code, path = paint(*(half_mask if option == "MASK" else option for option in options))
    except SystemExit as stop:
        code, path = stop.code, tmp_path / "out.png"
    assert code in (1, 2) and not path.exists()
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_a_sweep_is_one_sheet_with_a_picture_for_each_value(paint, tmp_path, monkeypatch):
    drawn, targets = [], []
    save_grid, target_of = session.save_grid, MatchedMoments.target_of
    monkeypatch.setattr(session, "save_grid", lambda *a, **k: drawn.append(a[1]) or save_grid(*a, **k))
    monkeypatch.setattr(
        MatchedMoments, "target_of", staticmethod(lambda *a: targets.append(a) or target_of(*a))
    )
    code, path = paint("--sweep", "strength=0.25,1,4")
    assert code == 0
    assert [cell.title for cell in drawn[0][0]] == ["strength 0.25", "strength 1", "strength 4"]
    pictures = [np.asarray(cell.image, dtype=int) for cell in drawn[0][0]]
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[1], pictures[2])
    assert len(targets) == 1  # the painting's moments are computed once
    again = tmp_path / "again.png"
    assert style_transfer.main(["--replay", str(path), "--output", str(again)]) == 0
    assert again.read_bytes() == path.read_bytes()


def test_a_sweep_with_a_missing_picture_paints_none(paint, monkeypatch):
    steps = []
    monkeypatch.setattr(Schedule, "stepped", lambda self: steps.append(self))
    assert paint("--sweep", "content=coffee,nowhere.png")[0] == 1
    assert not steps


def test_the_losses_of_the_command_line_are_those_that_exist():
    assert tuple(optimization.LOSSES) == options.LOSSES


def test_a_sweep_of_styles_is_that_of_single_paintings(paint, monkeypatch):
    drawn = []
    save_grid = session.save_grid
    monkeypatch.setattr(session, "save_grid", lambda *a, **k: drawn.append(a[1]) or save_grid(*a, **k))
    assert paint("--sweep", "style=rocket,coffee", output="sheet.png")[0] == 0
    single = np.asarray(Image.open(paint(output="single.png")[1]))
    assert np.array_equal(np.asarray(drawn[0][0][1].image), single)


def test_ctrl_c_in_a_sweep_keeps_the_finished_pictures(paint, monkeypatch, capsys):
    stepped, count = Schedule.stepped, itertools.count(1)

    def interrupted(self):
        stepped(self)
        if next(count) == 5:  # each picture takes three steps
            raise KeyboardInterrupt

    monkeypatch.setattr(Schedule, "stepped", interrupted)
    code, path = paint("--sweep", "strength=0.25,1,4")
    assert code == 130 and path.exists()
    assert f"the 1 finished pictures are in {path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "flat", "said"),
    [
        ((200, 150), True, "is almost of one colour: expect its colour"),
        ((12, 10), False, "is only 12 x 10 pixels: expect strokes as fine as it has"),
        ((200, 150), False, ""),
    ],
)
def test_what_to_expect_of_an_odd_painting_is_said_and_it_is_painted(
    paint, tmp_path, capsys, size, flat, said
):
    rng = np.random.default_rng(0)
    pixels = np.full((*size[::-1], 3), 120) if flat else rng.integers(0, 256, (*size[::-1], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "style.png")
    code, path = paint(style=(str(tmp_path / "style.png"),))
    assert code == 0 and np.asarray(Image.open(path)).std() > 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "expect" in line]
    assert len(lines) == bool(said) and (not said or said in lines[0])
