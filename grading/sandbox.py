"""Runs a submission's code where it can do no harm: an executor for the judge.

The code runs in a child process (see zygote.py and confinement.py) that knows no secrets: it gets inputs and returns
raw arrays. If we are root, every task has its own user id. What the kernel refuses here, `notice` says. Linux only.
"""

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import random
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from grading import channel as wire
from grading.confinement import PR_SET_DUMPABLE, landlock_version
from grading.protocol import Arrays, ChildError
from grading.zygote import READY, remove
from helpers.errors import CannotError

# The grader's files that student code can read; none of them knows an answer.
BESIDE_THE_STUDENT = (
    *("__init__.py", "channel.py", "confinement.py", "drivers.py", "hints.py", "protocol.py", "zygote.py"),
)
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from grading.zygote import main; main()"
PREFIX = "grading-"  # of the folders in the folder for temporary files
YOUNG = 60.0  # seconds in which a folder of that name may belong to a judge that is just starting
# User ids without an account; a container may be limited to ids below 65536.
PROJECT = Path(__file__).resolve().parent.parent
FIRST_UID, LAST_UID = 20_000, 59_999
# linux/capability.h: what root needs to give each task a user id of its own
RIGHTS = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
START_SECONDS = 120


@dataclass(frozen=True)
class Limits:
    """What one task may use. Code that computes is stopped by the limit on processor time. The limit on wall-clock time
    is for code that sleeps; it is longer, since the machine may be busy.
    """

    call_seconds: float = 30.0
    cpu_seconds: int = 15
    total_seconds: float = 300.0
    memory: int = 3 << 30  # bytes, of all processes of the task together, without torch itself
    file_bytes: int = 32 << 20
    folder_bytes: int = 128 << 20
    processes: int = 48
    open_files: int = 256
    reply_bytes: int = 64 << 20


