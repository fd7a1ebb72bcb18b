"""Checkpoints and networks as people have them: nested, prefixed, other precisions, other classes, other outputs."""

import argparse
import copy
import io
import json
import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import class_visualization
import gradcam_visualization
import saliency_visualization
from extras.attribution.cam import cam_at
from extras.attribution.evaluation import cascade, deletion_insertion
from extras.attribution.methods import METHODS, completeness_error
from helpers.checkpoints import read_checkpoint
from helpers.data_utils import names_for, read_labels
from helpers.errors import CannotError, UsageError
from helpers.image_batch import load_batch
from helpers.models import SqueezeNet, load_classifier
from style_modules import ContentLoss, StyleLoss, TotalVariationLoss
from visualizers import GradCam, SaliencyMap
from visualizers.mechanisms import frozen_eval, map_layers, selected_output


@pytest.fixture(scope="module")
def small() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.shufflenet_v2_x0_5(weights=None).eval()


@pytest.fixture(scope="module")
def X() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def loaded(content: object, tmp_path, name: str = "shufflenet_v2_x0_5") -> nn.Module:
    path = tmp_path / "mine.pth"
    torch.save(content, path)
    return load_classifier(name, str(path))


def with_names(state: dict, change) -> dict:
    return OrderedDict((change(name), value) for name, value in state.items())


