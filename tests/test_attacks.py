"""Submissions that mean harm, or do it by accident. Each must end as an error of its own task or as a correct
answer: nothing forged, nothing hung, no other result lost, no file harmed, no process left.
"""

import json
import os
import socket
import struct
import sys
import sysconfig
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from grading import channel as wire
from grading.protocol import ChildError
from grading.sandbox import Limits, Sandbox, Zygote, notice, separate_user
from grading.submission import Submission
from grading.zygote import around, remove

PROJECT = Path(__file__).resolve().parent.parent
LIMITS = Limits(call_seconds=12, cpu_seconds=3, total_seconds=120, memory=1 << 30, processes=24)
# A fork bomb keeps all its processes busy until each has used up its time.
FEW_PROCESSES = replace(LIMITS, cpu_seconds=1, processes=6)

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the sandbox needs Linux")

IMAGE = {
    "image": np.random.default_rng(0).standard_normal((1, 3, 5, 7)).astype(np.float32),
    "weights": np.array([2.0, 3.0]),
}
FEATURES = {
    "features": np.ones((1, 2, 3, 4), np.float32),
    "target": np.zeros((1, 2, 3, 4), np.float32),
    "weights": np.array([2.0, 3.0]),
}


def true_tv() -> float:
    x = IMAGE["image"].astype(np.float64)
    return float(2 * (np.square(np.diff(x, axis=2)).sum() + np.square(np.diff(x, axis=3)).sum()))


HONEST = """
import torch
class TotalVariationLoss(torch.nn.Module):
    def forward(self, img, tv_weight):
        {before}
        down = img[:, :, 1:] - img[:, :, :-1]
        right = img[:, :, :, 1:] - img[:, :, :, :-1]
        return tv_weight * (down.square().sum() + right.square().sum())
"""


def honest(before: str = "pass", top: str = "") -> str:
    """A correct loss that does `before` in every call and `top` at import."""
    lines = before.strip().splitlines()
    return top + HONEST.format(before="\n        ".join(lines))


def returning(expression: str, top: str = "") -> str:
    """A loss that returns `expression`."""
    return (
        f"import torch\n{top}\nclass TotalVariationLoss(torch.nn.Module):\n"
        f"    def forward(self, img, tv_weight):\n        return {expression}\n"
    )


