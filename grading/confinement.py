"""What a process gives up before it runs student code, by calls to the Linux kernel.

Every function tells by its result, or by an OSError, what the kernel answered: nothing is assumed. What is refused and
can be done without has a name, and grading.sandbox.notice says what its absence means:

    processes  a PID namespace: when its first process ends, all that was started in it ends
    files      a mount namespace: all files read-only, and a small file system in memory as the only writable folder
    proc       a /proc of its own, without the processes of others
    network    a network namespace without any connection, and an IPC namespace
    memory     a cgroup (v2): limits on all memory and on all processes of the task together
    calls      a filter of system calls (seccomp)

Where namespaces are refused, a user namespace may allow them: root without its usual rights, and ordinary users, first
enter one. Landlock and the limits of setrlimit need no rights.
"""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import secrets
import signal
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
# linux/sched.h
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
ANY_NAMESPACE = 0x7E020000
# linux/mount.h, linux/fcntl.h
MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MOUNT_ATTR_RDONLY, AT_FDCWD, AT_RECURSIVE = 1, -100, 0x8000
# Calls without a function in the C library; the same numbers on every architecture.
MOUNT_SETATTR = 442
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
CAPABILITY_VERSION = 0x20080522  # linux/capability.h
FILES_IN_MEMORY = 20_000  # entries of the writable folder
IDS = 65_536  # user ids of a container

READ = 0b1101  # of Landlock: execute, read file, read folder
READ_A_FILE = 0b101
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
CGROUPS = Path("/sys/fs/cgroup")

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Raises OSError if a call to the kernel failed."""
    if result:
        raise OSError(ctypes.get_errno(), f"{what} was refused")


def die_with_parent() -> None:
    """The kernel kills this process when its parent ends. A change of user or rights undoes this."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


# ------------------------------------------------------------------------------------------ namespaces


def enter_user_namespace() -> None:
    """Where namespaces are refused: enters a user namespace in which they are allowed, if there is such a thing. All
    ids stay what they are. Needs a process with one thread.
    """
    if not _works(_may_make_namespaces) and _works(lambda: _user_namespace() and _may_make_namespaces()):
        check(not _user_namespace(), "a user namespace")


def _may_make_namespaces() -> bool:
    return libc.unshare(CLONE_NEWNS | CLONE_NEWPID) == 0


def _works(step: Callable[[], bool]) -> bool:
    """Whether a step succeeds in a copy of this process: it may leave the process in an unusable state."""
    trial = os.fork()
    if trial == 0:
        try:
            os._exit(not step())
        finally:
            os._exit(1)
    return os.waitpid(trial, 0)[1] == 0


def _user_namespace() -> bool:
    """Enters a new user namespace; a process outside it says which ids it has: all for root, else our own."""
    process = Path(f"/proc/{os.getpid()}")
    uid, gid = os.geteuid(), os.getegid()
    wait, go = os.pipe()
    outside = os.fork()
    if outside == 0:
        try:
            os.read(wait, 1)
            if uid:
                (process / "setgroups").write_text("deny")
            (process / "uid_map").write_text(f"{uid} {uid} 1" if uid else f"0 0 {IDS}")
            (process / "gid_map").write_text(f"{gid} {gid} 1" if uid else f"0 0 {IDS}")
            os._exit(0)
        finally:
            os._exit(1)
    entered = libc.unshare(CLONE_NEWUSER) == 0
    os.write(go, b"!")
    os.close(wait)
    os.close(go)
    return os.waitpid(outside, 0)[1] == 0 and entered


def enter_pid_namespace(unused: Sequence[int]) -> bool:
    """Goes on, with True, in a grandchild in a new PID namespace; or here, with False, if the kernel refuses one.

    The child is the namespace's first process. It ends when the grandchild ends or when our parent does, and then the
    kernel ends all processes of the namespace. This process ends in the same way as the grandchild has ended, so our
    parent can wait for it as for any child. unused: file descriptors for the grandchild alone.
    """
    if libc.unshare(CLONE_NEWPID):
        return False
    die_with_parent()
    listen, tell = os.pipe()
    first = os.fork()
    if first == 0:
        die_with_parent()
        second = os.fork()
        if second == 0:
            return True
        _close(unused)
        while (ended := os.wait())[0] != second:
            pass  # another one whose own parent has ended
        os.write(tell, struct.pack("i", os.waitstatus_to_exitcode(ended[1])))
        os._exit(0)
    _close([*unused, tell])
    told = os.read(listen, 4)
    os.waitpid(first, 0)
    code = struct.unpack("i", told)[0] if told else -signal.SIGKILL
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(max(0, code))