SHAPES = {
    "state_dict": lambda state: {
        "epoch": 3,
        "state_dict": state,
        "optimizer": {"state": {}, "param_groups": []},
    },
    "model": lambda state: {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 90},
    "net": lambda state: {"net": state, "acc": np.float64(95.1), "epoch": 7},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": torch.tensor(0.3)},
    "deep": lambda state: {"state": {"model": state}},
    "an unknown only key": lambda state: {"whatever": state},
    "DataParallel": lambda state: with_names(state, "module.{}".format),
    "compiled": lambda state: with_names(state, "_orig_mod.{}".format),
    "compiled within DataParallel": lambda state: with_names(state, "module._orig_mod.{}".format),
    "a part in DataParallel": lambda state: with_names(
        state, lambda n: n.replace("stage2.", "stage2.module.", 1)
    ),
    "Lightning, with a loss of its own": lambda state: {
        "state_dict": with_names(state, "model.{}".format) | {"loss.weight": torch.ones(4)},
        "pytorch-lightning_version": "2.1",
    },
    "a prefix nobody knows": lambda state: with_names(state, "backbone.inner.{}".format),
    "averaged": lambda state: with_names(state, "module.{}".format) | {"n_averaged": torch.tensor(5)},
    "no counters": lambda state: {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")},
    "integer keys": lambda state: dict(enumerate(state.values())),
    "integer keys, learned values alone": lambda state: dict(
        enumerate(v for n, v in state.items() if not n.endswith("num_batches_tracked"))
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_weights_are_found_wherever_they_are(shape, small, X, tmp_path):
    model = loaded(SHAPES[shape](small.state_dict()), tmp_path)
    with torch.no_grad():
        assert torch.equal(model(X), load_into(small)(X))


def load_into(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_single(kind, small, tmp_path):
    state = {n: v.to(kind) if v.is_floating_point() else v for n, v in small.state_dict().items()}
    model = loaded(state, tmp_path)
    for name, value in model.state_dict().items():
        assert value.dtype == small.state_dict()[name].dtype, name
        torch.testing.assert_close(value, state[name].to(value), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "classes"), [("squeezenet", 7), ("shufflenet_v2_x0_5", 2), ("mobilenet_v3_small", 1001)]
)
def test_another_number_of_classes_is_seen_in_the_last_layer(name, classes, tmp_path):
    build = SqueezeNet if name == "squeezenet" else getattr(torchvision.models, name)
    model = loaded({"model": build(num_classes=classes).state_dict()}, tmp_path, name)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, classes)


@pytest.mark.parametrize("auxiliary", [True, False])
def test_googlenet_with_and_without_its_auxiliary_heads(auxiliary, tmp_path):
    theirs = torchvision.models.googlenet(
        weights=None, aux_logits=auxiliary, init_weights=False, num_classes=11
    ).eval()
    state = with_names(theirs.state_dict(), "model.{}".format)
    ours = loaded({"state_dict": state}, tmp_path, "googlenet")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_old_names_that_torchvisions_own_files_have(tmp_path):
    theirs = torchvision.models.densenet121(weights=None, num_classes=5)
    old = with_names(
        theirs.state_dict(), lambda n: n.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")
    )
    assert any(".norm.1." in name for name in old)
    ours = loaded(old, tmp_path, "densenet121")
    assert torch.equal(ours.classifier.weight, theirs.classifier.weight)
    assert torch.equal(
        ours.features.denseblock1.denselayer2.conv2.weight,
        theirs.features.denseblock1.denselayer2.conv2.weight,
    )


def test_a_regnet_from_a_file(tmp_path):
    theirs = torchvision.models.regnet_x_400mf(weights=None, num_classes=4)
    ours = loaded(theirs.state_dict(), tmp_path, "regnet_x_400mf")
    assert torch.equal(ours.fc.weight, theirs.fc.weight)


def test_what_does_not_fit_is_three_keys_and_a_count(small, tmp_path):
    state = dict(small.state_dict())
    state["fc.weight"] = state["fc.weight"][:, :7]
    with pytest.raises(CannotError) as caught:
        loaded(state, tmp_path)
    text = str(caught.value)
    assert text.endswith(
        "does not fit shufflenet_v2_x0_5: fc.weight has the shape (1000, 7) instead of (1000, 1024)"
    )
    with pytest.raises(CannotError) as caught:
        loaded(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), tmp_path)
    text = str(caught.value)
    assert text.count(" is missing") + text.count(" is not in the network") + text.count("shape") == 3
    assert "more)" in text and "\n" not in text
    del state["fc.weight"], state["fc.bias"]
    with pytest.raises(CannotError, match=r"fc.weight is missing, fc.bias is missing$"):
        loaded(state, tmp_path)
    with pytest.raises(CannotError, match="other.weight is not in the network$"):
        loaded(dict(small.state_dict()) | {"other.weight": torch.ones(1)}, tmp_path)


class Marked:
    """Building one would run code of ours."""

    ran: list = []

    def __reduce__(self):
        return self.ran.append, (1,)


def test_a_checkpoint_never_runs_code(small, tmp_path):
    for content in (small, {"state_dict": small.state_dict(), "extra": Marked()}):
        with pytest.raises(CannotError, match="not a checkpoint that torch reads safely .*state_dict"):
            loaded(content, tmp_path)
    assert not Marked.ran
    with pytest.raises(CannotError, match="contains no state dict .* but epoch, loss"):
        loaded({"epoch": 3, "loss": 0.5}, tmp_path)
    with pytest.raises(CannotError, match="contains no state dict .* but list"):
        loaded([1, 2], tmp_path)


# ------------------------------------------------------------------------------------------- class names


def test_labels_are_lines_or_json(tmp_path):
    path = tmp_path / "labels.txt"
    for text in (
        "cat\ndog\n\n",
        "\ufeffcat\r\ndog",
        '["cat", "dog"]',
        '{"1": "dog", "0": "cat"}',
        json.dumps({"0": ["n1", "cat"], "1": ["n2", "dog"]}),
    ):
        path.write_text(text, encoding="utf-8")
        assert read_labels(path) == ["cat", "dog"], text
    for text, message in (
        ("", "is empty"),
        ('{"a": 1}', "the keys 0, 1, 2"),
        ("[1", "not one name per line"),
    ):
        path.write_text(text)
        with pytest.raises(CannotError, match=message):
            read_labels(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CannotError, match="UTF-8"):
        read_labels(path)
    with pytest.raises(CannotError, match="no such file"):
        read_labels(tmp_path / "absent")


def test_names_for_other_numbers_of_classes():
    assert names_for(1000)[1] == "goldfish"
    assert names_for(2) == ["class 0", "class 1"]
    assert names_for(2, ["cat", "dog"]) == ["cat", "dog"]
    with pytest.raises(UsageError, match="3 names, but this network has 2 classes"):
        names_for(2, ["a", "b", "c"])


# ------------------------------------------------------------------------------------------- a network of one's own

CODE = """
import neighbour
import torch
from torch import nn

def good():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, neighbour.CLASSES)
    )

def broken():
    return nn.Linear(1)

def nothing():
    return 5
"""
RUNNERS = (saliency_visualization, gradcam_visualization, class_visualization)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """-> the file of a network of three classes and its labels, in the working folder."""
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "neighbour.py").write_text("CLASSES = 3\n")
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.py"


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_network_of_ones_own_in_every_runner(runner, mine, capsys):
    small = ["--iterations", "2"] if runner is class_visualization else ["--size", "64", "--images", "coffee"]
    small += ["--classes", "bird", "--labels", "labels.txt"]
    assert runner.main(["--quiet", "--model", "mine.py:good", *small, "--output", "a.png"]) == 0
    assert runner.main(["--model", "mine.py:good", *small, "--labels", "mine.py"]) == 2
    assert "names, but this network has 3 classes" in capsys.readouterr().err
    # A recipe may come from anyone, and names code.
    assert runner.main(["--replay", "a.png", "--output", "b.png"]) == 1
    assert "if you trust that file, add --model mine.py:good" in capsys.readouterr().err
    assert runner.main(["--quiet", "--replay", "a.png", "--model", "mine.py:good", "--output", "b.png"]) == 0
    assert (mine.parent / "a.png").read_bytes() == (mine.parent / "b.png").read_bytes()


