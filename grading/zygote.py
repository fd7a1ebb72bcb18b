"""Runs beside student code: a process that imports torch once, and forks a child for each task.

    judge -> zygote -> supervisor (one per submission) -> [namespace's first process ->] child (one per task)

Student code runs in the child alone, and none of the four knows a secret. The supervisor watches how much memory the
child uses, and ends all that the child has started. The child gives up every right that it can before it imports
student code: see grading.confinement. If the judge is killed, zygote and supervisors notice that its end of their
sockets is closed: they end the children, remove all folders, and end themselves.

Started by grading.sandbox, from a folder with this file and its imports only.
"""

import contextlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from grading import confinement

# Folders of the system that Python and its packages need: not /usr, where people put projects, too.
SYSTEM = (
    *("/lib", "/lib32", "/lib64", "/bin", "/etc", "/proc", "/sys/devices/system"),
    *(
        "/usr/lib",
        "/usr/lib32",
        "/usr/lib64",
        "/usr/bin",
        "/usr/local/lib",
        "/usr/local/lib64",
        "/usr/local/bin",
    ),
    *("/usr/share/fonts", "/usr/share/mime", "/usr/share/zoneinfo"),
)
OF_A_PREFIX = ("bin", "lib", "lib32", "lib64", "etc", "ssl", "share/fonts", "pyvenv.cfg")
PRELOADED = (
    *("numpy", "torch", "torchvision", "PIL.Image", "scipy.ndimage", "tqdm"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
)
HEADER = 1 << 16
READY = b"ready"
MAX_DEPTH = 64  # of folders
POLL = 0.25  # seconds between two looks at the child's memory
GRACE = 0.1  # seconds in which the kernel ends a PID namespace


def main() -> NoReturn:
    """Serves sessions until the judge closes its end. argv: the number of the control socket, the folder that is
    removed in the end, whether to import what student code needs, paths to import from.
    """
    control, base, libraries = socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3] == "libraries"
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    confinement.enter_user_namespace()
    confinement.libc.prctl(confinement.PR_SET_DUMPABLE, 0, 0, 0, 0)
    sys.path += sys.argv[4:]
    if libraries:
        _preload()
    control.send(READY)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, HEADER, 1)
        if not data:
            with contextlib.suppress(ChildProcessError):  # no supervisors are left
                while True:
                    os.wait()
            remove(base)
            os._exit(0)  # an ordinary exit of torch takes a second
        if os.fork() == 0:
            control.close()
            try:
                supervise(socket.socket(fileno=descriptors[0]), json.loads(data))
            finally:
                os._exit(0)
        os.close(descriptors[0])
        while _reap():
            pass


def _preload() -> None:
    """Imports all that is slow. With one thread: forking is safe only in a process without other threads."""
    for name in PRELOADED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    # The first optimizer imports parts of torch, which takes more than a second. No backward pass here: autograd may
    # start threads.
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    torch.optim.Adam([parameter]).step()
    importlib.import_module("grading.drivers")


# The supervisor


