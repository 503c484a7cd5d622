"""What a harness sees of the host: its own /proc tells, and what it tries fails."""

import json
import os
import re
import signal
import socket
import tempfile
from pathlib import Path

import pytest

from place import groups, until

NAMESPACES = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"]

# Runs inside: prints facts as JSON. No fact needs more than Python's own library.
PROBE = r"""
import ctypes, errno, fcntl, json, os, socket, struct
libc = ctypes.CDLL(None, use_errno=True)

def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError as e:
        return errno.errorcode[e.errno]

def call(number, *arguments):
    ctypes.set_errno(0)
    return errno.errorcode.get(ctypes.get_errno()) if libc.syscall(number, *arguments) < 0 else "worked"

def attempt(function, *arguments):
    try:
        function(*arguments)
        return "worked"
    except OSError as e:
        return errno.errorcode[e.errno]

def interface_is_up(name):
    with socket.socket() as s:
        flags = fcntl.ioctl(s, 0x8913, struct.pack("16sH14x", name.encode(), 0))
    return bool(struct.unpack("16sH14x", flags)[1] & 1)

tmpfs = ctypes.c_char_p(b"tmpfs")
page = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(page), 8)
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "status": dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines() if ":\t" in line),
    "init": read("/proc/1/comm").strip(),
    "init_root": attempt(os.readlink, "/proc/1/root"),
    "boot_id": read("/proc/sys/kernel/random/boot_id"),
    "cmdline": read("/proc/cmdline"),
    "hidden_proc": {name: read("/proc/" + name) for name in ("keys", "kallsyms", "modules", "interrupts", "sysrq-trigger")},
    "init_environ": read("/proc/1/environ"),
    "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "self": os.getpid(),
    "interfaces": {name: interface_is_up(name) for _, name in socket.if_nameindex()},
    "routes": read("/proc/net/route").splitlines()[1:],
    "hostname": socket.gethostname(),
    "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMES},
    "uptime": float(read("/proc/uptime").split()[0]),
    "cgroup": read("/proc/self/cgroup"),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd")),
    "environment": dict(os.environ),
    "mounts": [line.split() for line in read("/proc/self/mountinfo").splitlines()],
    "here": os.getcwd(),
    "root": os.listdir("/"),
    "etc": os.listdir("/etc"),
    "passwd": read("/etc/passwd"),
    "shadow": read("/etc/shadow"),
    "hidden": {path: os.path.exists(path) for path in HIDDEN},
    "devices": sorted(os.listdir("/dev")),
    "writes": {path: attempt(os.mkdir, path + "/e2e") for path in ["/usr", "/usr/bin", "/proc", "/proc/sys", "/etc"]},
    "sys": {path: attempt(lambda: open(path, "w")) for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger"]},
    "calls": {
        "mount": call(165, tmpfs, ctypes.c_char_p(b"/tmp"), tmpfs, 0, None),
        "umount": call(166, ctypes.c_char_p(b"/usr"), 2),
        "unshare user": call(272, 0x10000000),
        "unshare mnt": call(272, 0x00020000),
        "setns": call(308, os.open("/proc/self/ns/net", os.O_RDONLY), 0),
        "ptrace": call(101, 16, 1, 0, 0),
        "process_vm_readv": call(310, 1, vector, 1, vector, 1, 0),
        "bpf": call(321, 0, None, 0),
        "io_uring_setup": call(425, 4, None),
        "init_module": call(175, None, 0, None),
        "kexec_load": call(246, 0, 0, None, 0),
        "reboot": call(169, 0, 0, 0, None),
        "open_by_handle_at": call(304, -100, None, 0),
        "perf_event_open": call(298, None, 0, -1, -1, 0),
        "keyctl": call(250, 0, 0, 0, 0, 0),
        "userfaultfd": call(323, 0),
        "setuid": call(105, 0),
        "sethostname": call(170, ctypes.c_char_p(b"x"), 1),
        "settimeofday": call(164, None, None),
        "kill init": attempt(os.kill, 1, 9),
    },
    "sockets": {
        "packet": attempt(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0),
        "raw": attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
        "unix": attempt(socket.socket, socket.AF_UNIX, socket.SOCK_STREAM),
        "tcp": attempt(socket.socket, socket.AF_INET, socket.SOCK_STREAM),
        "vsock": attempt(socket.socket, 40, socket.SOCK_STREAM),
    },
    "connect": attempt(socket.socket().connect, ("192.0.2.1", 80)),
    "abstract": attempt(socket.socket(socket.AF_UNIX).connect, "\0" + ABSTRACT),
    "suid": [path for top in ("/usr/bin", "/usr/sbin") for path in sorted(os.listdir(top))
             if os.path.exists(f"{top}/{path}") and os.stat(f"{top}/{path}").st_mode & 0o6000][:3],
}))
"""