def test_a_network_of_ones_own_takes_weights_from_a_file(mine):
    model = load_classifier("mine.py:good")
    changed = {name: value + 1 for name, value in model.state_dict().items()}
    torch.save({"net": changed}, "mine.pth")
    found = load_classifier("mine.py:good", "mine.pth").state_dict()
    assert all(torch.equal(found[name], changed[name]) for name in changed)
    assert not load_classifier("mine.py:good", "random").training


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("absent.py:good", CannotError, "there is no file absent.py"),
        ("mine.py:goof", UsageError, "did you mean good"),
        ("mine.py:broken", CannotError, "mine.py:broken: TypeError"),
        ("mine.py:nothing", UsageError, "returns int, not a network"),
    ],
)
def test_what_is_no_network_is_one_line(name, error, message, mine):
    with pytest.raises(error, match=message) as caught:
        load_classifier(name)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------- outputs


class Returning(nn.Module):
    """A convolutional network that returns what `shape` makes of its scores."""

    def __init__(self, shape) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head, self.shape = nn.Linear(4, 5), shape

    def forward(self, x: torch.Tensor) -> object:
        return self.shape(self.head(self.body(x).mean(dim=(2, 3))))


Y = torch.tensor([1, 3])
TECHNIQUES = {
    "saliency": lambda model, X: SaliencyMap().compute_saliency_maps(X, Y, model),
    "grad-cam": lambda model, X: torch.from_numpy(GradCam().grad_cam(X, Y, model, layer="body")),
    "guided": lambda model, X: torch.from_numpy(GradCam().guided_backprop(X, Y, model)),
    "cam_at": lambda model, X: torch.from_numpy(cam_at(["body"], X, Y, model, "layer-cam")["body"]),
    "deeplift": lambda model, X: METHODS["deeplift"].explain(X, Y, model),
    "deletion": lambda model, X: torch.from_numpy(deletion_insertion(X[:, 0], X, Y, model, parts=2).deletion),
    "cascade": lambda model, X: list(cascade(METHODS["saliency"].explain, X[:, 0], X, Y, model))[-1].maps,
    "completeness": lambda model, X: completeness_error(X, X, Y, model),
}


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        (1, lambda s: (None, s)),
        (0, lambda s: [s, 3]),
        ("logits", lambda s: {"aux": 2 * s, "logits": s}),
        (-1, lambda s: (2 * s, s)),
    ],
)
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_one_of_several_outputs_is_chosen_by_its_key(technique, key, shape, X):
    expected = TECHNIQUES[technique](Returning(lambda s: s), X)
    model = Returning(shape)
    with selected_output(model, key) as chosen:
        torch.testing.assert_close(TECHNIQUES[technique](chosen, X), expected)
    assert not model._forward_hooks and not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (lambda s: (s, s), r"returns 2 outputs \(tuple\), not scores .*selected_output\(model, output_key\)"),
        (lambda s: {"out": s}, "returns a dict with 'out'"),
        (lambda s: s[:, 0], r"returns \(2,\), not scores \(N, classes\): .*as \(N, 1\)"),
        (
            lambda s: s[:, :, None, None].expand(-1, -1, 3, 3),
            r"returns \(2, 5, 3, 3\), .*mean\(dim=\(2, 3\)\)",
        ),
        (lambda s: s[:, None], r"returns \(2, 1, 5\)"),
        (lambda s: 3, "returns int"),
    ],
)
@pytest.mark.parametrize("technique", sorted(set(TECHNIQUES) - {"deletion", "cascade"}))
def test_an_output_that_is_no_scores_is_one_clear_error(technique, shape, message, X):
    model = Returning(shape)
    if technique == "deeplift":  # it sees images and baselines together
        message = message.replace("returns \\(2,", "returns \\(4,")
    with pytest.raises(ValueError, match=message) as caught:
        TECHNIQUES[technique](model, X)
    assert "\n" not in str(caught.value)
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_an_output_that_is_not_there_says_what_is(X):
    model = Returning(lambda s: {"out": s})
    with (
        selected_output(model, "logits"),
        pytest.raises(ValueError, match="'logits' is not there: .*'out'"),
        frozen_eval(model),
    ):
        model(X)


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_inference_mode_is_one_clear_error(technique, X):
    model = Returning(lambda s: s)
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        TECHNIQUES[technique](model, X)
    with torch.inference_mode():
        made, images = Returning(lambda s: s), X.clone()
    if technique != "cascade":  # it works on a copy, which is an ordinary one
        with pytest.raises(ValueError, match="inference_mode"):
            TECHNIQUES[technique](made, X)
    with pytest.raises(ValueError, match="made in torch.inference_mode"):
        METHODS["saliency"].explain(images, Y, model)