FORGED = """
class Forged(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (torch.allclose, torch.equal, torch.Tensor.eq, torch.Tensor.__eq__):
            return True
        return super().__torch_function__(func, types, args, kwargs or {})
"""
EQUAL = """
class Equal:
    requires_grad = False
    def __eq__(self, other): return True
    def __array__(self, *a, **k): return self
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
"""
# name -> (source, kinds of error that may come; "right" for a correct answer, "wrong" for a number that is not)
ATTACKS = {
    "os._exit": (honest("import os; os._exit(0)"), {"died"}),
    "os._exit at import": (honest(top="import os; os._exit(0)\n"), {"died"}),
    "sys.exit": (honest("import sys; sys.exit(0)"), {"exception"}),
    "sys.exit at import": (honest(top="import sys; sys.exit(0)\n"), {"exception"}),
    "kill -9 of itself": (honest("import os; os.kill(os.getpid(), 9)"), {"died"}),
    "kill -9 of everybody": (honest("import os; os.kill(-1, 9)"), {"died", "right"}),
    "kill -9 of the parent": (
        honest("import os\ntry: os.kill(os.getppid(), 9)\nexcept OSError: pass"),
        {"died", "right"},
    ),
    "segmentation fault": (honest("import ctypes; ctypes.string_at(0)"), {"died"}),
    "deep recursion": (honest("f = lambda: f(); f()"), {"exception", "died"}),
    "infinite loop": (honest("while True: pass"), {"timeout"}),
    "infinite loop at import": (honest(top="while True: pass\n"), {"timeout"}),
    "endless sleep": (honest("import time; time.sleep(10**6)"), {"timeout"}),
    "10 GB allocation": (honest("hoard = torch.ones(10 * 2**30 // 4)"), {"memory"}),
    "10 GB in bytes": (honest("hoard = bytearray(10 * 2**30)"), {"memory"}),
    "10 GB shared": (
        honest("import mmap; hoard = mmap.mmap(-1, 10 * 2**30); hoard.write(b'x' * 2**30)"),
        {"memory", "exception"},
    ),
    "100 MB of stdout": (honest("for _ in range(100): print('x' * 10**6)"), {"right"}),
    "stderr too": (honest("import os; os.write(2, b'x' * 10**7); os.write(1, b'x' * 10**7)"), {"right"}),
    "prints everywhere": (honest("print(img, tv_weight)", "print('hello')\n"), {"right"}),
    "stdout closed": (honest("import sys; sys.stdout.close()"), {"right"}),
    "all descriptors closed": (honest("import os; os.closerange(0, 4096)"), {"died", "protocol"}),
    "an object equal to everything": (returning("Equal()", EQUAL), {"exception", "timeout", "protocol"}),
    "a tensor that forges comparison": (
        returning("torch.zeros((), requires_grad=True).as_subclass(Forged)", FORGED),
        {"wrong", "exception"},
    ),
    "a float that forges comparison": (
        returning("Everything(0.0)", "class Everything(float):\n    def __eq__(self, other): return True\n"),
        {"wrong"},
    ),
    "torch monkeypatched": (
        returning(
            "torch.zeros((), requires_grad=True)",
            "torch.allclose = torch.equal = torch.Tensor.__eq__ = lambda *a, **k: True\n"
            "import numpy\nnumpy.allclose = numpy.array_equal = lambda *a, **k: True\n"
            "numpy.testing.assert_allclose = lambda *a, **k: None\n",
        ),
        {"wrong"},
    ),
    "drivers replaced": (
        honest(top="import grading.drivers as d\nd.DRIVERS['tv'] = d.DRIVERS['content'] = lambda i: {}\n"),
        {"wrong", "right"},
    ),
    "NaN": (returning("img.sum() * float('nan')"), {"wrong"}),
    "an infinite loss": (returning("img.sum() * float('inf')"), {"wrong"}),
    "a huge output": (returning("torch.zeros(1).expand(2**28)"), {"protocol", "memory", "exception"}),
    "an output of objects": (returning("[object()]"), {"exception", "protocol"}),
    "SIGALRM games": (
        honest(
            "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
            "for n in (2, 15, 24): signal.signal(n, signal.SIG_IGN)\n"
            "while True: pass"
        ),
        {"timeout", "died"},
    ),
    "all signals ignored, asleep": (
        honest(
            "import signal, time\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
            "    except OSError: pass\nwhile True: time.sleep(1)"
        ),
        {"timeout"},
    ),
    "an answer forged on the channel": (
        honest(
            "import os\nfor n in range(3, 99):\n    try: os.write(n, b'\\0\\0\\0\\2{}' * 100)\n"
            "    except OSError: pass"
        ),
        {"protocol", "died"},
    ),
    "an endless header": (
        honest(
            "import os\nfor n in range(3, 99):\n    try: os.write(n, b'\\xff\\xff\\xff\\xff' + b'[' * 10**5)\n"
            "    except OSError: pass"
        ),
        {"protocol"},
    ),
    "too many processes": (
        honest(
            "import os, time\nfor _ in range(200):\n    try:\n        if os.fork() == 0: time.sleep(600)\n"
            "    except OSError: break"
        ),
        {"right"},
    ),
    "fork bomb": (
        honest("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"),
        {"timeout", "died"},
    ),
    "setsid escape": (
        honest(
            "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
            "    time.sleep(600)\n    os._exit(0)"
        ),
        {"right"},
    ),
    "a child that answers too": (honest("import os; os.fork()"), {"right", "wrong", "protocol"}),
    "threads left behind": (
        honest("import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()"),
        {"right"},
    ),
    "disk filled": (
        honest(
            "import pathlib\nfor n in range(10**6):\n    try: pathlib.Path(f'{n}').write_bytes(b'x' * 2**24)\n"
            "    except OSError: break"
        ),
        {"died", "timeout", "right"},
    ),
    "one huge file": (
        honest("try: open('big', 'wb').write(b'x' * 2**28)\nexcept OSError: pass"),
        {"right", "memory"},
    ),
    "a deep folder": (
        honest("import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"),
        {"right", "died"},
    ),
    "a name that is no text": (
        honest(
            "import ctypes, os, time\nctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0)\n"
            "if os.fork() == 0:\n    os.setsid()\n    time.sleep(600)"
        ),
        {"right"},
    ),
    "import of a file that was sent along": (honest(top="import sitecustomize_of_mine\n"), {"import"}),
    "a syntax error": ("def", {"import"}),
    "bytes that are no Python": ("\0\0", {"import", "exception"}),
}
SLOW = {name for name in ATTACKS if ATTACKS[name][1] & {"timeout"}} - {"infinite loop", "fork bomb"}
SLOW |= {
    "disk filled",
    "a deep folder",
    "10 GB in bytes",
    "deep recursion",
    "stderr too",
    "os._exit at import",
}


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        zygote.session({}).close()  # waits until it is ready, so that no test's clock runs meanwhile
        yield zygote


