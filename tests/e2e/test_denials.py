"""Denied system calls: what the harness gets, what the record says of it, and that it is never a flood."""

import re
import subprocess
import sys

import pytest

from place import CARREL

CALLS = r"""
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "worked"

def family(*arguments):
    try:
        socket.socket(*arguments).close()
        return "worked"
    except OSError as e:
        return errno.errorcode[e.errno]
"""

NESTING = "set 'nesting: yes' in the policy; profile 'build' has it"

DENIED = {  # expression: (call, arguments, part of the rule, part of the hint)
    "family(17, 3, 0)": ("socket", "AF_PACKET, SOCK_RAW", "sockets are AF_UNIX, AF_INET", "no policy"),
    "family(16, 3, 12)": ("socket", "AF_NETLINK, SOCK_RAW, protocol 12", "NETLINK_ROUTE", "no policy"),
    "family(2, 10, 6)": ("socket", "AF_INET, SOCK_PACKET, protocol 6", "TCP, UDP", "no policy"),
    "family(2, 5, 0)": ("socket", "AF_INET, SOCK_SEQPACKET", "TCP, UDP", "no policy"),
    "family(2, 1, 132)": ("socket", "AF_INET, protocol 132", "TCP, UDP", "no policy"),
    "call(272, 0x10020000)": ("unshare", "CLONE_NEWUSER|CLONE_NEWNS", "namespaces of its own", NESTING),
    "call(56, 0x10000011, 0, 0, 0, 0)": ("clone", "CLONE_NEWUSER", "namespaces of its own", NESTING),
    "call(165, 0, 0, 0, 0, 0)": ("mount", "", "'@mount'", NESTING),
    "call(16, 0, 0x5412, 0)": ("ioctl", "TIOCSTI", "types into a terminal", "no policy"),
    "call(135, 0x40000)": ("personality", "ADDR_NO_RANDOMIZE", "uname", "no policy"),
    "call(321, 0, 0, 0)": ("bpf", "", "'@kernel'", "syscalls.allow"),
    "call(425, 1, 0)": ("io_uring_setup", "", "'@uring'", "syscalls.allow"),
    "call(312, 1, 1, 0, 0, 0)": ("kcmp", "", "'@debug'", "syscalls.allow"),
}


def denials(place):
    return [event.denied for event in place.journal() if event.HasField("denied")]


def total(events):
    return sum(event.count + event.lost for event in events)


def test_each_denied_call_is_refused_and_explained(place):
    place.write("calls.py", CALLS + "\n".join(f"print({expression})" for expression in DENIED))
    result = place.run("/usr/bin/python3", "calls.py")
    assert result.out.split() == ["EPERM"] * len(DENIED), result
    found = {(event.call, event.arguments): event for event in denials(place)}
    for call, arguments, rule, hint in DENIED.values():
        event = found.pop((call, arguments))
        assert rule in event.rule and hint in event.hint, event
        assert (event.count, event.lost) == (1, 0)
    assert found == {}
    assert not any(event.HasField("degraded") for event in place.journal())


def test_what_no_policy_can_allow_is_refused(place):
    """Where a filter above the workspace has the floor, its EPERM comes first and there is no event."""
    place.write("calls.py", CALLS + "print(call(175, 0, 0, 0), call(169, 0, 0, 0, 0), call(172, 3), call(164, 0, 0))")
    assert place.run("/usr/bin/python3", "calls.py").out.split() == ["EPERM"] * 4
    assert {event.hint for event in denials(place)} <= {"no policy changes this: do without it"}


def test_what_is_unknown_or_foreign_is_no_event(place):
    place.write("calls.py", CALLS + "print(call(600), call(435, 0, 0), call(0x40000000 | 39))")
    assert place.run("/usr/bin/python3", "calls.py").out.split() == ["ENOSYS"] * 3
    assert denials(place) == []


def test_a_loop_of_denied_calls_is_counted_and_no_flood(place):
    place.write("loop.py", CALLS + "assert {call(321, 0, 0, 0) for _ in range(100_000)} == {'EPERM'}\nprint('done')")
    result = place.run("/usr/bin/python3", "loop.py")
    assert (result.status, result.out) == (0, "done\n")
    events = denials(place)
    assert 2 <= len(events) <= 60
    assert total(events) == 100_000
    assert (place.record() / "journal").stat().st_size < 100_000