def test_classes_made_in_inference_mode_are_fine(X):
    with torch.inference_mode():
        y = Y.clone()
    model = Returning(lambda s: s)
    assert torch.equal(METHODS["saliency"].explain(X, y, model), METHODS["saliency"].explain(X, Y, model))


# ------------------------------------------------------------------------------------------- precisions


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_in_the_precision_of_the_images(name, kind, tiny):
    X = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    expected = METHODS[name].explain(X, Y, tiny.float())
    for model in (copy.deepcopy(tiny).to(kind), tiny):  # the network in the same precision, or in single
        found = METHODS[name].explain(X.to(kind), Y, model)
        assert found.dtype == kind
        if name not in ("rise", "vargrad"):  # in half precision small differences of sums are lost
            tolerance = 0.1 if kind == torch.float16 else 1e-4
            torch.testing.assert_close(
                found.double(), expected.double(), rtol=0, atol=tolerance * expected.abs().max().item()
            )


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_the_other_public_functions_answer_in_kind(kind, tiny):
    X, model = torch.randn(2, 3, 20, 20).to(kind), tiny.to(kind)
    assert GradCam().grad_cam(X, Y, model).dtype == np.zeros(0, str(kind).removeprefix("torch.")).dtype
    assert GradCam().guided_backprop(X, Y, model).dtype == np.zeros(0, str(kind).removeprefix("torch.")).dtype
    assert SaliencyMap().compute_saliency_maps(X, Y, model).dtype == kind
    assert completeness_error(X, X, Y, model).dtype == kind
    assert ContentLoss()(1.0, X[:1], X[1:]).dtype == kind
    assert StyleLoss().gram_matrix(X).dtype == kind
    assert TotalVariationLoss()(X[:1], 0.1).dtype == kind
    assert all(np.isfinite(values).all() for values in deletion_insertion(X[:, 0], X, Y, model, parts=2))
    assert list(map_layers(model, X))


# ------------------------------------------------------------------------------------------- sizes


