"""The judge as root with all rights and with few, as an ordinary user, and killed: whatever the kernel allows, student
code changes nothing of the judge's, and nothing is left of it.
"""

import contextlib
import ctypes
import errno
import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from grading import confinement
from grading.sandbox import Zygote, _closed_folders, _open_to_all
from grading.submission import Submission
from helpers.errors import CannotError
from tests.test_attacks import _below, honest

PROJECT = Path(__file__).resolve().parent.parent
NOBODY = 65534
ARM = platform.machine() == "aarch64"
UNSHARE, PRCTL = (97, 167) if ARM else (272, 157)
CAP_SYS_ADMIN, PR_CAPBSET_DROP = 21, 24

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the sandbox needs Linux"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]

# What the kernel grants the judge. "without": calls that it refuses, each with a first argument or None for any.
NO_NAMESPACES = [(UNSHARE, None)]
NO_FILTER = [(PRCTL, confinement.PR_SET_SECCOMP)]
NO_LANDLOCK = [(confinement.LANDLOCK_CREATE, None)]
GRANTED = {
    "root": {},
    "root without CAP_SYS_ADMIN": {"drop": True},
    "root in a container": {"drop": True, "without": NO_NAMESPACES},
    "root in a container with a closed Python": {"drop": True, "without": NO_NAMESPACES, "as_it_is": True},
    "a user": {"user": True},
    "a user without namespaces": {"user": True, "without": NO_NAMESPACES},
    "a user without filter": {"user": True, "without": NO_FILTER},
    "a user without namespaces and filter": {"user": True, "without": NO_NAMESPACES + NO_FILTER},
    "a user with nothing": {"user": True, "without": NO_NAMESPACES + NO_FILTER + NO_LANDLOCK},
}
START = """
import json, os, sys
from tests.test_isolation import grant
grant(**json.loads(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-B", *sys.argv[2:]])
"""


def grant(user: bool = False, drop: bool = False, without: list = (), as_it_is: bool = False) -> None:
    """Becomes a process that is granted no more than this."""
    libc = confinement.libc
    if not as_it_is:
        confinement.open_up(_closed_folders())  # the environment of the tests may be in root's home
    if without:
        steps = [(confinement.LOAD, 0, 0, confinement.NUMBER)]
        for number, argument in without:
            refuse = (confinement.RETURN, 0, 0, confinement.ERRNO | errno.EPERM)
            if argument is None:
                steps += [(confinement.EQUAL, 0, 1, number), refuse]
            else:
                steps += [
                    (confinement.EQUAL, 0, 3, number),
                    (confinement.LOAD, 0, 0, confinement.FIRST_ARGUMENT),
                    (confinement.EQUAL, 0, 1, argument),
                    refuse,
                    (confinement.LOAD, 0, 0, confinement.NUMBER),
                ]
        steps.append((confinement.RETURN, 0, 0, confinement.ALLOW))
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
        program = struct.pack("HP", len(steps), ctypes.addressof(code))
        mode = confinement.SECCOMP_MODE_FILTER
        confinement.check(libc.prctl(confinement.PR_SET_SECCOMP, mode, program, 0, 0), "a filter")
    if drop:
        confinement.check(libc.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0), "fewer rights")
    if user:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


# A judge that runs one attack, then says what came of it.
JUDGE = """
import json, os, resource, sys, time
from pathlib import Path
import numpy as np
from grading.protocol import ChildError
from grading.sandbox import Limits, Sandbox, Zygote, notice
folder = Path(sys.argv[1])
attack = folder / "project/style_modules/tv_loss.py"
attack.write_text(attack.read_text().replace("JUDGE", str(os.getpid())))
results = folder / "results"
results.mkdir()
(results / "a.json").write_text("ours")
limits = Limits(call_seconds=25, cpu_seconds=10, total_seconds=120, memory=1 << 30, processes=24)
image = {"image": np.ones((1, 3, 5, 7), np.float32), "weights": np.array([2.0, 3.0])}
kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE)
before = [resource.getrlimit(kind) for kind in kinds]
with Zygote() as zygote:
    print(json.dumps({"judge": os.getpid(), "base": str(zygote.base), "notice": notice()}), flush=True)
    with Sandbox(folder / "project", limits, zygote) as sandbox:
        try:
            answer = sandbox("tv", image)["value"].ravel().tolist()
        except ChildError as error:
            answer = str(error)
        sandbox.end_task()
        homes = len(list(sandbox.base.glob("home*")))
print(json.dumps({
    "answer": answer,
    "homes": homes,
    "remarks": sandbox.remarks,
    "own user": len(sandbox.user_ids) == 1,
    "limits": [resource.getrlimit(kind) for kind in kinds] == before,
    "modes": [oct(path.stat().st_mode)[-3:] for path in (results, results / "a.json") if os.access(path, os.F_OK)],
    "result": (results / "a.json").read_text() if os.access(results / "a.json", os.R_OK) else None,
    "base": zygote.base.exists(),
}), flush=True)
"""