@pytest.fixture(scope="module")
def host_files():
    """Files that a workspace must not see, where hosts keep what matters."""
    made = [tempfile.NamedTemporaryFile(prefix="carrel-e2e-", dir=top) for top in ("/root", "/var", "/etc", "/tmp", "/dev/shm")]
    yield [file.name for file in made]
    for file in made:
        file.close()


@pytest.fixture
def facts(place, host_files):
    with socket.socket(socket.AF_UNIX) as server:
        name = f"{place.name}-abstract"
        server.bind("\0" + name)
        server.listen()
        place.write(
            "probe.py", f"NAMES = {NAMESPACES!r}\nHIDDEN = {[*host_files, str(place.base), '/sys/kernel']!r}\n"
            f"ABSTRACT = {name!r}\n{PROBE}"
        )
        unreadable = os.open("/etc/shadow", os.O_RDONLY)
        result = place.run(
            "/usr/bin/python3", "probe.py", env={"HOST_SECRET": "of the host"}, pass_fds=[unreadable]
        )
        os.close(unreadable)
    assert result.status == 0, result
    return json.loads(result.stdout)


def test_a_harness_sees_itself_and_nothing_of_the_host(facts, place):
    # who it is
    assert facts["ids"] == [[1000] * 3, [1000] * 3, []]
    status = facts["status"]
    assert {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["TracerPid"] == "0"

    # processes
    assert (facts["init"], facts["init_root"], facts["init_environ"]) == ("ENOENT",) * 3  # hidepid
    assert facts["pids"] == [facts["self"]]
    assert facts["descriptors"][:3] == [0, 1, 2] and len(facts["descriptors"]) <= 4  # and the listing's own

    # namespaces, and what they hide
    for name in NAMESPACES:
        assert facts["namespaces"][name] != os.readlink(f"/proc/self/ns/{name}"), name
    assert facts["interfaces"] == {"lo": True}
    assert facts["routes"] == []
    assert facts["hostname"] == "carrel"
    assert facts["uptime"] < 10
    assert {line.split(":")[2] for line in facts["cgroup"].splitlines()} == {"/", "/harness"}
    assert facts["connect"] == "ENETUNREACH"
    assert facts["abstract"] == "ECONNREFUSED"

    # files
    assert facts["here"] == "/workspace"
    assert not any(facts["hidden"].values()), facts["hidden"]
    assert "agent:" in facts["passwd"]
    assert facts["shadow"] in ("ENOENT", "EACCES")
    assert facts["writes"]["/usr"] in ("EROFS", "EACCES") and facts["writes"]["/usr/bin"] in ("EROFS", "EACCES")
    assert "worked" not in facts["writes"].values() and "worked" not in facts["sys"].values()
    (usr,) = [mount for mount in facts["mounts"] if mount[4] == "/usr"]
    assert {"ro", "nosuid", "nodev"} <= set(usr[5].split(","))
    for mount in facts["mounts"]:
        assert "nosuid" in mount[5], mount
    assert not {"mem", "kmsg", "sda", "vda", "kvm", "fuse", "loop-control"} & set(facts["devices"])

    # what the kernel tells of the host
    assert facts["boot_id"] != Path("/proc/sys/kernel/random/boot_id").read_text()
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n", facts["boot_id"])
    assert facts["cmdline"] == ""
    assert set(facts["hidden_proc"].values()) <= {"", "ENOENT"}
    assert "/sys" not in [mount[4] for mount in facts["mounts"]]

    # the environment is made, not inherited
    assert "of the host" not in facts["environment"].values()
    assert not {"HOST_SECRET", "CARREL_STATE_DIR", "CARREL_EMBEDDED", "SSH_AUTH_SOCK"} & set(facts["environment"])
    assert str(place.base) not in json.dumps(facts["environment"])
    assert facts["environment"]["HOME"] not in ("/root", os.environ.get("HOME"))


def test_what_only_a_host_may_do_is_refused(facts):
    refused = {"EPERM", "ENOSYS", "EACCES"}
    assert {name: result for name, result in facts["calls"].items() if result not in refused} == {}
    assert facts["sockets"]["packet"] in {"EPERM", "EAFNOSUPPORT", "EACCES"}
    assert facts["sockets"]["raw"] in {"EPERM", "EAFNOSUPPORT", "EACCES"}
    assert facts["sockets"]["vsock"] in {"EPERM", "EAFNOSUPPORT", "EACCES"}
    assert (facts["sockets"]["unix"], facts["sockets"]["tcp"]) == ("worked", "worked")


def test_a_harness_starts_with_signals_as_a_fresh_program_has_them(place):
    result = place.shell(
        "grep -E 'Sig(Blk|Ign)' /proc/self/status",
        preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in (1, 2, 3, 10, 13, 15, 25)],
    )
    assert result.out.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_a_setuid_program_gives_nothing(place):
    result = place.shell("ls -l /usr/bin/su /usr/bin/mount >/dev/null; mount -t tmpfs none /tmp; id -u; su -c id </dev/null")
    assert result.status != 0
    assert "uid=0" not in result.out and result.out.split()[0] == "1000"


