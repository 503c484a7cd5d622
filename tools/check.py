"""The steps of tools/check, and how their results are counted.

A build and a lint step is one check; a test program counts its tests. What was expected to run and did
not is a failure: a test program that died half way, a suite without tests, a skip nobody expected.
"""

import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEP_TIMEOUT_S = 40 * 60

# Skips that are no failure: "suite:test" as a pattern, and the words that its reason must hold.
EXPECTED_SKIPS = {}

COMMON = ["-Dbuildtype=debug"]
BUILDS = {
    "gcc": ("gcc", [*COMMON, "-Dwerror=true"]),
    "clang": ("clang", [*COMMON, "-Dwerror=true", "-Dfuzzers=true"]),
    # What people install: optimizing further, the compiler sees more, and warns of it.
    "release": ("gcc", ["-Dbuildtype=release", "-Dwerror=true"]),
    # No werror: with the sanitizers' instrumentation gcc sees uninitialized values that are none.
    "sanitize": ("gcc", [*COMMON, "-Db_sanitize=address,undefined"]),
}
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


class Result:
    """What one step found."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.output = ""  # printed where something failed

    def fail(self, words, count=1):
        self.failed += count
        self.output += words.rstrip() + "\n"


def run(command, environment=None):
    """Run a command from the top of the tree; return its status (None: timed out) and all of its output."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=STEP_TIMEOUT_S)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, f"{output}\n{' '.join(command)}: killed after {STEP_TIMEOUT_S} s\n"


def build_directory(name):
    return ROOT / f"build-check-{name}"


def build(name):
    """Configure, from nothing where the options have changed, and compile."""
    compiler, options = BUILDS[name]
    directory = build_directory(name)
    stamp = directory / "check-options"
    words = " ".join([compiler, *options])
    result = Result()

    if not stamp.exists() or stamp.read_text() != words:
        shutil.rmtree(directory, ignore_errors=True)
        status, output = run(["meson", "setup", str(directory), *options], {"CC": compiler})
        if status != 0:
            result.fail(output)
            return result
        stamp.write_text(words)
    status, output = run(["ninja", "-C", str(directory)])
    if status != 0:
        result.fail(output)
    else:
        result.passed = 1
    return result


def skip_is_expected(suite, test, reason):
    return any(
        fnmatch.fnmatchcase(f"{suite}:{test}", pattern) and words in reason
        for pattern, words in EXPECTED_SKIPS.items()
    )


# What cmocka prints with CMOCKA_MESSAGE_OUTPUT=TAP.
TAP_PLAN = re.compile(r"^1\.\.(\d+)$", re.M)
TAP_LINE = re.compile(r"^(not )?ok \d+ (?:- |(# SKIP) )(\S+)", re.M)


def count_program(result, suite, test):
    """Count one test program's entry of meson's testlog.json."""
    program, stdout = test["name"], test.get("stdout") or ""
    words = f"--- {program}: {test['result']}\n{stdout}{test.get('stderr') or ''}"
    planned = sum(int(n) for n in TAP_PLAN.findall(stdout))
    passed = failed = 0

    for bad, skipped, name in TAP_LINE.findall(stdout):
        if skipped and skip_is_expected(suite, f"{program}.{name}", stdout):
            planned -= 1
        elif bad or skipped:
            failed += 1
        else:
            passed += 1
    if test["result"] == "SKIP" and skip_is_expected(suite, program, stdout):
        return
    if passed + failed < planned:
        failed = planned - passed  # it died before the rest could run
    if test["result"] != "OK" and failed == 0:
        failed = 1
    if planned == 0 and failed == 0:
        passed = 1  # no cmocka program: its status is its result
    result.passed += passed
    if failed:
        result.fail(words, failed)


def unit(name):
    directory = build_directory(name)
    log = directory / "meson-logs" / "testlog.json"
    environment = {"CMOCKA_MESSAGE_OUTPUT": "TAP"}
    command = ["meson", "test", "-C", str(directory), "--suite", "unit", "--no-rebuild"]
    result = Result()

    if name == "sanitize":
        environment.update(SANITIZER_ENVIRONMENT)
        command += ["--timeout-multiplier", "5"]
    log.unlink(missing_ok=True)
    status, output = run(command, environment)
    if log.exists():
        for line in log.read_text().splitlines():
            count_program(result, "unit", json.loads(line))
    if result.passed + result.failed == 0 or (status != 0 and result.failed == 0):
        result.fail(f"{output}\nno unit test counted, or a status of {status} with none failed")
    return result