class Judges:
    """Starts processes of JUDGE in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen] = []

    def start(self, source: str, granted: str) -> subprocess.Popen:
        """source: of tv_loss.py."""
        Submission({"style_modules/tv_loss.py": source.encode()}).write(self.folder / "project", PROJECT)
        for package in ("grading", "helpers"):
            (self.folder / package).mkdir(parents=True)
            for path in (PROJECT / package).glob("*.py"):
                shutil.copyfile(path, self.folder / package / path.name)
        (self.folder / "judge.py").write_text(JUDGE)
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            if "user" in GRANTED[granted]:
                os.chown(path, NOBODY, NOBODY)
        command = [sys.executable, "-c", START, json.dumps(GRANTED[granted])]
        process = subprocess.Popen(
            [*command, str(self.folder / "judge.py"), str(self.folder)],
            cwd=PROJECT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process


@pytest.fixture
def judges():
    judges = Judges(Path(tempfile.mkdtemp(prefix="isolation-", dir=_open_to_all(tempfile.gettempdir()))))
    yield judges
    for process in judges.started:
        process.kill()
        process.communicate()
    shutil.rmtree(judges.folder)


ATTACK = """
import ctypes, os, resource, socket
import torch

def limit(pid):
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft - 1, hard))
    return True

def closed(path):
    before = os.stat(path).st_mode
    os.chmod(path, 0)
    return os.stat(path).st_mode != before

def forged(path):
    with open(path, "w") as stream:
        return stream.write("forged")

def sent(kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.connect(("127.0.0.1", PORT))
        return s.send(b"hello")

def memory_without_an_address():
    held = [os.memfd_create("x") for _ in range(60)]
    return all(os.write(one, bytes(30 << 20)) for one in held)

def shared_memory():
    return ctypes.CDLL(None).shmget(0, 1 << 30, 0o1600) >= 0

def deleted_files():
    held = []
    for n in range(30):
        held.append(open("file", "wb", buffering=0))
        os.unlink("file")
        held[-1].write(bytes(30 << 20))
    return os.fstat(held[-1].fileno()).st_blocks >= (30 << 20) / 512

def folders_that_cannot_be_entered():
    os.makedirs("closed/inner")
    os.chmod("closed", 0)
    os.mkdir("locked", 0)

TRIES = {
    "limits of the judge": lambda: limit(JUDGE),
    "limits of the parent": lambda: limit(os.getppid()),
    "results closed": lambda: closed("RESULTS"),
    "a result closed": lambda: closed("RESULTS/a.json"),
    "a result forged": lambda: forged("RESULTS/a.json"),
    "the network": lambda: sent(socket.SOCK_DGRAM),
    "memory without an address": memory_without_an_address,
    "shared memory": shared_memory,
    "deleted files": deleted_files,
    "closed folders": folders_that_cannot_be_entered,
}

def works(action):
    try:
        return bool(action())
    except (OSError, ValueError):
        return False

class TotalVariationLoss(torch.nn.Module):
    def forward(self, img, tv_weight):
        return torch.tensor([works(action) for action in TRIES.values()], dtype=torch.float64)
"""


# What works in spite of all, and what the judge then says.
SAID = {
    "limits of the judge": "processes and files of yours can be changed",
    "results closed": "processes and files of yours can be changed",
    "the network": "student code can use",
    "memory without an address": "shared memory without an address does not count",
    "shared memory": "shared memory without an address does not count",
    "deleted files": "deleted files that are still open do not count",
}
WITHOUT_FILTER = {"memory without an address", "shared memory"}
WITHOUT_BOTH = {
    "limits of the judge",
    "limits of the parent",
    "results closed",
    "the network",
    "deleted files",
}
WORKS = {
    "root": set(),
    "root without CAP_SYS_ADMIN": set(),
    "root in a container": {"deleted files"},
    "root in a container with a closed Python": {"deleted files"},
    "a user": set(),
    "a user without namespaces": {"deleted files"},
    # Its parent is the first process of the namespace, which ends with it.
    "a user without filter": {"limits of the parent"} | WITHOUT_FILTER,
    "a user without namespaces and filter": WITHOUT_FILTER | WITHOUT_BOTH,
    "a user with nothing": WITHOUT_FILTER | WITHOUT_BOTH,
}
QUICK = ("a user", "a user without namespaces")


def some_slow(quick):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in quick)) for name in GRANTED]


@pytest.mark.parametrize("granted", some_slow(QUICK))
def test_what_the_kernel_does_not_prevent_is_said_and_undone(granted, judges):
    with socket.socket(type=socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        source = ATTACK.replace("PORT", str(listener.getsockname()[1]))
        process = judges.start(source.replace("RESULTS", str(judges.folder / "results")), granted)
        out, _ = process.communicate(timeout=150)
    begin, end = map(json.loads, out.splitlines())
    tries = [line.split('"')[1] for line in ATTACK.splitlines() if line.startswith('    "')]
    worked = {name for name, value in zip(tries, end["answer"], strict=True) if value}
    assert worked == WORKS[granted]
    for name in worked - {"limits of the parent"}:
        assert SAID[name] in begin["notice"], name
    said = {name for name, text in SAID.items() if text in begin["notice"]}
    assert said <= worked, "nothing is said to be possible that is not"
    assert ("PID namespace" in begin["notice"]) == (
        "without" in GRANTED[granted] and granted != "a user without filter"
    )
    assert end["limits"], "the judge's own limits are what they were"
    assert bool(end["remarks"]) == ("limits of the judge" in worked)
    assert end["result"] == ("ours" if "results closed" not in worked else None)
    assert not end["homes"] and not end["base"]
    assert end["own user"] == (granted in list(GRANTED)[:3])


# Ends only if somebody ends it: in a session of its own, with a name that is no text, deaf to signals.
DAEMON = """
import ctypes, os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                pass
        ctypes.CDLL(None).prctl(15, MARK, 0, 0, 0)
        os.makedirs("left/behind")
        while True:
            time.sleep(0.05)
    os._exit(0)
time.sleep(600)
"""


def named(mark: bytes) -> list[str]:
    """The processes with this name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_bytes().strip() == mark:
                found.append(process.name)
    return found


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("granted", some_slow(("root",)))
def test_nothing_is_left_of_a_judge_that_was_killed(granted, judges):
    mark = b"\xff\xfe" + os.urandom(4).hex().encode()
    process = judges.start(honest(DAEMON.replace("MARK", repr(mark))), granted)
    base = Path(json.loads(process.stdout.readline())["base"])
    assert wait_for(lambda: named(mark), 60), "the attack has begun"
    assert base.is_dir()
    process.kill()
    process.wait()
    assert wait_for(lambda: not named(mark), 15)
    assert wait_for(lambda: not base.exists(), 15)
    assert wait_for(lambda: not _mentioning(str(base)), 15), "zygote and supervisors have ended, too"


@pytest.mark.slow
def test_nothing_runs_on_after_judge_zygote_and_supervisor_were_killed(judges):
    mark = b"\xff\xfe" + os.urandom(4).hex().encode()
    process = judges.start(honest(DAEMON.replace("MARK", repr(mark))), "root")
    base = Path(json.loads(process.stdout.readline())["base"])
    assert wait_for(lambda: named(mark), 60)
    ours = [process.pid, *_below(process.pid)[:2]]
    for pid in ours:
        os.kill(pid, signal.SIGSTOP)
    for pid in ours:
        os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: not named(mark), 15)
    shutil.rmtree(base)  # the next judge would remove it


