"""Runs beside student code: a process that imports torch once, and forks a child for each task.

    judge -> zygote -> supervisor (one per submission) -> child (one per task; only here does student code run)

None of the last three knows a secret. The supervisor watches the child's memory, and at the end it kills all that
the child has started. The child gives up every right that it can before it imports student code.

Started as a script by grading.sandbox, from a folder with this file and its imports only.
"""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

TRUSTED = Path(__file__).resolve().parent.parent
# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
# linux/sched.h
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
# linux/mount.h
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
# linux/landlock.h, the same numbers on every architecture
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ = 0b1101  # execute, read file, read folder
READ_A_FILE = 0b101
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
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

libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Serves sessions until the judge closes its end. argv: the control socket's number, paths to import from."""
    control = socket.socket(fileno=int(sys.argv[1]))
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    sys.path[:] = [str(TRUSTED), *(path for path in sys.path[1:]), *sys.argv[2:]]
    _preload()
    control.send(READY)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, HEADER, 1)
        if not data:
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
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child, reason = 0, ""
    task: dict = {}
    baseline = _resident("self")
    while True:
        if not child or select.select([session], [], [], POLL)[0]:
            data, descriptors, _, _ = socket.recv_fds(session, HEADER, 1)
            if not data:
                return _end_all(child, task.get("uid"))
            request = json.loads(data)
            if request["do"] == "spawn":
                task, reason = {**settings, **request}, ""
                child = os.fork()
                if child == 0:
                    session.close()
                    live(socket.socket(fileno=descriptors[0]), task)
                os.close(descriptors[0])
                session.send(b"{}")
            else:
                ended = _status_of(child) if request["ask"] else None
                _end_all(child, task.get("uid"))
                session.send(json.dumps({"reason": reason, "status": ended}).encode())
                child = 0
        elif not reason:
            reason = _excess(task, baseline)
            if reason:
                _kill(task.get("uid"))


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
    used = sum(max(0, _resident(pid) - baseline) for pid in _processes(task.get("uid")))
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


def _processes(uid: int | None) -> list[int]:
    """The task's processes: those with its user id or, if it has none, the descendants of this supervisor."""
    if uid is None:
        return list(_descendants(os.getpid()))
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid in (uid, 0) and _uid_of(path) == uid:
                found.append(int(path.name))
        except OSError:
            continue
    return found


def _uid_of(process: Path) -> int:
    # In /proc, a process that other processes may not inspect belongs to root, under any user id.
    # Bytes: a process may give itself any name.
    for line in (process / "status").read_bytes().splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return -1


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


def _kill(uid: int | None) -> None:
    """Sends SIGKILL to every process of the task at once."""
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
    deadline = time.monotonic() + 10
    if child:
        _signal(child)
    while time.monotonic() < deadline:
        while _reap():
            pass
        if not child or not _processes(uid):
            return
        _kill(uid)
        time.sleep(0.01)


def _reap() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


# The child


def live(channel: socket.socket, task: Mapping) -> NoReturn:
    """The child: gives up its rights, then answers calls until its channel closes. Never returns."""
    leave = os._exit
    try:
        try:
            _give_up_rights(channel, task)
        except OSError as error:
            channel.sendall(str(error).encode()[:200])
            leave(1)
        channel.sendall(READY)
        _answer(channel, task)
    finally:
        leave(1)


def _give_up_rights(channel: socket.socket, task: Mapping) -> None:
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
    home = task["home"]
    os.environ.update(
        HOME=home, TMPDIR=home, MPLCONFIGDIR=home, MPLBACKEND="Agg", TQDM_DISABLE="1", LANG="C.UTF-8"
    )
    os.environ.update(OMP_NUM_THREADS="1", PATH="/usr/bin:/bin")
    os.chdir(home)
    uid = task.get("uid")
    if uid is not None:
        _open_up(task["closed"])
        libc.unshare(CLONE_NEWNET | CLONE_NEWIPC)  # if this is refused, grading.sandbox.notice says so
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    else:
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC)
    os.umask(0o077)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if task["landlock"]:
        stage = task["stage"]
        prefixes = [f"{prefix}/{name}" for prefix in (sys.prefix, sys.base_prefix) for name in OF_A_PREFIX]
        readable = [*SYSTEM, *prefixes, *sys.path]
        confine([place for path in readable for place in around(path, task["hidden"])] + [stage], [home])
    # Last, since the steps before need memory themselves.
    memory = task["memory"]
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, task["cpu_seconds"], task["cpu_seconds"] + 1),
        (resource.RLIMIT_FSIZE, task["file_bytes"], task["file_bytes"]),
        (resource.RLIMIT_NOFILE, task["open_files"], task["open_files"]),
        (resource.RLIMIT_NPROC, task["processes"], task["processes"]),
        (resource.RLIMIT_DATA, memory, memory),
        (resource.RLIMIT_AS, address_space + memory, address_space + memory),
    ):
        resource.setrlimit(kind, (soft, hard))


def _open_up(closed: Mapping[str, list[str]]) -> None:
    """Makes Python readable if it is in a folder that other users cannot enter (root's home): mounts, for this child
    only, a folder with nothing but the paths that are needed.
    """
    if not closed:
        return
    _check(libc.unshare(CLONE_NEWNS), "a mount namespace")
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "a private mount")
    for folder, paths in closed.items():
        places = [os.open(path, os.O_PATH) for path in paths]
        _check(libc.mount(b"none", folder.encode(), b"tmpfs", 0, b"mode=755,size=1m"), folder)
        for path, place in zip(paths, places, strict=True):
            Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
            source = f"/proc/self/fd/{place}".encode()
            _check(libc.mount(source, path.encode(), None, MS_BIND | MS_REC, None), path)
            os.close(place)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what} was refused")


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


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 if it has none."""
    return max(0, libc.syscall(LANDLOCK_CREATE, None, 0, 1))


def confine(readable: list[str], writable: list[str]) -> None:
    """From here on, this process can use only the listed paths, and cannot signal processes outside."""
    version = landlock_version()
    everything = (1 << {1: 13, 2: 14}.get(version, 15 if version < 5 else 16)) - 1
    attributes = struct.pack("QQQ", everything, 0b11 if version >= 4 else 0, 0b11 if version >= 6 else 0)
    attributes = attributes[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(LANDLOCK_CREATE, attributes, len(attributes), 0)
    if rules < 0:
        raise OSError(ctypes.get_errno(), "Landlock refused its rules")
    for access, paths in ((READ, readable), (READ_A_FILE | 2, DEVICES), (everything, writable)):
        for path in paths:
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            allowed = access if Path(path).is_dir() else access & (READ_A_FILE | 2)
            libc.syscall(LANDLOCK_ADD, rules, 1, struct.pack("=Qi", allowed, place), 0)
            os.close(place)
    if libc.syscall(LANDLOCK_RESTRICT, rules, 0):
        raise OSError(ctypes.get_errno(), "Landlock refused to begin")
    os.close(rules)


def _answer(channel: socket.socket, task: Mapping) -> None:
    from grading.drivers import serve

    sys.path.append(task["stage"])
    serve(channel, Path(task["stage"]))


if __name__ == "__main__":
    main()