def test_a_size_that_a_network_does_not_take_is_one_line_with_one_that_it_takes():
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[2] != 384:
                raise AssertionError("Wrong image height!\nmore")
            return x.mean(dim=(2, 3)) * self.w

    with pytest.raises(UsageError) as caught:
        load_batch(["coffee"], None, 64, Patches())
    assert (
        str(caught.value)
        == "this network takes no images of 64 x 64 pixels (Wrong image height!): use --size 384"
    )
    assert load_batch(["coffee"], None, 384, Patches()).titles[0].startswith("class ")


def written(content: object, old: bool = False, checksums: bool = True) -> bytes:
    file = io.BytesIO()
    torch.serialization.set_crc32_options(checksums)
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    torch.serialization.set_crc32_options(True)
    return file.getvalue()


STATE = {
    "weight": torch.randn(40, 50, generator=torch.Generator().manual_seed(0)),
    "bias": torch.arange(40.0),
}
ARCHIVE, OLD = written(STATE), written(STATE, old=True)


def changed(data: bytes, at: int) -> bytes:
    """The data with sixteen other bytes at a place, counted from the end if it is negative."""
    at %= len(data)
    return data[:at] + bytes(byte ^ 255 for byte in data[at : at + 16]) + data[at + 16 :]


INCOMPLETE, DAMAGED = "is incomplete, its end is missing", "is damaged"
NOT_ONE = ": not a checkpoint that torch reads safely"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        *((ARCHIVE[:n], INCOMPLETE) for n in (4, 30, 500, len(ARCHIVE) // 2, -100, -1)),
        *((OLD[:n], INCOMPLETE) for n in (15, 16, 40, 150, len(OLD) // 2, -1)),
        # Names in the archive, the numbers themselves, the list of contents, the record at the end.
        *((changed(ARCHIVE, at), DAMAGED) for at in (32, 100, len(ARCHIVE) // 2, -200, -38)),
        (changed(OLD, 30), DAMAGED),
        (b"GIF89a and nothing of this kind", NOT_ONE),
        (b"PK\x05\x06" + bytes(18), NOT_ONE),  # an archive of nothing
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else value,
)
def test_empty_incomplete_and_damaged_files_and_other_ones_have_a_line_each(data, words, tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(data)
    with pytest.raises(CannotError) as caught:
        read_checkpoint(path)
    text = str(caught.value).removeprefix(f"--weights {path}")
    assert text.strip().startswith(words) and "\n" not in text, text


def test_an_archive_of_another_program_is_not_called_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.pth", "w") as archive:
        archive.writestr("word/document.xml", "<document/>")
    with pytest.raises(CannotError, match=NOT_ONE):
        read_checkpoint(tmp_path / "mine.pth")


@pytest.mark.parametrize(
    "data", [ARCHIVE, OLD, written(STATE, checksums=False)], ids=["", "old", "no checksums"]
)
def test_whole_files_are_read(data, tmp_path):
    (tmp_path / "mine.pth").write_bytes(data)
    found = read_checkpoint(tmp_path / "mine.pth")
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_missing_files_and_those_that_cannot_be_read_have_a_line_each(tmp_path):
    with pytest.raises(CannotError, match=r"absent\.pth: no such file"):
        read_checkpoint(tmp_path / "absent.pth")
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CannotError, match=f"{path} cannot be read: it is not a regular file"):
            read_checkpoint(path)
    secret = tmp_path / "secret.pth"
    secret.write_bytes(ARCHIVE)
    with pytest.raises(CannotError, match="cannot be read: Not a directory"):
        read_checkpoint(secret / "mine.pth")
    with pytest.raises(CannotError, match="cannot be read: File name too long"):
        read_checkpoint(tmp_path / ("a" * 300))


def test_a_file_that_others_keep_to_themselves_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / "mine.pth"
    path.write_bytes(ARCHIVE)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(self: object, mode: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(CannotError, match="mine.pth cannot be read: Permission denied"):
        read_checkpoint(path)


def test_a_damaged_checkpoint_ends_a_script_in_one_line(tmp_path, capsys):
    (tmp_path / "mine.pth").write_bytes(ARCHIVE[:-100])
    options = ["--weights", str(tmp_path / "mine.pth"), "--output", str(tmp_path / "a.png")]
    assert saliency_visualization.main(options) == 1
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "a.png").exists()