def limits_of(run):
    """The limits that the kernel has for a run's group: from v1 hierarchies or from cgroup2, whichever has them."""
    files = {
        "memory": ("memory.limit_in_bytes", "memory.max"),
        "pids": ("pids.max",),
        "cpu": ("cpu.cfs_quota_us", "cpu.max"),
    }
    found = {}
    for group in groups():
        if Path(group).name != run:
            continue
        for limit, names in files.items():
            for name in names:
                file = Path(group, name)
                if file.exists() and file.read_text().split()[0] not in ("max", "-1"):
                    found[limit] = int(file.read_text().split()[0])
    return found


@pytest.mark.parametrize("kind", ["embedded", "daemon"])
def test_the_policys_limits_are_the_kernels(place, kind, request):
    if kind == "daemon":
        request.getfixturevalue("carreld")
    policy = place.write(
        "limits.yaml", "resources: {memory: 96MiB, pids: 33, cpu_percent: 50}\nfilesystem: {tmp: 8MiB, shm: 1MiB}\n"
    )
    process = place.start(
        "run", "--policy", policy, "--", "sh", "-c", "echo ready; read line", daemon=kind == "daemon", stdin=-1
    )
    assert process.stdout.readline() == b"ready\n"
    assert limits_of(place.record().name) == {"memory": 96 << 20, "pids": 33, "cpu": 50000}
    process.communicate(b"end\n")
    assert process.returncode == 0


