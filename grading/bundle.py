"""The zip to upload to Gradescope: the judge, the cases and the secret, but no solution and no source of a mistake."""

from pathlib import Path

from grading.assess import PRIVATE_BANK, PUBLIC_BANK, bank_and_secret, own_secret
from grading.handout import JUDGE, given_away, marked_regions, pack, solutions
from grading.leaks import find_leaks
from grading.submission import BESIDE_GRADED
from helpers.errors import CannotError
from helpers.files import replace_whole

SCRIPTS = ("setup.sh", "run_autograder")
SANDBOX = ("sandbox", "zygote", "confinement")
GRADESCOPE = ("__init__.py", "__main__.py")


def build(project: Path, output: Path, *, public: bool = False) -> Path:
    """Writes the bundle to `output`. With `public`, it uses the cases of the handout, and marks results as practice."""
    files = bundle_files(project, public=public)
    solved = solutions(project)
    sources = {name: (project / name).read_text(encoding="utf-8") for name in solved}
    known = given_away(sources, {name: marked_regions(source, name) for name, source in sources.items()})
    if leaks := find_leaks(files, known):
        raise CannotError(f"a solution would be in the bundle: {'; '.join(leaks[:5])}")
    with replace_whole(output) as temporary:
        temporary.touch(mode=0o600)  # it holds the secret
        temporary.write_bytes(pack(files, top=""))
    return output


def bundle_files(project: Path, *, public: bool = False) -> dict[str, bytes]:
    """Name -> content. The scripts are at the root, where Gradescope looks for them."""
    here = project / "grading"
    bank_and_secret(public)  # raises CannotError if they are missing or cannot be read
    files = {name: (here / "gradescope" / name).read_bytes() for name in SCRIPTS}
    files |= {f"grading/gradescope/{name}": (here / "gradescope" / name).read_bytes() for name in GRADESCOPE}
    files |= {f"grading/{name}.py": (here / f"{name}.py").read_bytes() for name in (*JUDGE, *SANDBOX)}
    for pattern in BESIDE_GRADED:
        files |= {path.relative_to(project).as_posix(): path.read_bytes() for path in project.glob(pattern)}
    files["requirements.txt"] = (project / "requirements.txt").read_bytes()
    if public:
        files["grading/cases.npz"] = PUBLIC_BANK.read_bytes()
    else:
        files["grading/private/cases.npz"] = PRIVATE_BANK.read_bytes()
        files["grading/private/secret"] = f"{own_secret().hex()}\n".encode()
    return files