class Zygote:
    """The process that has imported torch and forks the children. One serves a whole folder, from any thread.

    libraries: False for a process that starts at once and can run no student code.
    """

    def __init__(self, *, libraries: bool = True) -> None:
        # Processes of the same user cannot read the memory of a process with this flag: there are answers in it.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        place = _open_to_all(tempfile.gettempdir())
        _remove_abandoned(Path(place))
        self._libraries = libraries
        self._new_base(place)
        self._lock = threading.Lock()
        self._start()

    def _new_base(self, place: str) -> None:
        """A folder for all files. Its lock lasts as long as this process lives, however it ends."""
        self.base = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        self._held = os.open(self.base, os.O_RDONLY)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        self.base.chmod(0o711)
        trusted = self.base / "trusted" / "grading"
        trusted.mkdir(parents=True)
        for name in BESIDE_THE_STUDENT:
            shutil.copyfile(Path(__file__).with_name(name), trusted / name)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # With -I, Python does not find packages that the user has installed for one account.
        extra = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        own = [str(theirs.fileno()), str(self.base), "libraries" if self._libraries else "none"]
        log = self.base / "log"
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-c", START, str(self.base / "trusted"), *own, *extra],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd="/",
                env={
                    "PATH": "/usr/bin:/bin",
                    "OMP_NUM_THREADS": "1",
                    "HOME": str(self.base),
                    "MPLBACKEND": "Agg",
                    "TQDM_DISABLE": "1",
                },
                start_new_session=True,  # Ctrl-C reaches only the judge, which then closes its end
            )
        theirs.close()
        self._control = ours
        self._ready = False

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        self._control.settimeout(START_SECONDS)
        try:
            self._ready = bool(self._control.recv(64))
        except TimeoutError:
            self._ready = False
        if not self._ready:
            lines = (self.base / "log").read_text(errors="replace").strip().splitlines() or [
                "no reason given"
            ]
            raise CannotError(f"the process for student code did not start: {lines[-1][:300]}")
        self._control.settimeout(None)

    def session(self, settings: dict) -> socket.socket:
        """Starts a supervisor for one submission; returns the socket for its commands."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._lock:
            message = [json.dumps(settings).encode()]
            self._wait_until_ready()
            try:
                socket.send_fds(self._control, message, [theirs.fileno()])
            except OSError:  # it has ended: start another
                self._process.kill()
                self._stop()
                self._start()
                self._wait_until_ready()
                socket.send_fds(self._control, message, [theirs.fileno()])
        theirs.close()
        return ours

    def close(self) -> None:
        """Ends the process, which then removes the folder."""
        self._stop()
        remove(self.base)
        os.close(self._held)

    def _stop(self) -> None:
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Sandbox:
    """Executes operations on the project in `root`, with a new child and a new folder for each operation.

    `root` is copied, so that the code cannot change it. Pass a `zygote` to share one between submissions. After a call
    without an answer in time, or one that killed its child, the same operation is not tried again. Raises ChildError
    (see grading.protocol), and CannotError if no child can be started.
    """

    def __init__(self, root: Path, limits: Limits | None = None, zygote: Zygote | None = None) -> None:
        self.limits = limits or Limits()
        self._own = zygote is None
        self._zygote = zygote or Zygote()
        self.base = Path(tempfile.mkdtemp(dir=self._zygote.base))
        self.base.chmod(0o711)
        self._stage = self.base / "stage"
        shutil.copytree(root, self._stage, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (self._stage, *self._stage.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self._settings = _settings(self._stage, self.limits) | {
            "processes": self.limits.processes + (0 if separate_user() else _processes_of_mine()),
        }
        self._session = self._zygote.session(self._settings)
        self._deadline = time.monotonic() + self.limits.total_seconds
        self._operation: str | None = None
        self._channel: socket.socket | None = None
        self._home: Path | None = None
        self._hopeless: dict[str, ChildError] = {}
        self.user_ids: list[int] = []  # that tasks ran under
        self.remarks: list[str] = []  # what the code did to us
        self._limits_of_ours = _limits_of_ours()

    def __call__(self, operation: str, inputs: Arrays) -> Arrays:
        if operation in self._hopeless:
            raise self._hopeless[operation]
        if time.monotonic() > self._deadline:
            raise ChildError("timeout", f"the submission used up its {self.limits.total_seconds:g} s")
        if operation != self._operation:
            try:
                self.end_task()
                self._begin(operation)
            except OSError:
                # The supervisor has ended: without a user id of its own, student code can kill it.
                self._renew()
                self._begin(operation)
        call = secrets.token_hex(8)
        deadline = min(time.monotonic() + self.limits.call_seconds, self._deadline)
        assert self._channel is not None  # since the task began
        try:
            self._channel.settimeout(self.limits.call_seconds)
            wire.send(self._channel, {"operation": operation, "call": call}, inputs)
            header, outputs = wire.receive(self._channel, cap=self.limits.reply_bytes, deadline=deadline)
        except (OSError, EOFError, wire.ChannelError) as error:
            self._hopeless[operation] = self._why(error)
            raise self._hopeless[operation] from error
        if header.get("call") != call:
            self.end_task()
            self._hopeless[operation] = ChildError(
                "protocol", "it answers another question than the one asked"
            )
            raise self._hopeless[operation]
        if "error" in header:
            raise _told(header)
        return outputs

    def _begin(self, operation: str) -> None:
        uid = _free_uid() if separate_user() else None
        self._home = self.base / f"home-{secrets.token_hex(4)}"
        if uid is not None:
            self.user_ids.append(uid)
        self._channel, refused_now = _spawn(self._session, self._home, uid)
        if more := refused_now - refused():
            raise CannotError(f"the kernel refuses what it allowed at the start: {', '.join(sorted(more))}")
        self._operation = operation

    def _renew(self) -> None:
        self._session.close()
        self._channel, self._operation = None, None
        self._session = self._zygote.session(self._settings)

    def end_task(self, ask: bool = False) -> dict:
        """Ends the running child and all that it started, and removes its folder. With `ask`, returns how it ended."""
        if self._channel is None or self._home is None:
            return {}
        self._session.send(json.dumps({"do": "end", "ask": ask}).encode())
        ended = _hear(self._session)
        self._channel.close()
        self._channel, self._operation = None, None
        remove(self._home)
        self._restore_limits()
        return ended

    def _restore_limits(self) -> None:
        """Where neither a PID namespace nor a filter of system calls can be had, code of our own user can lower our
        limits.
        """
        for name, limit in _limits_of_ours().items():
            before = self._limits_of_ours[name]
            if limit == before:
                continue
            kind = getattr(resource, name)
            try:
                resource.setrlimit(kind, before)
                self.remarks.append(f"the code lowered the grader's own limit {name}, which was set back")
            except (OSError, ValueError):  # only root can raise the hard limit again
                resource.setrlimit(kind, (limit[1], limit[1]))
                self.remarks.append(f"the code lowered the grader's own limit {name} to {limit[1]} for good")
                self._limits_of_ours[name] = resource.getrlimit(kind)

    def _why(self, error: Exception) -> ChildError:
        try:
            ended = self.end_task(ask=True)
        except OSError:
            self._renew()
            return ChildError("died", "the code ended the process that supervises it")
        status = ended.get("status")
        if ended.get("reason") == "memory":
            return ChildError("memory", f"used more than {self.limits.memory / 2**30:g} GB of memory")
        if ended.get("reason") == "disk":
            return ChildError("died", f"wrote more than {self.limits.folder_bytes >> 20} MB to disk")
        if isinstance(error, TimeoutError):
            return ChildError("timeout", f"no answer within {self.limits.call_seconds:g} s")
        if isinstance(error, wire.ChannelError):
            return ChildError("protocol", f"the answer is not plain numbers of a reasonable size: {error}")
        if status == -24:  # SIGXCPU
            return ChildError("timeout", f"computed for more than {self.limits.cpu_seconds} s")
        if status is None or status >= 0:
            return ChildError("died", f"the code ended the interpreter (exit status {status})")
        return ChildError("died", f"the interpreter was killed by signal {-status}")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.end_task()
        self._session.close()
        if self._own:
            self._zygote.close()
        else:
            remove(self.base)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def _limits_of_ours() -> dict[str, tuple[int, int]]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def _settings(stage: Path, limits: Limits) -> dict:
    return asdict(limits) | {
        "stage": str(stage),
        "hidden": [str(PROJECT)],
        "landlock": landlock_version() > 0,
        "closed": _closed_folders(),
    }


def _spawn(session: socket.socket, home: Path, uid: int | None) -> tuple[socket.socket, frozenset[str]]:
    """Has a supervisor start a child -> the channel to it, and the names of what the kernel refused it."""
    home.mkdir(mode=0o700)
    if uid is not None:
        os.chown(home, uid, uid)
    ours, theirs = socket.socketpair()
    request = {"do": "spawn", "uid": uid, "home": str(home)}
    with theirs:
        socket.send_fds(session, [json.dumps(request).encode()], [theirs.fileno()])
        _hear(session)
    ours.settimeout(60)
    told = ours.recv(1000)  # sent before any student code runs
    if not told.startswith(READY):
        raise CannotError(f"no isolated process can be started here: {told.decode(errors='replace')}")
    return ours, frozenset(json.loads(told.removeprefix(READY)))


def _hear(session: socket.socket) -> dict:
    """The answer of a supervisor."""
    session.settimeout(60)
    try:
        data = session.recv(wire.HEADER_BYTES)
    except TimeoutError:
        data = b""
    if not data:
        raise ConnectionError("the process that supervises student code has ended")
    return json.loads(data)


@functools.cache
def refused() -> frozenset[str]:
    """What the kernel refuses here (the names in grading.confinement), as a child says that was started for this."""
    with Zygote(libraries=False) as zygote, zygote.session(_settings(zygote.base, Limits())) as session:
        channel, names = _spawn(session, zygote.base / "home", None)
        channel.close()
    return names


def notice() -> str:
    """One line about missing isolation, or nothing."""
    lacking = []
    if os.geteuid() != 0:
        lacking.append("not root, so student code runs under your user id")
    elif not separate_user():
        lacking.append(f"{_why_no_user()}, so student code runs as root, without root's rights")
    if not landlock_version():
        lacking.append("this kernel has no Landlock, so student code can read what all users can")
    lacking += [text for name, text in _effects().items() if name in refused()]
    return f"reduced isolation: {'; '.join(lacking)}" if lacking else ""


def _effects() -> dict[str, str]:
    """Name of what the kernel may refuse -> what that means."""
    if "calls" not in refused():
        network = "so only the filter of system calls keeps student code from the network"
    elif landlock_version() >= 4:
        network = "so student code can use UDP and local sockets"
    else:
        network = "so student code can use the network"
    own = (
        ""
        if separate_user() or "processes" not in refused()
        else ", and processes and files of yours can be changed"
    )
    return {
        "processes": "no PID namespace is allowed here, so student code sees other processes and is ended by the "
        "grader instead of the kernel",
        "files": "no mount namespace is allowed here, so student code writes to the disk, where deleted files that "
        "are still open do not count",
        "proc": "no /proc of its own is allowed here, so student code sees the names of other processes",
        "network": f"no network namespace is allowed here, {network}",
        "memory": "no cgroup (v2) with limits can be made here, so memory is measured four times a second instead of "
        "limited",
        "calls": "no filter of system calls (seccomp) can be used here, so shared memory without an address does not "
        f"count{own}",
    }


def separate_user() -> bool:
    """Whether a task can have its own user id: we are root with the rights for it, and other users can be given access
    to our Python.
    """
    return os.geteuid() == 0 and not _why_no_user()


def _why_no_user() -> str:
    lines = Path("/proc/self/status").read_text(errors="replace").splitlines()
    effective = int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
    if missing := [name for name, bit in RIGHTS.items() if not effective >> bit & 1]:
        return f"root lacks {', '.join(missing)} here"
    if _closed_folders() and "files" in refused():
        return f"{sys.base_prefix} cannot be read by other users"
    return ""


@functools.cache
def _closed_folders() -> dict[str, list[str]]:
    """Folders of our Python that other users cannot enter -> the paths in them that are needed."""
    closed: dict[str, list[str]] = {}
    for path in dict.fromkeys((sys.prefix, sys.base_prefix, str(Path(np.__file__).parents[1]))):
        shut = [place for place in reversed(Path(path).parents) if not place.stat().st_mode & 0o001]
        if shut:
            closed.setdefault(str(shut[0]), []).append(path)
    return closed


def _open_to_all(folder: str) -> str:
    """`folder`, or another folder for temporary files if other users cannot enter it."""
    for place in (folder, "/tmp", "/var/tmp"):
        if all(parent.stat().st_mode & 0o001 for parent in (Path(place), *Path(place).parents)):
            return place
    return folder


def _free_uid() -> int:
    import pwd

    taken = {entry.pw_uid for entry in pwd.getpwall()}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            taken.add(process.stat().st_uid)
    # Random, so that two graders on one machine choose different ids.
    draw = random.SystemRandom()
    while (uid := draw.randint(FIRST_UID, LAST_UID)) in taken:
        pass
    return uid


def _processes_of_mine() -> int:
    """The number of threads of this user, which count toward the limit on processes."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == os.geteuid():
                count += len(list((process / "task").iterdir()))
    return count


def _told(header: dict) -> ChildError:
    try:
        return ChildError(header["error"], str(header["message"]))
    except (ValueError, KeyError):
        return ChildError("protocol", "the answer has another form")


def _remove_abandoned(place: Path) -> None:
    """Removes the folders of judges that were killed together with all their processes."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            ours = found.st_uid == os.geteuid() and (folder / "trusted" / "grading" / "zygote.py").is_file()
            if not ours or time.time() - found.st_mtime < YOUNG:
                continue
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its judge lives
                remove(folder)
            finally:
                os.close(held)
