"""Runs your own code for `check`, on Linux, macOS and Windows: in an ordinary process of its own, with a time limit.

It is no sandbox: the code can do what you can do. See grading.sandbox for the code of other people.
The process imports torch as soon as it is started, while the judge still reads its cases. If it is lost, the next call
starts another one.
"""

import contextlib
import faulthandler
import gc
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NoReturn

from grading import channel as wire
from grading.hints import CALLS, students_line
from grading.protocol import Arrays, ChildError
from helpers.errors import CannotError

PROJECT = Path(__file__).resolve().parent.parent
CALL_SECONDS = 20.0  # for one case; a right solution needs less than one
START_SECONDS = 120.0
GRACE_SECONDS = 3.0  # the process ends itself at its limit and says where it was; then it is killed
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
    "MPLBACKEND": "Agg",
    "PYTHONUTF8": "1",
    "CUDA_VISIBLE_DEVICES": "-1",  # the judge has no GPU
}
STUDENT_PACKAGES = ("helpers", "visualizers", "style_modules", "style_utils")


class OwnProcess:
    """Executes operations on the project in the folder `root`, which may be set after the start.

    Raises ChildError (see grading.protocol), and CannotError if no process can be started.
    """

    def __init__(self, *, call_seconds: float = CALL_SECONDS) -> None:
        self.root: Path | None = None
        self.call_seconds = call_seconds
        self.base = tempfile.TemporaryDirectory(prefix="check-", ignore_cleanup_errors=True)
        self.log = Path(self.base.name) / "log"
        self._operation: str | None = None
        self._start()

    def _start(self) -> None:
        home = Path(tempfile.mkdtemp(dir=self.base.name))
        code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from grading.own import live; live()"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=home,
                env={**os.environ, **SETTINGS},
            )
        assert self._process.stdin is not None and self._process.stdout is not None  # they are pipes
        self._channel = Pipes(self._process.stdout, self._process.stdin)
        self._ready = False

    def __call__(self, operation: str, inputs: Arrays) -> Arrays:
        if self._process.poll() is not None and self._ready:
            self._start()
        if not self._ready:
            self._wait_until_ready()
        call = secrets.token_hex(8)
        header = {
            "operation": operation,
            "call": call,
            "root": str(self.root),
            "fresh": operation != self._operation,
            "seconds": self.call_seconds,
        }
        self._operation = operation
        before, began = self.log.stat().st_size, time.monotonic()
        try:
            with self._killed_after(self.call_seconds + GRACE_SECONDS):
                wire.send(self._channel, header, inputs)
                reply, outputs = wire.receive(self._channel)
        except (OSError, EOFError, ValueError, wire.ChannelError) as error:
            took_long = time.monotonic() - began >= self.call_seconds
            raise self._lost(before, took_long) from error
        if reply.get("call") != call:
            self._stop()
            raise ChildError("protocol", "its process wrote into the judge's pipe")
        if "error" in reply:
            raise ChildError(reply["error"], str(reply["message"]))
        return outputs

    def end_task(self) -> None:
        """The next call imports the student's modules anew."""
        self._operation = None

    def _wait_until_ready(self) -> None:
        try:
            with self._killed_after(START_SECONDS):
                wire.receive(self._channel)
        except (OSError, EOFError, wire.ChannelError) as error:
            self._stop()
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["no reason given"]
            raise CannotError(f"the process for your code did not start: {lines[-1][:300]}") from error
        self._ready = True

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        alarm = threading.Timer(seconds, self._process.kill)
        alarm.daemon = True
        alarm.start()
        try:
            yield
        finally:
            alarm.cancel()

    def _lost(self, before: int, took_long: bool) -> ChildError:
        """Why there was no answer: from how the process ended, and from what it wrote to its log at the end."""
        self._stop()
        with self.log.open("rb") as stream:
            stream.seek(before)
            last = stream.read()[-20_000:].decode(errors="replace")
        place = students_line(re.findall(r'File "(.+?)", line (\d+)', last), Path(str(self.root)))
        where = f" ({place})" if place else ""
        status = self._process.returncode
        if took_long:
            return ChildError(
                "timeout",
                f"no answer within {self.call_seconds:g} s{where}. Is there a loop that never ends?",
            )
        if status < 0 or status > 255:
            return ChildError("died", f"the interpreter crashed (status {status}){where}")
        return ChildError("died", f"the code ended the interpreter (exit status {status}){where}")

    def _stop(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)  # it may be ending, with its pipe already closed
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def close(self) -> None:
        self._process.kill()
        self._stop()
        self.base.cleanup()

    def __enter__(self) -> "OwnProcess":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Pipes:
    """Two pipes as a channel of grading.channel."""

    def __init__(self, source: IO[bytes], target: IO[bytes]) -> None:
        self.source, self.target = source, target

    def sendall(self, data: bytes, /) -> None:
        self.target.write(data)
        self.target.flush()

    def recv_into(self, buffer: memoryview, nbytes: int = 0, /) -> int:
        return self.source.readinto(buffer[: nbytes or None])  # type: ignore[attr-defined]  # IO lacks it

    def settimeout(self, value: float | None, /) -> None:
        raise NotImplementedError("a pipe has no timeout")

    def close(self) -> None:
        for stream in (self.source, self.target):
            with contextlib.suppress(OSError):
                stream.close()


# The process


def live() -> NoReturn:
    """What the process does: imports torch, says that it is ready, then answers calls until its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the judge, which ends this process
    channel = Pipes(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # so that print and input in student code do not reach the pipes
    os.dup2(null, 1)
    gc.disable()
    from grading import drivers

    drivers.torch.set_num_threads(1)
    gc.freeze()
    gc.enable()
    faulthandler.enable(file=2)
    ours = [path for path in sys.path if path and Path(path).resolve() != PROJECT]
    sys.dont_write_bytecode = True
    wire.send(channel, {}, {})

    @contextlib.contextmanager
    def around(header: dict) -> Iterator[None]:
        if header["fresh"]:
            _begin(Path(header["root"]), ours)
        faulthandler.dump_traceback_later(header["seconds"], exit=True, file=2)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    try:
        drivers.serve(channel, around=around)
    finally:
        os._exit(0)  # an ordinary exit of torch takes a second


def _begin(root: Path, paths: list[str]) -> None:
    """Forgets the student's modules, and what they may have set for all of torch."""
    import torch

    for name in list(sys.modules):
        if name.partition(".")[0] in STUDENT_PACKAGES:
            del sys.modules[name]
    sys.path[:] = [str(root), *paths]
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    # A solution may look for torchvision's own blocks in the network: see drivers.tiny_squeezenet.
    graded = {root / file for file, _ in CALLS.values()}
    if any(b"torchvision" in file.read_bytes() for file in graded if file.is_file()):
        import torchvision  # noqa: F401  only so that it is there
