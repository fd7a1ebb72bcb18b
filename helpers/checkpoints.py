"""Checkpoint files as people have them: weights nested in other things, under prefixes, of other precisions.

A checkpoint is read with `weights_only`, so it cannot run code. `read_checkpoint` finds the names with tensors in it,
`fitted` gives them the names of a network.
"""

import argparse
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers.errors import CannotError

# Where training programs keep the weights, in the order in which they are looked for.
KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights")
KEYS += ("state_dict_ema", "model_ema", "ema", "params", "state")
# Parts of a name that wrappers add: nn.DataParallel, torch.compile.
WRAPPERS = ("module", "_orig_mod")
# Plain data that checkpoints hold beside tensors: the training program's options, the best accuracy.
DATA: list[Any] = [argparse.Namespace, np.dtype, np.empty(0).__reduce__()[0]]
DATA += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64")]
DATA += [np.float64(0).__reduce__()[0]]
# Names of DenseNets before torchvision 0.3, which its own files still have.
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")
AUXILIARY = re.compile(r"(^|\.)(aux\d|AuxLogits)\.")
SHOWN = 3  # names in an error
# How files begin that torch.save writes, and those that it wrote before torch 1.6.
ARCHIVE, OLD = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
INCOMPLETE = "is incomplete, its end is missing: download or copy it again"
DAMAGED = "is damaged: download or copy it again"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The names and tensors in a checkpoint file, floating-point ones in single precision. Raises CannotError where the
    file is missing, cannot be read, is empty, incomplete, damaged, no checkpoint, or holds no names with tensors.
    """
    try:
        if path.exists() and not path.is_file():
            raise CannotError(f"--weights {path} cannot be read: it is not a regular file")
        with path.open("rb") as file:
            start = file.read(len(OLD))
            problem = _archive_problem(file) if start.startswith(ARCHIVE) else ""
    except FileNotFoundError as error:
        raise CannotError(
            f"--weights {path}: no such file (and not one of packaged, torchvision, random)"
        ) from error
    except OSError as error:
        raise CannotError(f"--weights {path} cannot be read: {error.strerror or error}") from error
    if not start:
        problem = "is empty: download or copy it again"
    if problem:
        raise CannotError(f"--weights {path} {problem}")
    try:
        with torch.serialization.safe_globals(DATA):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not a checkpoint
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if start == OLD and not asked:
            ended = isinstance(error, EOFError | IndexError | struct.error) or "EOF" in str(error)
            raise CannotError(f"--weights {path} {INCOMPLETE if ended else DAMAGED}") from error
        reason = f"it asks for {asked[1]}, which could run code" if asked else "weights_only=True"
        raise CannotError(
            f"--weights {path}: not a checkpoint that torch reads safely ({reason}): save model.state_dict() alone"
        ) from error
    state = _find_state(content)
    if state is None:
        found = (
            ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
        )
        raise CannotError(f"--weights {path}: contains no state dict (names with tensors), but {found}")
    return {str(name): value.float() if value.is_floating_point() else value for name, value in state.items()}


def _archive_problem(file: IO[bytes]) -> str:
    """What is wrong with an archive of torch.save, "" if nothing is. torch.load compares no checksums: it would read
    other numbers in silence.
    """
    try:
        if not zipfile.is_zipfile(file):  # the list of contents is at the end
            return INCOMPLETE
        with zipfile.ZipFile(file) as archive:
            # torch.serialization.set_crc32_options(False) writes zeros for checksums.
            checked = any(entry.CRC for entry in archive.infolist())
            return DAMAGED if checked and archive.testzip() else ""
    except OSError:
        raise
    except Exception:  # zipfile raises many kinds
        return DAMAGED


def _find_state(content: Any) -> Mapping[Any, Tensor] | None:
    """The first names with tensors in a checkpoint's content, however deep under KEYS, or under its only key."""
    if not isinstance(content, Mapping):
        return None
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if len(tensors) == len(content) > 0 or any(value.dim() > 1 for value in tensors.values()):
        return tensors
    inner = [content[key] for key in KEYS if key in content]
    for value in inner or (list(content.values()) if len(content) == 1 else []):
        if (state := _find_state(value)) is not None:
            return state
    return None


def class_count(model: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """How many classes the checkpoint's network has, if not as many as the model's (which has a thousand): the one
    number that its last layers have in the place of the model's. None where they agree, or nothing is to be seen.
    """
    own = model.state_dict()
    state = renamed(own, state)
    counts = {
        state[name].shape[0]
        for name, value in own.items()
        if name in state and value.shape != state[name].shape and value.shape[1:] == state[name].shape[1:]
    }
    return counts.pop() if len(counts) == 1 else None


def has_auxiliary_heads(state: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint of GoogLeNet or Inception has the heads that only training uses."""
    return any(AUXILIARY.search(name) for name in state)


def _bare(name: str) -> str:
    """A name without the parts that wrappers add, wherever they stand."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def renamed(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state under the names that the network `own` has: without what wrappers add, and without the prefix that
    most of its names share. With a prefix, names that do not have it belong to something else and are left out. A list
    of tensors without names (keys 0, 1, 2, ...) is taken in the network's order, if every shape fits.
    """
    if all(name.isdigit() for name in state):
        learned = [name for name in own if not name.endswith("num_batches_tracked")]
        ordered = [state[name] for name in sorted(state, key=int)]
        for names in (list(own), learned):
            if [own[name].shape for name in names] == [value.shape for value in ordered]:
                return dict(zip(names, ordered, strict=True))
    if not any(part in WRAPPERS for name in own for part in name.split(".")):
        state = {_bare(name): value for name, value in state.items()}
    # The last is the counter of torch's averaged models.
    state = {OLD_DENSENET.sub(r"\1\2", name): state[name] for name in state if name != "n_averaged"}
    prefixes = Counter(
        name[: -len(ending)]
        for name in state
        for i in range(name.count(".") + 1)
        if (ending := name.split(".", i)[-1]) in own
    )
    prefix = max(prefixes, key=lambda p: (prefixes[p], -len(p)), default="")
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def fitted(model: nn.Module, state: Mapping[str, Tensor], what: str) -> nn.Module:
    """The model with the weights of a checkpoint. Raises CannotError, with three names and their number, where they do
    not fit. `what`: the network's name.
    """
    own = model.state_dict()
    state = renamed(own, state)
    wrong = [
        f"{name} has the shape {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and value.shape != state[name].shape
    ]
    if not wrong:
        # Old names of parts are known to torchvision's own modules.
        keys = model.load_state_dict(dict(state), strict=False, assign=True)
        wrong += [f"{name} is missing" for name in keys.missing_keys]
        wrong += [f"{name} is not in the network" for name in keys.unexpected_keys]
    if wrong:
        more = f" (and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""
        raise CannotError(f"the checkpoint does not fit {what}: {', '.join(wrong[:SHOWN])}{more}")
    return model
