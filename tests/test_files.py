"""A file is written whole or not at all."""

import os

import pytest
from PIL import Image

from helpers import files
from helpers.cli import check_distinct, check_output
from helpers.errors import CannotError, UsageError
from helpers.files import is_same_file, replace_whole, short_name


def test_the_file_appears_at_the_end_in_a_folder_made_for_it(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with replace_whole(path) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_name_has_the_extension_so_that_pillow_finds_the_format(tmp_path):
    path = tmp_path / "a.png"
    with replace_whole(path) as temporary:
        Image.new("RGB", (2, 3)).save(temporary)
    assert Image.open(path).format == "PNG"


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt()])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), replace_whole(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_operating_system_error_is_told_in_one_line(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(CannotError, match=r"a\.txt cannot be written: No space left"), replace_whole(path):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").touch()
    with (
        pytest.raises(CannotError, match=r"file/a\.txt cannot be written"),
        replace_whole(tmp_path / "file/a.txt"),
    ):
        pass
    with pytest.raises(CannotError, match=r"a\.txt cannot be written"), replace_whole(path):
        pass  # nothing was written
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "elsewhere" / "b.txt", tmp_path / "a.txt"
    link.symlink_to(target)
    for text in ("first", "second"):
        with replace_whole(link) as temporary:
            assert temporary.parent == target.parent
            temporary.write_text(text)
        assert link.is_symlink() and target.read_text() == text


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")
    with replace_whole(path) as temporary:
        temporary.write_text("long")
    assert path.read_text() == "long"


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with replace_whole(path) as one, replace_whole(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one", "the last to end"


def test_paths_of_one_file_are_the_same_whether_it_exists_or_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "other.png").symlink_to("folder/a.png")  # whose target does not exist
    a = tmp_path / "folder" / "a.png"
    for path in ("folder/./a.png", "folder/../folder/a.png", "link/a.png", "other.png", str(a)):
        assert is_same_file(a, tmp_path / path), path
    assert not is_same_file(a, tmp_path / "folder" / "b.png")
    assert not is_same_file(a, tmp_path / "a.png")
    assert is_same_file(tmp_path / "new" / "deep" / "a.png", tmp_path / "new" / "x" / ".." / "deep" / "a.png")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "link", "other.png"]


def test_two_names_of_one_content_are_two_files(tmp_path):
    (tmp_path / "a.png").touch()
    os.link(tmp_path / "a.png", tmp_path / "b.png")
    assert not is_same_file(tmp_path / "a.png", tmp_path / "b.png")  # each is replaced by itself


@pytest.mark.parametrize(("one", "other"), [("a.png", "A.PNG"), ("\u00e9.png", "e\u0301.png")])
def test_upper_case_and_accents_are_what_the_file_system_takes_them_for(tmp_path, monkeypatch, one, other):
    (tmp_path / one).touch()
    same = (tmp_path / other).exists()
    assert is_same_file(tmp_path / one, tmp_path / other) is same
    # As on a file system that takes them for one: its temporary folder has both.
    monkeypatch.setattr(files.Path, "exists", lambda path: True)
    assert is_same_file(tmp_path / one, tmp_path / other)
    assert not is_same_file(tmp_path / one, tmp_path / "b.png")


def test_outputs_that_are_one_file_are_refused_by_both_names(tmp_path):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    check_distinct([("--output", a), ("--plot", b), ("--animate", None)])
    with pytest.raises(UsageError, match=r"--plot .*b\.png and --animate .*b\.png are the same file"):
        check_distinct([("--output", a), ("--plot", b), ("--animate", tmp_path / "." / "b.png")])


def test_a_name_that_no_file_can_have_is_refused_before_the_work(tmp_path):
    check_output(tmp_path / ("a" * 251 + ".png"))
    with pytest.raises(CannotError, match="--output .* cannot be written: File name too long"):
        check_output(tmp_path / ("a" * 252 + ".png"))
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(CannotError, match=r"loop\.png cannot be written: Too many levels"):
        check_output(tmp_path / "loop.png")


def test_a_short_name_fits_and_stays_apart_from_its_neighbours():
    assert short_name("cat", "_panel.png") == "cat_panel.png"
    assert short_name("a" * 245, "_panel.png") == "a" * 245 + "_panel.png"
    names = [short_name(stem, "_panel.png") for stem in ("\u96ea" * 82 + "a", "\u96ea" * 82 + "b")]
    assert names[0] != names[1]
    for name in names:
        assert name.startswith("\u96ea" * 70) and name.endswith("_panel.png")
        assert 253 <= len(name.encode()) <= 255