@pytest.fixture
def project(tmp_path):
    """-> a function: source of tv_loss.py -> a laid out submission with a correct content loss beside it."""

    def lay_out(source: str) -> Path:
        content = (PROJECT / "style_modules" / "content_loss.py").read_bytes()
        files = {"style_modules/tv_loss.py": source.encode(), "style_modules/content_loss.py": content}
        return Submission(files).write(tmp_path / "project", PROJECT)

    return lay_out


def outcome(sandbox: Sandbox) -> str:
    """The kind of error, or whether the answer is right."""
    try:
        value = sandbox("tv", IMAGE)["value"].item()
    except ChildError as error:
        return error.kind
    except (KeyError, ValueError):
        return "wrong"
    return "right" if abs(value / true_tv() - 1) < 1e-5 else "wrong"


def left_behind(user_ids: list[int]) -> list[str]:
    """Processes of these users."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines = (process / "status").read_text(errors="replace").splitlines()
        except OSError:
            continue
        uid = next(int(line.split()[1]) for line in lines if line.startswith("Uid:"))
        if uid in user_ids and "State:\tZ (zombie)" not in lines:
            found.append(process.name)
    return found


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in ATTACKS])
def test_an_attack_costs_its_own_task_alone(name, project, zygote):
    source, expected = ATTACKS[name]
    begin = time.monotonic()
    limits = FEW_PROCESSES if name == "fork bomb" else LIMITS
    with Sandbox(project(source), limits, zygote) as sandbox:
        assert outcome(sandbox) in expected
        # The next task gets a fresh child: what the attack did to its own is gone.
        assert sandbox("content", FEATURES)["value"].item() == 2 * 24
        assert time.monotonic() - begin < LIMITS.call_seconds + 30
    assert len(sandbox.user_ids) == 2 * separate_user()
    assert not left_behind(sandbox.user_ids)


@pytest.mark.parametrize(
    "shape",
    [
        [0, 2**31 - 1, 2**31 - 1, 2**31 - 1],
        [2**31 - 1, 2**31 - 1],
        [1 << 27],
        [0] * 8,
        [1] * 9,
        [-1],
        [1.0],
        "1",
    ],
)
@pytest.mark.parametrize("dtype", ["|i1", "<f8", "O", ["<f4"]])
def test_any_announced_shape_is_refused_before_memory_is_taken_or_is_an_array(shape, dtype):
    ours, theirs = socket.socketpair()
    text = json.dumps({"call": "", "arrays": [{"name": "value", "dtype": dtype, "shape": shape}]}).encode()
    with ours, theirs:
        theirs.sendall(struct.pack("!I", len(text)) + text)
        theirs.close()
        try:
            _, arrays = wire.receive(ours)
        except wire.ChannelError:
            assert shape != [0] * 8 or dtype in ("O", ["<f4"])
        else:
            assert arrays["value"].shape == (0,) * 8


@pytest.mark.parametrize("text", ["\ud800", "\x1b]0;title\x07\x1b[2J", "\u202e", "\x9b2J"])
def test_no_message_moves_the_terminal_or_stops_it(text):
    message = ChildError("exception", f"ValueError: a{text}b").message
    assert message.isprintable() and message.encode() and message.startswith("ValueError: a?")


def test_an_operation_that_ended_its_child_is_not_tried_again(project, zygote):
    with Sandbox(project(honest("import os; os._exit(3)")), LIMITS, zygote) as sandbox:
        with pytest.raises(ChildError, match="exit status 3") as first:
            sandbox("tv", IMAGE)
        started = list(sandbox.user_ids)
        with pytest.raises(ChildError) as second:
            sandbox("tv", IMAGE)
    assert second.value is first.value
    assert sandbox.user_ids == started


def test_a_submission_has_a_deadline_of_its_own(project, zygote):
    limits = Limits(call_seconds=30, total_seconds=1)
    with Sandbox(project(honest("import time; time.sleep(600)")), limits, zygote) as sandbox:
        with pytest.raises(ChildError, match="timeout"):
            sandbox("tv", IMAGE)
        with pytest.raises(ChildError, match="used up its 1 s"):
            sandbox("content", FEATURES)


def test_an_exception_names_the_students_line(project, zygote):
    source = (
        "class TotalVariationLoss:\n    def __call__(self, img, w):\n        raise ValueError('too rough')\n"
    )
    with Sandbox(project(source), LIMITS, zygote) as sandbox, pytest.raises(ChildError) as caught:
        sandbox("tv", IMAGE)
    assert caught.value.kind == "exception"
    assert caught.value.message == "ValueError: too rough (style_modules/tv_loss.py:3)"


REACH = """
import os, pathlib
import torch
def tries():
    for path in {paths!r}:
        try:
            pathlib.Path(path).read_bytes()
            yield 1.0
        except OSError:
            yield 0.0
        try:
            pathlib.Path(path).write_text("forged")
            yield 1.0
        except OSError:
            yield 0.0
        try:
            os.remove(path)
            yield 1.0
        except OSError:
            yield 0.0