def e2e():
    """The end-to-end tests against the gcc build, counted from pytest's JUnit report."""
    report = build_directory("gcc") / "e2e.xml"
    command = ["/usr/bin/python3", "-m", "pytest", "tests/e2e", "-q", "-rs", "-p", "no:cacheprovider"]
    result = Result()

    report.unlink(missing_ok=True)
    environment = {"CARREL_BUILD": str(build_directory("gcc")), "PYTHONDONTWRITEBYTECODE": "1"}
    status, output = run([*command, f"--junitxml={report}"], environment)
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else []:
        name = f"{case.get('classname')}.{case.get('name')}"
        skipped = case.find("skipped")
        if skipped is not None:
            reason = f"{skipped.get('message')} {skipped.text}"
            if not skip_is_expected("e2e", name, reason):
                result.fail(f"{name}: skipped, which nobody expected: {reason}")
        elif case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        else:
            result.passed += 1
    if result.passed + result.failed == 0 or (status != 0 and result.failed == 0):
        result.fail(f"no end-to-end test counted, or a status of {status} with none failed")
    if status != 0:
        result.output = output + result.output
    return result


def vm():
    """The checks of tests/vm in a virtual machine: pure cgroup v2, the distribution's own kernel."""
    result = Result()
    status, output = run(["tests/vm/run", "--build", str(build_directory("gcc"))])
    lines = output.splitlines()
    result.passed = sum(line.startswith("ok ") for line in lines)
    result.failed = sum(line.startswith("FAILED ") for line in lines)
    if result.passed + result.failed == 0 or (status != 0 and result.failed == 0):
        result.fail(f"no check of the virtual machine counted, or a status of {status} with none failed")
    if result.failed:
        result.output = output + result.output
    return result


def files_of_project(*patterns):
    """What git tracks or would add, without what has been deleted."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(
        [*command, "-z", "--", *patterns], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split("\0")
    return sorted({name for name in names if name and (ROOT / name).exists()})


def lint(command, *patterns):
    """One check: a command over all files of the patterns; output alone is a finding too."""
    result = Result()
    files = files_of_project(*patterns)
    if files:
        status, output = run([*command, *files])
        if status != 0 or output:
            result.fail(output or f"{command[0]} ended with status {status}")
        else:
            result.passed = 1
    return result


def tidy():
    """clang-tidy over our own code, as the clang build compiles it; a finding fails."""
    result = Result()
    command = ["run-clang-tidy-14", "-quiet", "-p", str(build_directory("clang"))]
    _, output = run([*command, r"^(?!.*pb-c).*/(images|policy|proto|runtime|tools)/.*\.c$"])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    findings = [line for line in plain.splitlines() if " warning: " in line or " error: " in line]
    if findings or "clang-tidy" not in plain:
        result.fail("\n".join(findings) or plain or "run-clang-tidy looked at nothing")
    else:
        result.passed = 1
    return result


def plan(quick):
    """(name, step it needs, what to do), in order."""
    steps = [
        ("build gcc", None, lambda: build("gcc")),
        ("unit gcc", "build gcc", lambda: unit("gcc")),
        ("e2e gcc", "build gcc", e2e),
    ]
    if not quick:
        steps += [
            ("vm", "build gcc", vm),
            ("build clang", None, lambda: build("clang")),
            ("tidy", "build clang", tidy),
            ("build release", None, lambda: build("release")),
            ("build sanitize", None, lambda: build("sanitize")),
            ("unit sanitize", "build sanitize", lambda: unit("sanitize")),
            ("format", None, lambda: lint(["clang-format", "--dry-run", "-Werror"], "*.c", "*.h")),
            ("man pages", None, lambda: lint(["mandoc", "-T", "lint", "-W", "warning"], "*.[1-8]")),
        ]
    return steps


def show(name, result, seconds):
    counts = f"{result.passed} passed" + (f", {result.failed} failed" if result.failed else "")
    word = "FAILED" if result.failed else "ok" if result.passed else "nothing to do"
    print(f"{name:<16} {word:<14} {counts:<24} {seconds:6.1f} s", flush=True)
    if result.failed:
        print(result.output.rstrip(), flush=True)


def main(arguments):
    if arguments not in ([], ["--quick"]):
        print(f"check: unknown arguments: {' '.join(arguments)}\n  hint: tools/check [--quick]", file=sys.stderr)
        return 2
    passed = failed = 0
    broken = set()
    for name, needed, step in plan(quick="--quick" in arguments):
        start = time.monotonic()
        if needed in broken:
            result = Result()
            result.fail(f"not run: {needed} failed")
        else:
            result = step()
        if result.failed:
            broken.add(name)
        passed += result.passed
        failed += result.failed
        show(name, result, time.monotonic() - start)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
