"""carrel policy: container engines' seccomp profiles, as a person uses them."""

import json

from place import ROOT

ENGINE = ROOT / "tests/data/oci/engine.json"


def test_an_engines_profile_becomes_a_policy_that_runs(place):
    result = place.carrel("policy", "import-seccomp", ENGINE)
    assert result.status == 0, result
    assert result.out.startswith("name: imported\nextends: default\nsyscalls:\n")
    assert "carrel: reboot: it ends the host's kernel\n" in result.err
    assert "carrel: mq_open: it compares an argument by other than equality\n" in result.err
    assert "carrel: ioctl:" not in result.err
    policy = place.write("imported.yaml", result.out)
    script = "import os, socket; print(os.listdir('/proc/self/task') != [])\ntry: os.setxattr('x', 'user.a', b'')\nexcept OSError as e: print(e.errno)"
    run = place.run("/usr/bin/python3", "-c", script, options=["--policy", policy])
    assert run.out == "True\n1\n", run  # setxattr is not in the profile: EPERM


def test_export_and_import_of_a_policy_change_nothing(place):
    exported = place.carrel("policy", "export-seccomp")
    assert exported.status == 0, exported
    profile = json.loads(exported.out)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO" and profile["architectures"] == ["SCMP_ARCH_X86_64"]
    names = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert {"read", "socket", "clone3"} <= names and "mount" not in names
    imported = place.carrel("policy", "import-seccomp", place.write("profile.json", exported.out))
    assert (imported.status, imported.err) == (0, "")
    assert imported.out == "name: imported\nextends: default\nsyscalls: {}\n"


def test_a_policys_own_calls_are_exported(place):
    policy = place.write("policy.yaml", "nesting: yes\nsyscalls: {deny: ['@aio']}\n")
    profile = json.loads(place.carrel("policy", "export-seccomp", policy).out)
    names = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert "mount" in names and "io_setup" not in names
    (clone,) = [rule for rule in profile["syscalls"] if "clone" in rule["names"]]
    assert "args" not in clone


def test_what_cannot_be_a_policy_is_refused_with_the_reason(place):
    cases = {
        '{"defaultAction": "SCMP_ACT_ALLOW"}': "the profile's default is 'SCMP_ACT_ALLOW'",
        '{"linux": {"seccomp": {}}}': "this is no seccomp profile",
        '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": 7}]}': "'names' must be a list",
        '{"defaultAction": "SCMP_ACT_ERRNO"': "profile.json:",
        "\x00": "profile.json",
    }
    for text, what in cases.items():
        result = place.carrel("policy", "import-seccomp", place.write("profile.json", text))
        assert result.status == 1 and what in result.err and result.out == "", (text, result)
    result = place.carrel("policy", "import-seccomp", "nowhere.json")
    assert result.status == 1 and "nowhere.json" in result.err
    assert place.carrel("policy", "import-seccomp").status != 0
    assert "there is no 'imprt'" in place.carrel("policy", "imprt").err
    assert "there is no" in place.carrel("policy", "export-seccomp", "nowhere").err


def test_a_hostile_profile_ends_soon_and_opens_nothing(place):
    argument = '{"index": %d, "value": %d, "op": "SCMP_CMP_NE"}'
    args = ", ".join(argument % (index, index) for index in range(6))
    rules = ", ".join('{"names": ["read", "init_module", "socket"], "action": "SCMP_ACT_ALLOW", "args": [%s]}' % args for _ in range(200))
    profile = place.write("profile.json", '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [%s]}' % rules)
    result = place.carrel("policy", "import-seccomp", profile, timeout=20)
    assert result.status == 0, result
    assert "- read\n" in result.out.partition("deny:")[2]
    assert "carrel: init_module: it changes which code the host's kernel runs" in result.err