def test_many_kinds_of_denied_calls_are_bounded_and_counted(place):
    place.write("kinds.py", CALLS + "for n in range(20_000):\n    family(50 + n, 1, n)\n")
    assert place.run("/usr/bin/python3", "kinds.py").status == 0
    events = denials(place)
    assert len(events) <= 300  # the bound of a second, a few seconds, and the flush of what is remembered
    assert total(events) == 20_000
    assert any(event.lost for event in events)


def test_denied_calls_under_signals_are_refused(place):
    """A signal takes a call away before it is answered: the kernel makes it again."""
    place.write(
        "signals.py",
        CALLS + "import signal\nhits = []\nsignal.signal(signal.SIGALRM, lambda *_: hits.append(1))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)\n"
        "got = [call(321, 0, 0, 0) for _ in range(20_000)]\n"
        "print(set(got) <= {'EPERM', 'EINTR'}, len(hits) > 10, got.count('EPERM'))",
    )
    allowed, hit, refused = place.run("/usr/bin/python3", "signals.py").out.split()
    assert (allowed, hit) == ("True", "True")
    # each refusal was answered, and counted; what a signal took away may have been counted, too
    assert int(refused) <= total(denials(place)) <= 25_000


def test_threads_and_processes_at_once_are_all_answered(place):
    place.write(
        "many.py",
        CALLS + "import threading\nfor _ in range(4):\n    if os.fork() == 0: break\n"
        "threads = [threading.Thread(target=lambda: [call(321, 0, 0, 0) for _ in range(500)]) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "try:\n    while True: os.wait()\nexcept ChildProcessError: pass\n",
    )
    assert place.run("/usr/bin/python3", "many.py").status == 0
    assert total(denials(place)) == 5 * 8 * 500


def test_a_process_that_is_killed_in_a_denied_call_leaves_the_run_well(place):
    place.write("kill.py", CALLS + "while True: call(321, 0, 0, 0)\n")
    result = place.shell("for i in 1 2 3 4 5; do timeout -s KILL 0.1 /usr/bin/python3 kill.py; done; echo end")
    assert result.out == "end\n"
    assert total(denials(place)) > 5


def test_each_process_of_a_task_is_heard(place):
    place.write("calls.py", CALLS + "call(321, 0, 0, 0)\n")
    task = place.write(
        "task.yaml",
        f"name: {place.name}\nowner: me\nsource: {{directory: .}}\nharness: {{command: [/usr/bin/python3, calls.py]}}\n"
        "checks: [{name: one, command: [/usr/bin/python3, calls.py]}, {name: two, command: [/usr/bin/python3, calls.py]}]\n",
    )
    result = place.carrel("run", task)
    assert result.status == 0, result
    assert total(denials(place)) == 3
    assert re.search(r"denied: bpf\(\): the policy does not allow 'bpf', of group '@kernel'; name it", result.out), result
    shown = place.carrel("events", "last")
    assert "denied: bpf()" in shown.out
    (document,) = [event["denied"] for event in place.carrel("events", "--json", "last").json if "denied" in event][:1]
    assert document["call"] == "bpf" and "syscalls.allow" in document["hint"]


def test_an_agent_can_ask_what_was_denied_to_it(place):
    place.write("calls.py", CALLS + "call(321, 0, 0, 0)\ncall(321, 0, 0, 0)\n")
    result = place.shell("/usr/bin/python3 calls.py; carrel-guest status")
    assert "denied 2 times: bpf(): the policy does not allow 'bpf', of group '@kernel'; name it" in result.out, result


def test_a_program_that_cannot_be_executed_is_still_explained(place):
    result = place.run("no-such-program")
    assert (result.status, "is it in the image" in result.err) == (127, True)
    assert denials(place) == []


def test_a_shell_script_without_interpreter_still_runs(place):
    """execvp() makes more calls then, under the filter."""
    place.write("script", "echo ran\n").chmod(0o755)
    assert place.run("./script").out == "ran\n"