def supervise(session: socket.socket, settings: Mapping) -> None:
    """Serves one submission: starts children on request, watches the running one, ends it and all it started."""
    confinement.libc.prctl(confinement.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child, reason = 0, ""
    task: dict = {}
    cgroup: Path | None = None
    baseline = _resident("self")
    while True:
        if not child or select.select([session], [], [], POLL)[0]:
            data, descriptors, _, _ = socket.recv_fds(session, HEADER, 1)
            request = json.loads(data or b'{"do": "end", "ask": false}')
            if request["do"] == "spawn":
                task, reason = {**settings, **request}, ""
                cgroup = confinement.make_cgroup(task["memory"] + task["folder_bytes"], task["processes"])
                task["cgroup"] = str(cgroup or "")
                child = os.fork()
                if child == 0:
                    alone = confinement.enter_pid_namespace([session.fileno(), *descriptors])
                    session.close()
                    live(socket.socket(fileno=descriptors[0]), task, alone)
                os.close(descriptors[0])
                session.send(b"{}")
                continue
            ended = _status_of(child) if request["ask"] else None
            reason = reason or ("memory" if confinement.was_full(cgroup) else "")
            _end_all(child, task.get("uid"))
            confinement.remove_cgroup(cgroup)
            child, cgroup = 0, None
            if not data:
                return
            session.send(json.dumps({"reason": reason, "status": ended}).encode())
        elif not reason:
            reason = _excess(task, baseline)
            if reason:
                _kill(child, task.get("uid"))


def _status_of(child: int) -> int | None:
    """The exit code of a child that has ended (minus the number of a signal), None if it still runs."""
    deadline = time.monotonic() + 0.2  # it may be ending, with its channel already closed
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def _excess(task: Mapping, baseline: int) -> str:
    """The limit that the processes of the task together exceed: memory, disk, or nothing."""
    used = sum(max(0, _resident(pid) - baseline) for pid in _descendants(os.getpid()))
    if used > task["memory"]:
        return "memory"
    return "disk" if _size_of(task["home"], task["folder_bytes"]) > task["folder_bytes"] else ""


def _size_of(folder: str, enough: int) -> int:
    """The bytes in a folder; each entry counts as at least one block. Stops counting at `enough`. Folders that are
    nested too deeply count as more than enough.
    """
    total, waiting = 0, [(folder, 0)]
    while waiting and total <= enough:
        place, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return enough + 1
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += max(4096, entry.stat(follow_symlinks=False).st_blocks * 512)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                if total > enough:
                    break
    return total


def _resident(pid: int | str) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as stream:  # noqa: PTH123  read ten times a second
            return int(stream.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _descendants(root: int) -> Iterator[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_bytes()
        except OSError:
            continue
        fields = stat[stat.rfind(b")") + 2 :].split()
        parents.setdefault(int(fields[1]), []).append(int(path.name))
    waiting = [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        waiting += children
        yield from children


def _kill(child: int, uid: int | None) -> None:
    """Sends SIGKILL to every process of the task at once."""
    _signal(child)  # with it, the kernel ends all that is in its PID namespace
    if uid is None:
        for pid in _descendants(os.getpid()):
            _signal(pid)
        return
    # kill(-1) from a process of the same user reaches all of them at once, so that none can escape by forking. Sent
    # from here, as root, it would reach all processes.
    helper = os.fork()
    if helper == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(helper, 0)


def _signal(pid: int) -> None:
    with contextlib.suppress(OSError):  # gone already
        os.kill(pid, signal.SIGKILL)


def _end_all(child: int, uid: int | None) -> None:
    """Ends the child and all that it started: a process without a parent becomes ours, so we have children as long as
    there are any.
    """
    begin = time.monotonic()
    if child:
        _signal(child)
    while time.monotonic() < begin + 10:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        if time.monotonic() > begin + GRACE:
            _kill(child, uid)
        time.sleep(0.002)


def _reap() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


# The child


def live(channel: socket.socket, task: Mapping, alone: bool) -> NoReturn:
    """The child: gives up its rights, says what the kernel refused, then answers calls until its channel closes. Never
    returns. alone: it is in a PID namespace of its own.
    """
    leave = os._exit
    try:
        try:
            refused = _give_up_rights(channel, task, alone)
        except OSError as error:
            channel.sendall(str(error).encode()[:200])
            leave(1)
        channel.sendall(READY + json.dumps(refused).encode())
        _answer(channel, task)
    finally:
        leave(1)


def _give_up_rights(channel: socket.socket, task: Mapping, alone: bool) -> list[str]:
    """Returns the names of what the kernel refused: see grading.confinement."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    keep = channel.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 65536)
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    home, uid = task["home"], task.get("uid")
    os.environ.update(
        HOME=home, TMPDIR=home, MPLCONFIGDIR=home, MPLBACKEND="Agg", TQDM_DISABLE="1", LANG="C.UTF-8"
    )
    os.environ.update(OMP_NUM_THREADS="1", PATH="/usr/bin:/bin")
    got = {"processes": alone, "memory": confinement.enter_cgroup(task["cgroup"])}
    if uid is not None:
        confinement.open_up(task["closed"])
    got["network"] = confinement.leave_the_network()
    got["files"] = confinement.own_files(home, os.geteuid() if uid is None else uid, task["folder_bytes"])
    got["proc"] = alone and got["files"] and confinement.own_proc()
    os.chdir(home)
    confinement.become(uid)
    os.umask(0o077)
    confinement.die_with_parent()
    if task["landlock"]:
        stage = task["stage"]
        prefixes = [f"{prefix}/{name}" for prefix in (sys.prefix, sys.base_prefix) for name in OF_A_PREFIX]
        readable = [*SYSTEM, *prefixes, *sys.path]
        visible = [place for path in readable for place in around(path, task["hidden"])]
        confinement.allow_paths([*visible, stage], [home])
    confinement.set_limits(task)
    got["calls"] = confinement.filter_calls()
    return [name for name, was_allowed in got.items() if not was_allowed]


def around(path: str, hidden: Sequence[str]) -> list[str]:
    """`path` or, if something hidden is in it, all that is in it except that. Landlock can allow, never forbid."""
    real = os.path.realpath(path)
    if any(Path(real).is_relative_to(one) for one in hidden) and not _is_of_python(real):
        return []
    inside = [one for one in hidden if Path(one).is_relative_to(real)]
    if not inside:
        return [real]
    if real in inside:
        return []
    with contextlib.suppress(OSError):
        return [place for entry in sorted(Path(real).iterdir()) for place in around(str(entry), inside)]
    return []


def _is_of_python(path: str) -> bool:
    """Whether `path` belongs to an installed Python: a virtual environment may be inside the project."""
    prefixes = {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    return any(Path(path).is_relative_to(f"{prefix}/{name}") for prefix in prefixes for name in OF_A_PREFIX)


def _answer(channel: socket.socket, task: Mapping) -> None:
    from grading.drivers import serve

    sys.path.append(task["stage"])
    serve(channel, Path(task["stage"]))


# Folders


def remove(folder: str | Path) -> None:
    """Removes a folder, whatever is in it."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(
        folder
    ):  # nested too deeply for Python's recursion, or with a folder that cannot be read
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run(
                [*command, "--", str(folder)],
                check=False,
                stderr=subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin"},
            )
