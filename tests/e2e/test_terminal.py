"""carrel run from a terminal: the command gets one of its own, and the user does not see the difference."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest

from carrel.v1 import event_pb2 as events
from place import CARREL, until


class Terminal:
    """A user's terminal with carrel in its foreground."""

    def __init__(self, place, *arguments, rows=31, columns=97):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns, tell=False)
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.process = place.start(
            *arguments,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={"TERM": "xterm"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows, columns, tell=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern, timeout=10):
        """Read until the pattern has appeared; what came before it is gone for later calls."""
        end = time.monotonic() + timeout
        while True:
            match = re.search(pattern.encode(), self.output)
            if match:
                self.output = self.output[match.end() :]
                return match
            assert time.monotonic() < end, f"no '{pattern}' within {timeout} s, but {self.output!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.master, 65536)
                except OSError:
                    raise AssertionError(f"the terminal closed without '{pattern}': {self.output!r}") from None

    def wait(self, timeout=15):
        """The status; meanwhile what is written is read, as a terminal does."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end: {self.output!r}"
            if select.select([self.master], [], [], 0.02)[0]:
                self.output += os.read(self.master, 65536)
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(place):
    opened = []

    def terminal(*arguments, **how):
        opened.append(Terminal(place, *arguments, **how))
        return opened[-1]

    yield terminal
    for each in opened:
        each.close()


def test_the_command_has_a_terminal_of_its_own_and_of_the_right_size(terminal):
    t = terminal("run", "--", "sh", "-c", "test -t 0 -a -t 1 -a -t 2 && echo all; stty size; tty; echo $TERM; exit 7")
    t.expect(r"all\r\n31 97\r\n/dev/pts/\d+\r\nxterm\r\n")
    assert t.wait() == 7
    assert termios.tcgetattr(t.slave) == t.before, "the user's terminal is not as it was"


def test_what_is_typed_arrives_and_is_echoed_once(terminal):
    t = terminal("run", "--", "sh", "-c", "echo ready; read line; echo got:$line:")
    t.expect("ready\r\n")
    t.type("hello\r")
    t.expect(r"^hello\r\ngot:hello:\r\n")
    assert t.wait() == 0


def test_end_of_file_is_typed_with_control_d(terminal):
    t = terminal("run", "--", "sh", "-c", "echo ready; cat; echo end")
    t.expect("ready\r\n")
    t.type("\x04")
    t.expect("end\r\n")
    assert t.wait() == 0


def test_a_resize_reaches_the_command(terminal):
    t = terminal("run", "--", "sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done")
    t.expect("ready\r\n")
    t.resize(50, 132)
    t.expect("50 132\r\n")
    t.type("\x03")
    assert t.wait() == 130


def test_control_c_interrupts_the_command_and_gives_130(terminal, place):
    t = terminal("run", "--", "sh", "-c", "echo ready; exec sleep 60")
    t.expect("ready\r\n")
    t.type("\x03")
    assert t.wait() == 128 + signal.SIGINT
    outcome = place.outcome()
    assert (outcome.state, outcome.signal) == (events.RUN_STATE_FAILED, signal.SIGINT)
    assert termios.tcgetattr(t.slave) == t.before


def test_control_z_and_job_control_stay_inside(terminal):
    t = terminal("run", "--", "bash", "--norc", "-i")
    t.expect(r"\$ ")
    t.type("sleep 60\r")
    time.sleep(0.3)
    t.type("\x1a")
    t.expect(r"Stopped\s+sleep 60")
    t.type("kill %1; exit 5\r")
    t.expect("exit")
    t.type("exit 5\r")
    assert t.wait() == 5


def test_a_terminal_that_hangs_up_ends_the_run(terminal, place):
    t = terminal("run", "--", "sh", "-c", "echo ready; exec sleep 60")
    t.expect("ready\r\n")
    t.process.send_signal(signal.SIGHUP)
    assert t.wait() == 128 + signal.SIGHUP
    assert place.outcome().state == events.RUN_STATE_STOPPED


def test_without_a_terminal_insisting_on_one_is_refused(place):
    result = place.run("true", options=["--tty"])
    assert result.status == 125 and "standard input and output are not both terminals" in result.err


def test_a_terminal_can_be_declined(terminal):
    t = terminal("run", "--no-tty", "--", "sh", "-c", "test -t 1 || echo a pipe")
    t.expect("a pipe\r\n")
    assert t.wait() == 0


def test_a_log_cannot_take_over_the_users_terminal(terminal, place):
    assert place.shell(r"printf '\033]0;owned\007\033[31mred\033[0m\033[2J'").status == 0
    t = terminal("logs", "last")
    assert t.wait() == 0
    t.expect(r"red")
    assert b"\033]0;" not in t.output and b"\033[2J" not in t.output


def test_a_full_screen_program_works_inside_tmux(place):
    """The real thing: a full-screen program, in carrel, in a terminal emulator."""
    assert shutil.which("tmux"), "tmux is not installed: tools/setup test"
    tmux = ["tmux", "-S", str(place.base / "tmux.sock"), "-f", "/dev/null"]
    place.write("lines", "".join(f"line {n}\n" for n in range(1, 200)))
    environment = place.environment()
    command = f"{CARREL} run -- less lines; echo status $?; sleep 60"
    subprocess.run(
        [*tmux, "new-session", "-d", "-x", "80", "-y", "24", command], env=environment, cwd=place.work, check=True
    )

    def screen():
        return subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True).stdout

    def keys(*typed):
        subprocess.run([*tmux, "send-keys", *typed], check=True)

    try:
        until(lambda: "line 23\n" in screen() and "line 24\n" not in screen(), what="less shows 23 lines")
        keys("G")
        until(lambda: "line 199\n" in screen(), what="less shows the end")
        subprocess.run([*tmux, "resize-window", "-x", "60", "-y", "40"], check=True)
        time.sleep(0.2)
        keys("g")
        until(lambda: "line 39\n" in screen() and "line 40\n" not in screen(), what="less fills the larger window")
        keys("q")
        until(lambda: "status 0" in screen(), what="less and carrel end")
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)