class TotalVariationLoss(torch.nn.Module):
    def forward(self, img, tv_weight):
        return torch.tensor(list(tries()), dtype=torch.float64)
"""


def test_files_can_be_neither_read_nor_written_nor_deleted(project, zygote, tmp_path):
    secret, results = tmp_path / "secret", tmp_path / "results.json"
    for path in (secret, results):
        path.write_text("ours")
        path.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o1000 == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o007)
    if "no Landlock" in notice():
        pytest.skip("this kernel has no Landlock: files that all users may read or write can be")
    paths = [str(secret), str(results), f"/proc/{os.getpid()}/mem", f"/proc/{os.getpid()}/environ"]
    with Sandbox(project(REACH.format(paths=paths)), LIMITS, zygote) as sandbox:
        reached = sandbox("tv", IMAGE)["value"]
    assert not reached.any()
    assert secret.read_text() == results.read_text() == "ours"


READ_IT = """
def tries(path):
    try:
        return bool(open(path).read())
    except OSError:
        return False
"""


def test_the_project_is_hidden_wherever_it_is(tmp_path):
    """Landlock allows folders with all that is in them."""
    for name in ("lib/python/a.py", "lib/app/grading/b.py", "lib/app2/c.py", "bin/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    hidden = str(tmp_path / "lib/app")
    wanted = [str(tmp_path / name) for name in ("bin", "lib/app2", "lib/python")]
    assert around(str(tmp_path), [hidden]) == wanted
    assert around(hidden, [hidden]) == around(f"{hidden}/grading", [hidden]) == []
    assert around(f"{hidden}2", [hidden]) == [f"{hidden}2"]
    (tmp_path / "link").symlink_to(hidden)
    assert around(str(tmp_path / "link"), [hidden]) == []
    packages = sysconfig.get_paths()["purelib"]  # also of an environment inside the project
    assert around(packages, [sys.prefix, str(Path(sys.prefix).parent)])


@pytest.mark.skipif("no Landlock" in notice(), reason="without Landlock all users' files can be read")
@pytest.mark.parametrize("folder", ["/usr/src", "/usr/local/src", "/usr/share", "/usr/lib"])
def test_a_project_in_a_folder_of_the_system_cannot_be_read(project, zygote, monkeypatch, folder):
    if not os.access(folder, os.W_OK):
        pytest.skip(f"{folder} cannot be written here")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        Path(place).chmod(0o755)
        solution = Path(place, "solution.py")
        solution.write_text("ours")
        monkeypatch.setattr("grading.sandbox.PROJECT", Path(place))
        source = returning(f"torch.tensor(float(tries({str(solution)!r})))", READ_IT)
        with Sandbox(project(source), LIMITS, zygote) as sandbox:
            assert sandbox("tv", IMAGE)["value"].item() == 0
        if folder == "/usr/lib":
            monkeypatch.setattr("grading.sandbox.PROJECT", Path("/nonexistent"))
            with Sandbox(project(source), LIMITS, zygote) as sandbox:
                assert sandbox("tv", IMAGE)["value"].item() == 1, "the attack works where nothing is hidden"


MEMORY = """
import ctypes, os
import torch
class TotalVariationLoss(torch.nn.Module):
    def forward(self, img, tv_weight):
        libc = ctypes.CDLL(None, use_errno=True)
        found = [libc.ptrace(16, pid, None, None) == 0 for pid in ({judge}, os.getppid())]
        for pid in ({judge}, os.getppid()):
            try:
                found.append(bool(open(f"/proc/{{pid}}/maps").read()))
            except OSError:
                found.append(False)
        return torch.tensor(found, dtype=torch.float64)
