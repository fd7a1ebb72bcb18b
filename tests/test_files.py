"""A file is written whole or not at all."""

import pytest
from PIL import Image

from helpers.errors import CannotError
from helpers.files import replace_whole


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