def _close(descriptors: Sequence[int]) -> None:
    for number in descriptors:
        os.close(number)


def leave_the_network() -> bool:
    """From here on, there is no connection to anything, and no shared memory of others."""
    return libc.unshare(CLONE_NEWNET | CLONE_NEWIPC) == 0


# ----------------------------------------------------------------------------------------------- files


def own_files(home: str, user: int, size: int) -> bool:
    """Makes all files read-only for this process and its children, and `home` an empty file system in memory of at
    most `size` bytes. It is gone with the last of these processes. False, if this is refused.
    """
    read_only = struct.pack("4Q", MOUNT_ATTR_RDONLY, 0, 0, 0)
    if (
        libc.unshare(CLONE_NEWNS)
        or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        or libc.syscall(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, read_only, len(read_only))
    ):
        return False
    options = f"size={size},nr_inodes={FILES_IN_MEMORY},mode=700,uid={user}"
    check(libc.mount(b"none", home.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode()), home)
    return True


def own_proc() -> bool:
    """Mounts a /proc that shows only the processes of this PID namespace."""
    return libc.mount(b"none", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None) == 0


def open_up(closed: Mapping[str, Sequence[str]]) -> None:
    """Makes Python readable if it is in a folder that other users cannot enter (root's home): mounts, for this process
    only, a folder with nothing but the paths that are needed.
    """
    if not closed:
        return
    check(libc.unshare(CLONE_NEWNS), "a mount namespace")
    check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "a private mount")
    for folder, paths in closed.items():
        places = [os.open(path, os.O_PATH) for path in paths]
        check(libc.mount(b"none", folder.encode(), b"tmpfs", 0, b"mode=755,size=1m"), folder)
        for path, place in zip(paths, places, strict=True):
            Path(path).mkdir(mode=0o755, parents=True, exist_ok=True)
            source = f"/proc/self/fd/{place}".encode()
            check(libc.mount(source, path.encode(), None, MS_BIND | MS_REC, None), path)
            os.close(place)


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 if it has none."""
    return max(0, libc.syscall(LANDLOCK_CREATE, None, 0, 1))


def allow_paths(readable: Sequence[str], writable: Sequence[str]) -> None:
    """From here on, this process can use only the listed paths, and cannot signal processes outside (Landlock)."""
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
    check(libc.syscall(LANDLOCK_RESTRICT, rules, 0), "Landlock")
    os.close(rules)


# -------------------------------------------------------------------------------------- user and rights


def become(uid: int | None) -> None:
    """Takes the user id of the task, if it has one, and gives up all rights of root."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    # Not even a program with the set-user-id bit gives them back.
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    check(libc.capset(struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)), "an empty set of capabilities")
    # No other process of the same user may look into this one.
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


# ---------------------------------------------------------------------------------------------- limits


def make_cgroup(memory: int, processes: int) -> Path | None:
    """A new cgroup with these limits, or None if we may make none."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = CGROUPS / next((line[3:] for line in lines if line.startswith("0::")), "/").lstrip("/")
        for place in (own, *own.parents):
            if place.is_relative_to(CGROUPS) and (made := _cgroup_in(place, memory, processes)):
                return made
    return None


def _cgroup_in(place: Path, memory: int, processes: int) -> Path | None:
    cgroup = place / f"grading-{secrets.token_hex(6)}"
    try:
        if not {"memory", "pids"} <= set((place / "cgroup.subtree_control").read_text().split()):
            return None
        cgroup.mkdir()
        (cgroup / "memory.max").write_text(str(memory))
        (cgroup / "memory.oom.group").write_text("1")
        (cgroup / "pids.max").write_text(str(processes))
        with contextlib.suppress(FileNotFoundError):  # a kernel that counts no swap
            (cgroup / "memory.swap.max").write_text("0")
    except OSError:
        remove_cgroup(cgroup)
        return None
    return cgroup


def enter_cgroup(cgroup: str | None) -> bool:
    try:
        Path(cgroup or os.devnull, "cgroup.procs").write_text("0")
    except OSError:
        return False
    return True


def was_full(cgroup: Path | None) -> bool:
    """Whether the kernel has ended a process because the cgroup's memory was used up."""
    with contextlib.suppress(OSError, ValueError):
        events = (
            dict(line.split() for line in (cgroup / "memory.events").read_text().splitlines())
            if cgroup
            else {}
        )
        return int(events.get("oom_kill", 0)) > 0
    return False