def _mentioning(text: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text.encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


def test_a_cgroup_is_made_only_where_its_limits_can_be_set(tmp_path):
    """With files in the place of the kernel's: none of the machines for tests need have the real ones."""
    make = lambda: confinement._cgroup_in(tmp_path, memory=123, processes=7)  # noqa: E731
    assert make() is None
    for controllers in ("", "cpu memory", "pids\n"):
        (tmp_path / "cgroup.subtree_control").write_text(controllers)
        assert make() is None
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    cgroup = make()
    assert cgroup.parent == tmp_path
    written = {path.name: path.read_text() for path in cgroup.iterdir()}
    assert written == {"memory.max": "123", "memory.oom.group": "1", "memory.swap.max": "0", "pids.max": "7"}
    assert confinement.enter_cgroup(str(cgroup)) and (cgroup / "cgroup.procs").read_text() == "0"
    assert not confinement.enter_cgroup(str(tmp_path / "none")) and not confinement.enter_cgroup("")
    for events, full in (("oom 0\noom_kill 0\n", False), ("oom 1\noom_kill 1\n", True)):
        (cgroup / "memory.events").write_text(events)
        assert confinement.was_full(cgroup) is full
    confinement.remove_cgroup(cgroup)
    assert (cgroup / "cgroup.kill").read_text() == "1"


def test_a_task_that_is_refused_more_than_was_said_is_not_run(monkeypatch, tmp_path):
    from grading import sandbox

    assert sandbox.refused() <= {"processes", "files", "proc", "network", "memory", "calls"}
    monkeypatch.setattr(sandbox, "refused", frozenset)
    monkeypatch.setattr(sandbox, "_spawn", lambda *_arguments: (socket.socket(), frozenset({"network"})))
    with Zygote(libraries=False) as zygote, sandbox.Sandbox(tmp_path, zygote=zygote) as box:
        for _ in range(2):
            with pytest.raises(CannotError, match="refuses what it allowed at the start: network"):
                box("tv", {})
            box._channel.close()
            box._channel = None