"""


def test_no_process_of_ours_can_be_looked_into(project, zygote):
    with Sandbox(project(MEMORY.format(judge=os.getpid())), LIMITS, zygote) as sandbox:
        assert not sandbox("tv", IMAGE)["value"].any()


CALL = """
import socket
import torch
def reached(family, kind, address):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(2)
            s.connect(address)
            s.send(b"hello")
        return True
    except OSError:
        return False
class TotalVariationLoss(torch.nn.Module):
    def forward(self, img, tv_weight):
        found = [
            reached(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {tcp})),
            reached(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", {udp})),
            reached(socket.AF_UNIX, socket.SOCK_STREAM, "\\0{name}"),
        ]
        return torch.tensor(found, dtype=torch.float64)
"""


def test_no_socket_leads_out(project, zygote):
    name = f"grading-test-{os.getpid()}"
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
    local = socket.socket(socket.AF_UNIX)
    with tcp, udp, local:
        udp.bind(("127.0.0.1", 0))
        local.bind(f"\0{name}")
        local.listen()
        for listener in (tcp, udp, local):
            listener.setblocking(False)
        source = CALL.format(tcp=tcp.getsockname()[1], udp=udp.getsockname()[1], name=name)
        with socket.create_connection(tcp.getsockname()):
            assert tcp.accept(), "from here it does answer"
        with Sandbox(project(source), LIMITS, zygote) as sandbox:
            sandbox("tv", IMAGE)
        for listen in (tcp.accept, local.accept, lambda: udp.recv(10)):
            with pytest.raises(BlockingIOError):
                listen()


def test_nothing_of_ours_is_in_the_childs_memory_or_surroundings(project, zygote, monkeypatch):
    monkeypatch.setenv("GRADING_TEST_SECRET", "xyzzy")
    source = returning(
        "torch.tensor(float('GRADING_TEST_SECRET' in os.environ or 'grading.judge' in sys.modules))",
        "import os, sys",
    )
    with Sandbox(project(source), LIMITS, zygote) as sandbox:
        assert sandbox("tv", IMAGE)["value"].item() == 0


def test_libraries_come_before_the_students_files(zygote, tmp_path):
    """Not even a torch.py that somehow got beside the graded files is imported."""
    content = (PROJECT / "style_modules" / "tv_loss.py").read_bytes()
    root = Submission({"style_modules/tv_loss.py": content}).write(tmp_path / "project", PROJECT)
    for name in (
        "torch.py",
        "numpy.py",
        "sitecustomize.py",
        "usercustomize.py",
        "random.py",
        "statistics.py",
    ):
        (root / name).write_text("raise SystemExit('imported')")
    with Sandbox(root, LIMITS, zygote) as sandbox:
        assert outcome(sandbox) == "right"


def test_each_task_starts_in_an_empty_folder_of_its_own(project, zygote):
    source = returning(
        "torch.tensor(float(os.listdir() != ['visualization'] or os.path.exists(mark)))",
        "import os\nmark = os.path.join(os.environ['HOME'], '..', 'mark')",
    )
    source += "        \nopen('left', 'w').close() if False else None\n"
    with Sandbox(project(source), LIMITS, zygote) as sandbox:
        assert sandbox("tv", IMAGE)["value"].item() == 0
        home = sandbox._home
        sandbox("content", FEATURES)
        assert not home.exists()


SAME_USER = ("os._exit", "setsid escape", "threads left behind", "infinite loop", "10 GB allocation")


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME_USER)
def test_an_attack_is_held_without_a_user_id_of_its_own(name, project, zygote, monkeypatch):
    monkeypatch.setattr("grading.sandbox.separate_user", lambda: False)
    source, expected = ATTACKS[name]
    with Sandbox(project(source), LIMITS, zygote) as sandbox:
        assert outcome(sandbox) in expected
        assert sandbox("content", FEATURES)["value"].item() == 2 * 24
        sandbox.end_task()
        assert len(_below(zygote._process.pid)) == 1, "the supervisor alone is left"


def _below(root: int) -> list[int]:
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return [int(pid) for pid in children] + [pid for child in children for pid in _below(int(child))]


@pytest.mark.slow
def test_a_zygote_and_a_supervisor_that_were_killed_are_replaced(project):
    with Zygote() as zygote, Sandbox(project(honest()), LIMITS, zygote) as sandbox:
        assert outcome(sandbox) == "right"
        zygote._process.kill()
        assert sandbox("content", FEATURES)["value"].item() == 2 * 24


@pytest.mark.slow
def test_the_supervisors_folders_are_gone_in_the_end(project):
    with Zygote() as zygote:
        with Sandbox(project(honest()), LIMITS, zygote) as sandbox:
            assert outcome(sandbox) == "right"
        base = zygote.base
        assert not list(base.glob("*/stage"))
    assert not base.exists()
    assert zygote._process.poll() is not None


def test_an_abandoned_folder_is_removed_at_the_next_start(tmp_path, monkeypatch):
    """One that looks like the judge's own, whose judge has ended."""
    monkeypatch.setattr("grading.sandbox._open_to_all", lambda _place: str(tmp_path))
    with Zygote(libraries=False) as lives:
        for name in ("grading-abandoned", "grading-new", "grading-of-mine", "other"):
            (tmp_path / name / "trusted/grading").mkdir(parents=True)
            if name != "grading-of-mine":
                (tmp_path / name / "trusted/grading/zygote.py").touch()
        for folder in tmp_path.iterdir():
            if folder.name != "grading-new":
                os.utime(folder, (0, 0))
        with Zygote(libraries=False) as zygote:
            kept = {path.name for path in tmp_path.iterdir()} - {zygote.base.name}
    assert kept == {"grading-new", "grading-of-mine", "other", lives.base.name}


def test_a_folder_is_removed_however_deep_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):
        Path("deep").mkdir()
        os.chdir("deep")
    os.chdir(tmp_path)
    remove("deep")
    assert not Path("deep").exists()