def test_every_process_of_a_run_is_in_its_groups(place):
    process = place.start("run", "--", "sh", "-c", "sleep 60 & echo ready; read line", stdin=-1)
    assert process.stdout.readline() == b"ready\n"
    run = place.record().name

    def listed():
        """The names of a run's processes, for each hierarchy: in its group and in the parts of it."""
        return [
            sorted(
                Path("/proc", pid, "comm").read_text().strip()
                for file in Path(group).rglob("cgroup.procs")
                for pid in file.read_text().split()
            )
            for group in groups()
            if Path(group).name == run
        ]

    until(lambda: all("sleep" in names for names in listed()), what="the sleeper's exec")
    assert listed() and all(names == ["carrel-init", "sh", "sleep"] for names in listed()), listed()
    process.communicate(b"end\n")
    assert process.returncode == 0


def test_two_runs_do_not_see_each_other(place):
    first = place.start("run", "--", "sh", "-c", "echo secret >/tmp/here; echo ready; exec cat", stdin=-1)
    assert first.stdout.readline() == b"ready\n"
    second = place.shell("ls /tmp; ls /workspace; ls -d /proc/[0-9]* | wc -l; id -u")
    assert second.status == 0 and "here" not in second.out
    shims = [pid for pid, name in place.own_processes().items() if name == "cat"]
    (uid,) = {Path("/proc", str(pid)).stat().st_uid for pid in shims}
    assert uid > 65536
    first.communicate()
    assert first.returncode == 0


def test_a_shim_has_an_id_of_its_own_and_no_privilege(place):
    process = place.start("run", "--", "sh", "-c", "echo ready; read line", stdin=-1)
    assert process.stdout.readline() == b"ready\n"
    (shim,) = [pid for pid, name in place.own_processes().items() if name == "carrel-shim"]
    text = Path(f"/proc/{shim}/status").read_text()
    status = dict(re.findall(r"^(\w+):\t(.*)$", text, re.M))
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == "0" * 16
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert int(status["Uid"].split()[0]) > 65536
    assert os.listdir(f"/proc/{shim}/root") == []
    process.communicate(b"end\n")
    until(lambda: not place.own_processes())


def test_sys_is_shown_when_asked_for_and_without_the_hosts_devices(place):
    policy = place.write("sys.yaml", "filesystem: {sys: yes}\n")
    process = place.start(
        "run", "--policy", policy, "--", "sh", "-c",
        "ls /sys/class/net; cat /sys/devices/system/cpu/online;"
        " ls -A /sys/block /sys/kernel /sys/firmware /sys/module 2>/dev/null | grep -v :;"
        " (echo x >/sys/class/net/lo/mtu) 2>/dev/null || echo kept",
    )
    out, _ = process.communicate()
    assert out.decode().split() == ["lo", Path("/sys/devices/system/cpu/online").read_text().strip(), "kept"]


def test_nothing_is_executed_where_the_policy_forbids_it(place):
    policy = place.write("noexec.yaml", "filesystem: {noexec: [/workspace, /tmp]}\n")
    script = "cp /bin/true here; cp /bin/true /tmp/there; ./here; echo $?; /tmp/there; echo $?; cp /bin/true ~/fine; ~/fine; echo $?"
    process = place.start("run", "--policy", policy, "-C", place.work, "--", "sh", "-c", script, stderr=-1)
    out, _ = process.communicate()
    assert out.split() == [b"126", b"126", b"0"]


@pytest.mark.parametrize("what, words", [("state", "it is in"), ("state/runs", "it is in"), ("", "it holds")])
def test_no_run_is_shown_the_records_of_others(place, what, words):
    place.shell("true")
    source = place.base / what
    result = place.shell("ls", "-C", source)
    assert result.status == 125 and result.out == ""
    assert f"'{source}' cannot be shown in a workspace: {words} carrel's state directory" in result.err, result
    policy = place.write("mount.yaml", f"filesystem: {{mounts: [{{source: {source}, target: /mnt/records}}]}}\n")
    result = place.shell("ls", "--policy", policy, cwd="/usr")
    assert result.status == 125 and "cannot be shown in a workspace" in result.err, result
