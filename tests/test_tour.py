"""The notebook docs/tour.ipynb: each part is whole, and it runs from top to bottom, offline, from two folders."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TOUR = ROOT / "docs/tour.ipynb"
# In place of the cell of settings: the same techniques, in seconds.
SMALL = 'PHOTO = "coffee"\nSTEPS = SAMPLES = 2\nSIDE = 48\nPAINT_STEPS = 1\n'
OFFLINE = """import socket

def refuse(*_arguments, **_options):
    raise OSError("this test has no network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="module")
def cells():
    return json.loads(TOUR.read_text(encoding="utf-8"))["cells"]


def text_of(cell):
    return "".join(cell["source"])


def parts(cells):
    """The numbered parts: of each its title, its prose and its code."""
    found = []
    for cell in cells:
        text = text_of(cell)
        if title := re.match(r"## \d+\. (.+)", text):
            found.append((title[1], [], []))
        elif text.startswith("## "):
            break
        if found:
            found[-1][1 if cell["cell_type"] == "markdown" else 2].append(text)
    return found


def test_each_part_has_a_formula_code_something_to_try_and_a_question_with_its_answer_folded(cells):
    found = parts(cells)
    assert len(found) == 10
    for title, prose, code in found:
        prose = "\n".join(prose)
        assert "$" in prose and len(code) == 1, title
        assert prose.count("**Try:**") == prose.count("**Question.**") == 1, title
        folded = re.search(r"<details><summary>Answer</summary>\n\n(.+?)\n\n</details>", prose, re.DOTALL)
        assert folded and len(folded[1]) > 80, title
        assert prose.index("**Question.**") < folded.start(), title


def test_each_part_shows_what_it_made(cells):
    shown = 0
    for cell in cells:
        if cell["cell_type"] == "code":
            compile(text_of(cell), "cell", "exec")
        for output in cell.get("outputs", []):
            assert output["output_type"] in ("execute_result", "stream"), text_of(cell)
            data = output.get("data", {})
            assert "image/png" not in data  # the same picture as JPEG is a tenth of it
            if "image/jpeg" in data:
                Image.open(io.BytesIO(base64.b64decode("".join(data["image/jpeg"])))).verify()
                shown += 1
    assert shown == 9  # of ten parts: the losses are numbers


def test_it_is_small_and_says_nothing_of_the_machine_that_ran_it(cells):
    text = TOUR.read_text(encoding="utf-8")
    assert len(text) < 400_000
    assert not re.search(r"/(home|tmp|root|work|usr)/", text)
    assert not [cell for cell in cells if "execution" in cell["metadata"]]


def test_every_link_has_a_target(cells):
    links = [link for cell in cells for link in re.findall(r"\]\(([^)#]+)\)", text_of(cell))]
    assert links
    for link in links:
        assert (TOUR.parent / link).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["", "docs"], ids=["root", "docs"])
def test_it_runs_from_top_to_bottom_offline(folder, monkeypatch):
    pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -r requirements-dev.txt")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install -r requirements-dev.txt")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import run_tour
    from nbformat.v4 import new_code_cell

    notebook = run_tour.read()
    (settings,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    given = re.findall(r"^[A-Z_]+(?= =)", settings.source, re.MULTILINE)
    assert set(given) == set(re.findall(r"[A-Z_]+(?= =)", SMALL))
    settings.source = SMALL
    notebook.cells.insert(0, new_code_cell(OFFLINE))
    run_tour.run(notebook, ROOT / folder)
    run_tour.lighten(notebook)
    drawn = [o for c in notebook.cells for o in c.get("outputs", []) if "image/jpeg" in o.get("data", {})]
    assert len(drawn) == 9
    assert all(list(output["data"]) == ["image/jpeg"] for output in drawn)