# A process that holds a seccomp listener, as a container engine does: below it nobody gets another.
LISTENS = r"""
import ctypes, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
allow = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
code = ctypes.create_string_buffer(allow, 8)
program = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))
libc.prctl(38, 1, 0, 0, 0)
listener = libc.syscall(317, 1, 8, program)
assert listener >= 0, ctypes.get_errno()
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


def test_without_a_listener_calls_are_refused_and_the_record_says_so(place):
    place.write("calls.py", CALLS + "print(call(321, 0, 0, 0), call(165, 0, 0, 0, 0, 0), call(600))")
    command = [sys.executable, "-c", LISTENS, CARREL, "run", "--", "/usr/bin/python3", "calls.py"]
    result = subprocess.run(command, cwd=place.work, env=place.environment(), capture_output=True, timeout=60)
    assert result.stdout.split() == [b"EPERM", b"EPERM", b"ENOSYS"], result
    assert denials(place) == []
    (degraded,) = [event.degraded.error for event in place.journal() if event.HasField("degraded")]
    assert "gave no listener" in degraded.what and "container engine" in degraded.hint


# ---- profiles ---------------------------------------------------------------------------------------

DEBUGGERS = r"""
set -e
printf 'int f(int x) { return x * 2; }\nint main(void) { return f(21) - 42; }\n' >a.c
gcc -g -O0 a.c -o a && ./a
gdb -batch -ex 'break f' -ex run -ex 'print x + 1' -ex continue ./a 2>&1 | grep -F '$1 = 22'
strace -f -o trace sh -c './a; exit 3' || test $? = 3
grep -c execve trace
sleep 60 & gdb -batch -p $! -ex 'info inferiors' 2>&1 | grep -F 'process'
kill $!
"""


@pytest.mark.parametrize("profile", ["default", "build"])
def test_debuggers_work_on_their_own_children(place, profile):
    result = place.shell(DEBUGGERS, "--policy", profile)
    assert result.status == 0, result
    assert "$1 = 22" in result.out
    assert {(event.call, event.arguments) for event in denials(place)} <= {("personality", "ADDR_NO_RANDOMIZE")}


def test_a_debugger_is_refused_in_strict(place):
    result = place.shell("strace true", "--policy", "strict")
    assert result.status != 0
    assert "ptrace" in {event.call for event in denials(place)}


def test_a_build_and_test_job_is_denied_nothing(place):
    script = r"""
    set -e
    printf 'all: a b\na b:\n\techo "int main(void){return 0;}" | gcc -x c - -o $@\n' >Makefile
    make -j4
    ./a && ./b
    node -e 'require("child_process").execSync("true"); require("fs").writeFileSync("n", require("crypto").randomBytes(9))'
    git init -q repository && cd repository && git -c user.email=a@b -c user.name=a commit -q --allow-empty -m first
    git gc -q && git fsck && git log --oneline
    python3 -c 'import multiprocessing, asyncio, sqlite3; print(multiprocessing.Pool(2).map(abs, [-1, 2])); asyncio.run(asyncio.sleep(0))'
    tar cf - . | gzip | tar tzf - >/dev/null
    """
    result = place.shell(script)
    assert result.status == 0, result
    assert denials(place) == []


BWRAP = "bwrap --unshare-all --dev-bind / / {} sh -c 'echo inside $(id -u)'"


@pytest.mark.parametrize("more", ["", "--proc /proc", "--tmpfs /tmp --ro-bind /usr /mnt --hostname inner"])
def test_a_sandbox_runs_inside_of_build(place, more):
    result = place.shell(BWRAP.format(more), "--policy", "build")
    assert (result.status, result.out) == (0, "inside 1000\n"), result


def test_a_sandbox_is_refused_in_default_and_the_record_says_what_allows_it(place):
    result = place.shell(BWRAP.format(""))
    assert result.status != 0 and "inside" not in result.out
    (event,) = denials(place)
    assert event.call == "clone" and "CLONE_NEWUSER" in event.arguments
    assert event.hint == NESTING


def test_nesting_gives_no_power_over_what_is_outside(place):
    """Root of an inner namespace is still nobody to the workspace's own namespaces, and to the floor."""
    place.write("calls.py", CALLS + "print(call(321, 0, 0, 0), call(175, 0, 0, 0), family(16, 3, 12), family(17, 3, 0), family(2, 10, 3), call(170, b'x', 1))")
    result = place.shell("unshare -Ur /usr/bin/python3 calls.py; unshare -U sh -c 'umount /proc' 2>/dev/null || echo kept", "--policy", "build")
    assert result.out.split() == ["EPERM"] * 6 + ["kept"], result
