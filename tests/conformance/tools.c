/*
 * The programs of an ordinary job, where the image has them: a script each
 *
 * Each runs in a directory of its own at home, where programs may be executed; its last line is
 * what a failure shows.
 */
#include <stdio.h>
#include <string.h>

#include "conformance.h"

#define TOOLS_PROLOGUE                                                                             \
        "d=$(mktemp -d \"$HOME/.carrel-conformance-XXXXXX\") && cd \"$d\" || exit 125; "           \
        "trap 'rm -rf \"$d\"' EXIT; "

static int tools_script(const char *script, char *output, size_t size) {
        char text[4096];

        snprintf(text, sizeof text, TOOLS_PROLOGUE "%s", script);
        return probe_shell(text, output, size);
}

/* @text: the script, whose first word names the program. */
static Verdict tools_run(const Check *c) {
        char program[32] = "", text[512] = "";
        int status;

        (void)sscanf(c->text, "%31s", program);
        if (!probe_has(program))
                return verdict_skip("this image has no %s", program);
        status = tools_script(c->text, text, sizeof text);
        return verdict_expect(status == 0, "status 0", "%d: '%s'", status, text);
}

/* What traces others is no use in a profile that refuses it; there it must fail. */
static Verdict tools_fail(const Check *c) {
        char text[512] = "";

        return verdict_expect(tools_script(c->text, text, sizeof text) != 0, "a failure",
                              "that it works");
}

#define TOOL(name_, script)                                                                        \
        { .name = (name_), .run = tools_run, .text = (script), .seconds = 60 }
#define TRACER(name_, script)                                                                      \
        {                                                                                          \
                .name = (name_), .run = tools_run, .text = (script), .seconds = 60,                \
                .except = TRAIT_SMALL, .instead = tools_fail                                       \
        }

static const Check checks[] = {
        TOOL("sh", "sh -c 'set -e; x=$(printf a | tr a b); test $x = b'"),
        TOOL("bash", "bash -c 'cat <(echo a) >/dev/null && [[ $(echo b) == b ]]'"),
        TOOL("git",
             "git init -q repository && cd repository && echo x >file && git add file && "
             "git -c user.name=a -c user.email=a@b commit -qm first && "
             "git worktree add -q ../tree && git gc -q && git fsck --no-progress"),
        TOOL("gcc",
             "gcc --version >/dev/null && printf '#include <stdio.h>\\nint main(void){return "
             "puts(\"a\")<0;}' >a.c && gcc -O2 -o a a.c && ./a"),
        TOOL("gcc_sanitizer",
             "gcc --version >/dev/null && printf 'int main(void){return 0;}' >s.c && "
             "gcc -fsanitize=address,undefined -o s s.c && ASAN_OPTIONS=detect_leaks=0 ./s"),
        /* it stops the program's own threads to look for leaks */
        TRACER("gcc_leak_sanitizer",
               "gcc --version >/dev/null && printf 'int main(void){return 0;}' >l.c && "
               "gcc -fsanitize=address -o l l.c && ./l"),
        TOOL("make",
             "make --version >/dev/null && mkdir -p m && cd m && "
             "printf 'all: a b\\na b:\\n\\techo x >$@\\n' >Makefile && make -s -j4 && test $(cat "
             "a)$(cat b) = xx"),
        TOOL("python",
             "python3 -c 'import multiprocessing as m, subprocess, tempfile, threading; "
             "p = m.get_context(\"fork\").Pool(2); assert p.map(abs, [-1, -2]) == [1, 2]; "
             "assert subprocess.run([\"true\"]).returncode == 0'"),
        TOOL("python_asyncio",
             "python3 -c 'import asyncio\nasync def f():\n p = await "
             "asyncio.create_subprocess_exec(\"true\"); assert await p.wait() == "
             "0\nasyncio.run(f())'"),
        TOOL("node",
             "node -e 'const c = require(\"child_process\"); const w = "
             "require(\"worker_threads\"); "
             "if (c.execFileSync(\"echo\", [\"a\"]).toString() !== \"a\\n\") process.exit(1); "
             "new w.Worker(\"process.exit(0)\", {eval: true})'"),
        TOOL("perl", "perl -e 'fork() // die; wait'"),
        TOOL("tar", "tar cf a.tar -C / etc/passwd && tar xf a.tar && test -s etc/passwd"),
        TOOL("find", "find . -name nothing"),
        TRACER("strace", "strace -f -o trace sh -c 'true | true' && grep -q exit_group trace"),
        TRACER("gdb",
               "gdb --version >/dev/null && gdb -batch -nx -ex 'break main' -ex run -ex 'info "
               "registers rip' "
               "/bin/true 2>&1 | grep -Eq 'rip|exited normally'"),
};

const Class class_tools = CLASS("tools", "the programs of an ordinary job", checks);