def remove_cgroup(cgroup: Path | None) -> None:
    """Ends all that runs in the cgroup. One that still ends stays until the next attempt."""
    if cgroup:
        with contextlib.suppress(OSError):
            (cgroup / "cgroup.kill").write_text("1")
        with contextlib.suppress(OSError):
            cgroup.rmdir()


def set_limits(task: Mapping) -> None:
    """Limits of each process. The last step, since the others need memory themselves."""
    memory = task["memory"]
    address_space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
        (resource.RLIMIT_CPU, task["cpu_seconds"], task["cpu_seconds"] + 1),
        (resource.RLIMIT_FSIZE, task["file_bytes"], task["file_bytes"]),
        (resource.RLIMIT_NOFILE, task["open_files"], task["open_files"]),
        (resource.RLIMIT_NPROC, task["processes"], task["processes"]),
        (resource.RLIMIT_DATA, memory, memory),
        (resource.RLIMIT_AS, address_space + memory, address_space + memory),
    ):
        resource.setrlimit(kind, (soft, hard))


# ---------------------------------------------------------------------------------------- system calls

# asm/unistd.h: the number of each call on x86-64 and on 64-bit ARM (None: it does not exist there).
REFUSED_CALLS = {
    # The network, and pairs of sockets, whose buffers count nowhere. io_uring makes sockets, too.
    "socket": (41, 198),
    "socketpair": (53, 199),
    "io_uring_setup": (425, 425),
    # Memory without an address, which no limit of a process counts.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    # Other processes of the same user: the judge's, if we are not root.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Who may use a file: the judge's files have the same user, if we are not root.
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "file_setattr": (469, 469),
    # More rights, in a namespace of its own; and parts of the kernel that nobody needs here.
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
# These change nothing, but say that they have: right code copies a file together with its permissions.
PRETENDED_CALLS = {"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)}
# Refused for some values of the first argument.
CLONE, CLONE3, PRLIMIT, KILL = (56, 220), (435, 435), (302, 261), (62, 129)
EVERYBODY = 0xFFFFFFFF  # process -1: all processes of the user, also the judge if we are not root
# linux/audit.h: what a filter sees as the architecture
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
OF_32_BITS = 0x40000000  # on x86-64, calls from this number on are those of another set
# linux/filter.h, linux/seccomp.h
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # places in struct seccomp_data
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
SECCOMP_MODE_FILTER = 2


def filter_calls() -> bool:
    """Refuses the calls above, for this process and all that it starts. False, if there is no filter here."""
    program = _program(platform.machine())
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    return bool(program) and libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described, 0, 0) == 0


def _program(machine: str) -> bytes:
    """The filter: instructions (what to do, steps to skip if true, if false, a number) that read a system call."""
    if machine not in ARCHITECTURES:
        return b""
    column = list(ARCHITECTURES).index(machine)
    refuse, pretend = (RETURN, 0, 0, ERRNO | errno.EPERM), (RETURN, 0, 0, ERRNO)
    allow = (RETURN, 0, 0, ALLOW)
    steps = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, ARCHITECTURES[machine]),
        refuse,
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, OF_32_BITS),
        refuse,
    ]
    for calls, answer in ((REFUSED_CALLS, refuse), (PRETENDED_CALLS, pretend)):
        for numbers in calls.values():
            number = numbers[column]
            if number is not None:
                steps += [(EQUAL, 0, 1, number), answer]
    # The flags of clone3 are in memory, where a filter cannot look: without it, the C library calls clone.
    steps += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    for call, question, number, if_true, if_false in (
        (CLONE, ANY_BIT, ANY_NAMESPACE, refuse, allow),  # threads and processes, but no namespaces
        (PRLIMIT, EQUAL, 0, allow, refuse),  # its own limits, which is process 0, not those of others
        (KILL, EQUAL, EVERYBODY, pretend, allow),
    ):
        steps += [(EQUAL, 0, 4, call[column]), (LOAD, 0, 0, FIRST_ARGUMENT), (question, 0, 1, number)]
        steps += [if_true, if_false]
    steps.append(allow)
    return b"".join(struct.pack("HBBI", *step) for step in steps)
