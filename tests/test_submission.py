"""A zip is read by allow-listed names alone, whatever else it holds and however it is made."""

import ast
import gzip
import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from grading.submission import (
    BESIDE_GRADED,
    ENTRY_LIMIT,
    FILE_LIMIT,
    GRADED_FILES,
    PACKAGES,
    Submission,
    UnreadableError,
    read_submission,
)
from helpers.errors import CannotError

PROJECT = Path(__file__).resolve().parent.parent
TV = "style_modules/tv_loss.py"


def make_zip(path: Path, files, **options) -> Path:
    """A zip of (name or ZipInfo, content) pairs, duplicates allowed."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, data)
    return path


@pytest.fixture
def target(tmp_path):
    return tmp_path / "a.zip"


def whole(text: str = "x = {}\n") -> dict[str, str]:
    return {name: text.format(number) for number, name in enumerate(GRADED_FILES)}


def test_the_graded_files_come_out_as_they_went_in(target):
    submission = read_submission(make_zip(target, whole()))
    assert {name: source.decode() for name, source in submission.files.items()} == whole()
    assert not (submission.ignored or submission.notes or submission.missing)


@pytest.mark.parametrize(
    "name",
    [
        "torch.py",
        "sitecustomize.py",
        "grading/judge.py",
        "helpers/models.py",
        "visualizers/__init__.py",
        "visualizers/mechanisms.py",
        "visualizers/other.py",
        "results.json",
        "conftest.py",
        "a\x00b",
        "weird \udcff name",
        "x" * 5000,
    ],
)
def test_everything_else_is_ignored_and_said_so(target, name):
    files = [(n, d) for n, d in whole().items()] + [("placeholder", "evil")]
    make_zip(target, files)
    if name.isascii() and "\0" not in name and len(name) < 1000:
        make_zip(target, [*whole().items(), (name, "evil")])
    submission = read_submission(target)
    assert len(submission.files) == 7
    assert len(submission.ignored) == 1 and len(submission.ignored[0]) < 100


@pytest.mark.parametrize("name", ["/" + TV, "../" + TV, "a/../" + TV, "C:/" + TV, "./../" + TV])
def test_paths_that_lead_elsewhere_are_no_submission(target, name):
    submission = read_submission(make_zip(target, {name: "evil"}))
    assert not submission.files
    assert "path" in submission.ignored[0]


def test_a_link_is_not_followed(target):
    link = zipfile.ZipInfo(TV)
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    submission = read_submission(make_zip(target, [(link, "/etc/passwd")]))
    assert not submission.files
    assert submission.ignored == [f"{TV} (a link)"]


def test_folders_around_everything_are_tolerated(target):
    submission = read_submission(make_zip(target, {f"my work/{n}": d for n, d in whole().items()}))
    assert len(submission.files) == 7
    assert "my work" in submission.notes[0]
    submission = read_submission(make_zip(target, {f"a/b/{n}": d for n, d in whole().items()}))
    assert len(submission.files) == 7


def tar(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("folder", ["", "./", "work/"])
def test_a_tar_archive_is_read_like_a_zip(tmp_path, target, suffix, folder):
    path = tar(tmp_path / f"a{suffix}", {folder + name: text for name, text in whole().items()})
    assert read_submission(path).digest == read_submission(make_zip(target, whole())).digest


def test_links_and_other_folders_in_a_tar_archive_are_ignored(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (
            (TV, tarfile.SYMTYPE),
            ("style_utils.py", tarfile.LNKTYPE),
            (f"../{TV}", tarfile.REGTYPE),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    submission = read_submission(path)
    assert not submission.files and len(submission.ignored) == 3


def test_a_tar_bomb_is_unpacked_no_further_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("grading.submission.ZIP_LIMIT", 1 << 20)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(bytes(2 << 20)))
    with pytest.raises(UnreadableError, match="unpacks to more than 1 MB"):
        read_submission(path)


def test_an_archive_in_a_folder_or_in_an_archive_is_found(tmp_path, target):
    folder = tmp_path / "Ann_1_assignsubmission_file_"
    folder.mkdir()
    make_zip(folder / "work.zip", whole())
    (folder / "remarks.txt").write_text("x")
    assert len(read_submission(folder).files) == 7
    outer = read_submission(
        make_zip(target, {"a/work.zip": (folder / "work.zip").read_bytes(), "b.txt": "x"})
    )
    assert len(outer.files) == 7 and "a/work.zip" in outer.notes[0] and "b.txt" in outer.ignored
    broken = make_zip(target, {"work.zip": "no zip"})
    with pytest.raises(UnreadableError, match="work.zip"):
        read_submission(broken)


def test_the_newest_layout_and_flat_files_are_found(target):
    newest = {name.replace("style_utils", "helpers/style_utils"): text for name, text in whole().items()}
    newest["helpers/style_utils.py"] = "from .image_utils import x\nfrom . import data_utils\n"
    submission = read_submission(make_zip(target, {f"a/b/{name}": text for name, text in newest.items()}))
    assert (
        submission.files["style_utils.py"]
        == b"from helpers.image_utils import x\nfrom helpers import data_utils\n"
    )
    flat = {f"ann_12_{Path(name).name}": text for name, text in whole().items()}
    submission = read_submission(make_zip(target, flat))
    assert len(submission.files) == 7
    assert any(TV in note and "ann_12_tv_loss.py" in note for note in submission.notes)


def test_a_file_alone_is_a_submission(tmp_path):
    (tmp_path / "tv_loss.py").write_text("x = 1\n")
    assert read_submission(tmp_path / "tv_loss.py").files == {TV: b"x = 1\n"}


@pytest.mark.parametrize("magic", [b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c"])
def test_what_other_programs_must_unpack_is_no_fault_of_the_student(target, magic):
    target.write_bytes(magic + bytes(100))
    with pytest.raises(CannotError, match="unpack it"):
        read_submission(target)


@pytest.mark.parametrize("encoding", ["undefined", "punycode", "idna", "hex", "rot13"])
def test_an_encoding_that_decodes_nothing_stops_nothing(target, encoding):
    source = f"# coding: {encoding}\nx = 1\n".encode()
    submission = read_submission(make_zip(target, {TV: source}))
    assert b"x = 1" in submission.files[TV] and "UTF-8" in submission.notes[0]
    assert submission.leftovers() == []


def test_the_top_counts_before_a_folder_and_resource_forks_never(target):
    files = {f"old/{n}": "old" for n in GRADED_FILES} | {f"__MACOSX/{n}": "fork" for n in GRADED_FILES}
    submission = read_submission(make_zip(target, files | {TV: "new"}))
    assert submission.files == {TV: b"new"}
    submission = read_submission(make_zip(target, files))
    assert set(submission.files.values()) == {b"old"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_duplicates_the_last_counts(target):
    submission = read_submission(make_zip(target, [(TV, "one"), (TV, "two")]))
    assert submission.files[TV] == b"two"
    assert "2 times" in submission.notes[0]


def test_backslashes_of_windows_are_folders(target):
    make_zip(target, {TV: "x"})
    target.write_bytes(target.read_bytes().replace(TV.encode(), TV.replace("/", "\\").encode()))
    assert read_submission(target).files == {TV: b"x"}


def test_a_file_in_the_wrong_place_or_case_is_pointed_out(target):
    submission = read_submission(make_zip(target, {"deep/er/style_utils.py": "x", TV: "y"}))
    assert any("deep/er/style_utils.py" in note for note in submission.notes)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_read_no_further_than_its_limit(target, method):
    make_zip(target, {TV: b"\0" * (16 << 20), "style_utils.py": b"x = 1"}, compression=method)
    assert target.stat().st_size < 1 << 20
    submission = read_submission(target)
    assert TV not in submission.files
    assert any("kB" in note or "unusual" in note for note in submission.notes)


def test_a_file_may_be_as_large_as_the_limit_and_no_larger(target):
    submission = read_submission(
        make_zip(target, {TV: b" " * FILE_LIMIT, "style_utils.py": b" " * (FILE_LIMIT + 1)})
    )
    assert list(submission.files) == [TV]


def test_a_lying_size_does_not_help(target):
    make_zip(target, {TV: b"A" * (FILE_LIMIT * 4)}, compression=zipfile.ZIP_DEFLATED)
    data = bytearray(target.read_bytes())
    place = data.rfind(b"PK\1\2")
    struct.pack_into("<I", data, place + 24, 10)  # the size after unpacking, in the table of contents
    target.write_bytes(data)
    submission = read_submission(target)
    assert len(submission.files.get(TV, b"")) <= 10


def test_too_many_entries_are_refused_before_they_are_read(target):
    make_zip(target, {f"{n:05}": "" for n in range(ENTRY_LIMIT + 1)})
    with pytest.raises(UnreadableError, match="entries|names"):
        read_submission(target)


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\5\6", b"no zip" * 100, b"\0" * 70_000, b"PK\5\6" + b"\xff" * 18]
)
def test_what_is_no_zip_is_refused_in_one_line(target, data):
    target.write_bytes(data)
    with pytest.raises(UnreadableError) as caught:
        read_submission(target)
    assert "\n" not in str(caught.value)


def test_every_cut_and_every_flipped_byte_is_refused_or_read(target):
    """No damage raises anything else."""
    data = make_zip(target, whole(), compression=zipfile.ZIP_DEFLATED).read_bytes()
    for n in range(0, len(data), 7):
        for damaged in (data[:n], data[:n] + bytes([data[n] ^ 0xFF]) + data[n + 1 :]):
            target.write_bytes(damaged)
            try:
                submission = read_submission(target)
            except UnreadableError:
                continue
            assert set(submission.files) <= set(GRADED_FILES)


def test_an_encrypted_file_is_not_read(target):
    make_zip(target, {TV: "x"})
    data = bytearray(target.read_bytes())
    data[6] |= 1
    data[data.find(b"PK\1\2") + 8] |= 1
    target.write_bytes(data)
    submission = read_submission(target)
    assert not submission.files and "password" in submission.notes[0]


def test_a_wrong_checksum_is_damage(target):
    make_zip(target, {TV: "x = 1"})
    data = target.read_bytes().replace(struct.pack("<I", zlib.crc32(b"x = 1")), b"\1\2\3\4")
    target.write_bytes(data)
    assert "damaged" in read_submission(target).notes[0]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("# ü\n".encode("latin-1"), "# ü\n"),
        ("# ü\nx = 'é'\n".encode("utf-16"), "# ü\nx = 'é'\n"),
        (b"# coding: nonsense\nx = 1\n", "# coding  nonsense\nx = 1\n"),
    ],
)
def test_wrong_encodings_are_read_and_noted(target, data, wanted):
    submission = read_submission(make_zip(target, {TV: data}))
    text = submission.files[TV].decode().removeprefix("\ufeff")
    assert text == wanted
    compile(submission.files[TV], TV, "exec")
    assert "UTF-8" in submission.notes[0]


def test_a_byte_order_mark_and_a_true_declaration_are_fine(target):
    for data in (b"\xef\xbb\xbfx = 1\n", "# coding: latin-1\nx = 'ü'\n".encode("latin-1")):
        submission = read_submission(make_zip(target, {TV: data}))
        assert not submission.notes
        compile(submission.files[TV], TV, "exec")


def test_a_folder_is_read_like_a_zip_and_links_in_it_are_not(tmp_path, target):
    (tmp_path / "outside.py").write_text("secret")
    folder = tmp_path / "submission_1"
    (folder / "style_modules").mkdir(parents=True)
    (folder / "style_utils.py").write_text("x = 0\n")
    (folder / TV).symlink_to(tmp_path / "outside.py")
    (folder / "visualizers").symlink_to(PROJECT / "visualizers")
    submission = read_submission(folder)
    assert submission.files == {"style_utils.py": b"x = 0\n"}
    assert any("a link" in name for name in submission.ignored)
    assert submission.digest == read_submission(make_zip(target, {"style_utils.py": "x = 0\n"})).digest


def test_the_digest_and_the_receipt_follow_the_content_alone(tmp_path):
    one = read_submission(make_zip(tmp_path / "1.zip", whole()))
    other = read_submission(make_zip(tmp_path / "2.zip", {f"w/{n}": d for n, d in reversed(whole().items())}))
    changed = read_submission(make_zip(tmp_path / "3.zip", whole("y = {}\n")))
    assert one.digest == other.digest != changed.digest
    assert one.receipt == other.receipt and re.fullmatch("([0-9A-F]{4}-){4}[0-9A-F]{4}", one.receipt)


def test_prints_are_found_by_file_and_line_and_only_in_code():
    source = b"'''print(1)'''\n# print(2)\ndef f(x):\n    print (x)\n    self.print(3)\n    breakpoint()\n"
    assert Submission({TV: source}).leftovers() == [f"{TV}:4: print()", f"{TV}:6: breakpoint()"]
    assert Submission({TV: b"def (("}).leftovers() == []


def test_a_broken_file_costs_only_its_own_task(tmp_path):
    """The packages' names are imported each from its own file."""
    root = Submission(
        {"visualizers/gradcam.py": b"def", "visualizers/saliency_map.py": b"class SaliencyMap: pass"}
    )
    folder = root.write(tmp_path, PROJECT)
    names = (folder / "visualizers/__init__.py").read_text()
    module: dict = {"__name__": "visualizers"}
    exec(names, module)
    assert module["NAMES"] == PACKAGES["visualizers"]
    assert (folder / "helpers/models.py").read_bytes() == (PROJECT / "helpers/models.py").read_bytes()
    assert not (folder / TV).exists(), "our own solution must not stand in for what is missing"


def ours(path: Path) -> set[Path]:
    """The files of ours that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = [PROJECT / name.replace(".", "/") for name in names if name]
    files = {place.with_suffix(".py") for place in places} | {place / "__init__.py" for place in places}
    return {file for file in files if file.is_file()}


def test_what_the_graded_files_import_is_laid_beside_them_and_nothing_else_but_helpers():
    graded = {PROJECT / name for name in GRADED_FILES}
    needed: set[Path] = set()
    waiting = set(graded)
    while waiting:
        needed |= waiting
        waiting = set().union(*map(ours, waiting)) - needed
    needed -= graded
    given = {path for pattern in BESIDE_GRADED for path in PROJECT.glob(pattern)}
    assert (
        {PROJECT / "helpers/style_images/brushes.py", PROJECT / "visualizers/mechanisms.py"}
        <= needed
        <= given
    )
    # All of helpers is given, so that a file from another year finds what it knows.
    assert {path for path in given - needed if not path.is_relative_to(PROJECT / "helpers")} == set()


def test_the_helpers_that_are_laid_beside_import_nothing_above_them():
    for path in (PROJECT / "helpers").rglob("*.py"):
        assert all(file.is_relative_to(PROJECT / "helpers") for file in ours(path)), path
