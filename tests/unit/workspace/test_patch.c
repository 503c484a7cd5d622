/*
 * Drives the real carrel-patch (argv[1]) and lets the real git apply what it wrote.
 */
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "trees.h"

static const char *patch_program;

/* Starts carrel-patch on the trees; its output goes to these descriptors. */
static pid_t start_with(Trees *t, const char *const *arguments, int out, int err) {
        pid_t pid = fork();

        if (pid == 0) {
                int empty = openat(t->fd, "empty", O_RDONLY | O_DIRECTORY);
                int report = openat(t->fd, "report", O_WRONLY | O_CREAT | O_TRUNC, 0644);
                int from[] = {out, err, t->lower, t->upper, empty, report};
                int to[] = {1, 2, 3, 4, 5, 6};
                gid_t group = 4242; /* to be given up */

                if (setgroups(1, &group) < 0)
                        _exit(97);
                for (size_t i = 0; i < ELEMENTSOF(from); i++)
                        from[i] = fcntl(from[i], F_DUPFD, 100);
                for (size_t i = 0; i < ELEMENTSOF(from); i++)
                        if (dup2(from[i], to[i]) < 0)
                                _exit(99);
                execv(patch_program, (char *const *)(uintptr_t)arguments);
                _exit(98);
        }
        return pid;
}

static pid_t start(Trees *t, const char *max_bytes, int out, int err) {
        const char *const arguments[] = {"carrel-patch", max_bytes ? "--max-bytes" : NULL,
                                         max_bytes, NULL};

        return start_with(t, arguments, out, err);
}

static int end_of(pid_t pid) {
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (WIFSIGNALED(status))
                fail_msg("carrel-patch was killed by signal %d", WTERMSIG(status));
        return WEXITSTATUS(status);
}

/* Writes "patch" and "errors" beside the trees. Return: the exit status. */
static int run(Trees *t, const char *max_bytes) {
        _cleanup_close_ int out = openat(t->fd, "patch", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        _cleanup_close_ int err = openat(t->fd, "errors", O_WRONLY | O_CREAT | O_TRUNC, 0644);

        if (!exists(t->fd, "empty"))
                make_dir(t->fd, "empty", 0755);
        return end_of(start(t, max_bytes, out, err));
}

/* A shell command in the trees' directory, with no configuration of git. */
static int shell(Trees *t, const char *command) {
        char line[2048];

        snprintf(line, sizeof line,
                 "cd %s && export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null "
                 "HOME=/nonexistent && { %s; }",
                 t->path, command);
        return system(line);
}

static void need_git(Trees *t) {
        if (shell(t, "git --version >/dev/null 2>&1") != 0) {
                fprintf(stderr, "skipped: git is missing\n");
                skip();
        }
}

#define assert_text(dir, path, expected)                                                           \
        do {                                                                                       \
                _cleanup_free_ char *_text = text_of(dir, path);                                   \
                assert_string_equal(_text, expected);                                              \
        } while (0)

#define assert_said(t, expected)                                                                   \
        do {                                                                                       \
                _cleanup_free_ char *_text = text_of((t)->fd, "errors");                           \
                if (!strstr(_text, expected))                                                      \
                        fail_msg("not in the errors: %s\n%s", expected, _text);                    \
        } while (0)

/* The original, patched by git, must be what the run saw at last ("expected"). */
static void assert_round_trip(Trees *t) {
        assert_int_equal(run(t, NULL), 0);
        assert_text(t->fd, "errors", "");
        assert_int_equal(shell(t, "cp -a lower patched && cd patched && git init -q . && "
                                  "git apply --whitespace=nowarn ../patch && rm -rf .git"),
                         0);
        assert_int_equal(shell(t, "diff -r --no-dereference patched expected"), 0);
        assert_int_equal(shell(t, "for d in patched expected; do (cd $d && find . ! -type d "
                                  "-printf '%p %y %m %l\\n' | sort)"
                                  " > $d.list; done; diff patched.list expected.list"),
                         0);
}

static void put_bytes(int dir, const char *path, size_t size, unsigned seed) {
        _cleanup_free_ char *data = malloc(size);

        for (size_t i = 0; i < size; i++) {
                seed = seed * 1103515245 + 12345;
                data[i] = (char)(seed >> 16);
        }
        unlinkat(dir, path, 0);
        assert_int_equal(file_create_at(dir, path, 0644, data, size, NULL), 0);
}

static void make_original(int dir) {
        put(dir, "text", "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n", 0644);
        put(dir, "no-newline", "one\ntwo", 0644);
        put(dir, "gets-newline", "one\ntwo", 0644);
        put(dir, "deleted", "x\n", 0644);
        put(dir, "deleted-empty", "", 0644);
        put(dir, "mode", "x\n", 0644);
        put(dir, "mode-and-text", "x\n", 0755);
        put(dir, "emptied", "x\n", 0644);
        put(dir, "to-link", "x\n", 0644);
        put(dir, "to-dir", "x\n", 0644);
        put(dir, "crlf", "one\r\ntwo\r\n", 0644);
        put(dir, "moved", "x\n", 0644);
        put(dir, "untouched", "x\n", 0644);
        make_dir(dir, "to-file", 0755);
        put(dir, "to-file/x", "x\n", 0644);
        make_dir(dir, "dir", 0755);
        make_dir(dir, "dir/sub", 0755);
        put(dir, "dir/sub/file", "x\n", 0644);
        put(dir, "dir/again", "x\n", 0644);
        make_link(dir, "link", "old");
        make_link(dir, "link-gone", "old");
        make_link(dir, "link-to-dir", "dir");
        put_bytes(dir, "binary", 5000, 1);
        put_bytes(dir, "binary-gone", 5000, 2);
        put_bytes(dir, "zeros", 9, 3);
}

static void edit_texts(int dir) {
        put(dir, "text", "zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nNINE\n", 0644);
        put(dir, "no-newline", "one\nTWO", 0644);
        put(dir, "gets-newline", "one\ntwo\n", 0644);
        put(dir, "mode", "x\n", 0755);
        put(dir, "mode-and-text", "y\n", 0644);
        put(dir, "emptied", "", 0644);
        put(dir, "crlf", "one\r\ntwo\n", 0644);
        put(dir, "new-empty", "", 0644);
        put(dir, "new-program", "#!/bin/sh\n", 0755);
        put(dir, "latin1", "caf\xe9\n", 0644);
        put(dir, "looks-like-a-patch", "--- a/text\n+++ b/text\n@@ -1 +1 @@\n-one\n+ONE\n", 0644);
        put_bytes(dir, "binary", 5001, 4);
        put_bytes(dir, "binary-new", 300000, 5);
        put_bytes(dir, "zeros", 10, 6);
}

static void edit_names(int dir) {
        static const char *const names[] = {
                "a name with spaces",
                "tab\there",
                "new\nline",
                "quote\"d",
                "back\\slash",
                "\xc3\xa4\xff",
                "-dash",
                "a b b b",
                "trailing ",
                "\x01\x7f",
                "'",
                "b/name in a/dir",
                "dated 2026-01-01 00:00:00.000000000 +0000",
        };

        make_dir(dir, "b", 0755);
        make_dir(dir, "b/name in a", 0755);
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                put(dir, names[i], i > 0 ? "text\n" : "", 0644);
}

static void edit_all(int dir) {
        edit_texts(dir);
        edit_names(dir);
        assert_int_equal(unlinkat(dir, "deleted", 0) | unlinkat(dir, "deleted-empty", 0), 0);
        assert_int_equal(unlinkat(dir, "link-gone", 0) | unlinkat(dir, "binary-gone", 0), 0);
        assert_int_equal(unlinkat(dir, "link", 0) | unlinkat(dir, "link-to-dir", 0), 0);
        assert_int_equal(unlinkat(dir, "to-link", 0) | unlinkat(dir, "to-dir", 0), 0);
        make_link(dir, "link", "new");
        make_link(dir, "to-link", "target");
        make_dir(dir, "link-to-dir", 0755);
        put(dir, "link-to-dir/file", "x\n", 0644);
        make_dir(dir, "to-dir", 0755);
        put(dir, "to-dir/y", "y\n", 0644);
        assert_int_equal(unlinkat(dir, "to-file/x", 0) | unlinkat(dir, "to-file", AT_REMOVEDIR), 0);
        put(dir, "to-file", "now\n", 0644);
        assert_int_equal(renameat(dir, "moved", dir, "moved-here"), 0);
        assert_int_equal(unlinkat(dir, "dir/sub/file", 0) | unlinkat(dir, "dir/again", 0), 0);
        assert_int_equal(
                unlinkat(dir, "dir/sub", AT_REMOVEDIR) | unlinkat(dir, "dir", AT_REMOVEDIR), 0);
        make_dir(dir, "dir", 0755);
        put(dir, "dir/again", "other\n", 0644);
        assert_int_equal(fchdir(dir), 0);
        assert_int_equal(system("cp -a . ../expected"), 0);
}

static void git_makes_of_the_original_what_the_run_made(void **state) {
        Trees *t = *state;

        need_git(t);
        make_original(t->lower);
        in_overlay(t, edit_all);
        assert_round_trip(t);
}

static void no_change_is_an_empty_patch(void **state) {
        Trees *t = *state;

        put(t->lower, "same", "x\n", 0644);
        put(t->upper, "same", "x\n", 0600);
        make_dir(t->upper, "dir", 0755);
        assert_int_equal(run(t, NULL), 0);
        assert_text(t->fd, "patch", "");
        assert_text(t->fd, "errors", "");
}

static void files_that_only_their_owner_may_read_are_read(void **state) {
        Trees *t = *state;

        make_dir(t->upper, "closed", 0700);
        put(t->upper, "closed/secret", "x\n", 0600);
        assert_int_equal(fchownat(t->upper, "closed/secret", 100000, 100000, 0), 0);
        assert_int_equal(fchownat(t->upper, "closed", 100000, 100000, 0), 0);
        assert_int_equal(run(t, NULL), 0);
        assert_text(t->fd, "patch",
                    "diff --git a/closed/secret b/closed/secret\n"
                    "new file mode 100644\n"
                    "index "
                    "0000000000000000000000000000000000000000.."
                    "587be6b4c3f93f93c489c0111bba5596147a26cb\n"
                    "--- /dev/null\n"
                    "+++ b/closed/secret\n"
                    "@@ -0,0 +1 @@\n"
                    "+x\n");
}

/* As git writes it: GNU patch would take what follows a space for a date. */
static void a_name_with_a_space_ends_with_a_tab(void **state) {
        _cleanup_free_ char *text = NULL;
        Trees *t = *state;

        put(t->upper, "a b", "x\n", 0644);
        assert_int_equal(run(t, NULL), 0);
        text = text_of(t->fd, "patch");
        assert_non_null(strstr(text, "diff --git a/a b b/a b\n"));
        assert_non_null(strstr(text, "--- /dev/null\n+++ b/a b\t\n"));
}

static void what_git_refuses_is_left_out_and_said(void **state) {
        Trees *t = *state;

        make_dir(t->upper, ".git", 0755);
        put(t->upper, ".git/config", "[core]\n", 0644);
        make_dir(t->upper, "sub", 0755);
        make_dir(t->upper, "sub/.GIT", 0755);
        put(t->upper, "sub/.GIT/config", "[core]\n", 0644);
        put(t->upper, ".gitignore", "", 0644);
        make_node(t->upper, "fifo", S_IFIFO);
        assert_int_equal(run(t, NULL), 0);
        assert_text(t->fd, "patch",
                    "diff --git a/.gitignore b/.gitignore\n"
                    "new file mode 100644\n"
                    "index "
                    "0000000000000000000000000000000000000000.."
                    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\n");
        assert_said(t, "carrel-patch: 2 paths left out: below '.git'\n");
        assert_said(t, "carrel-patch: 1 paths left out: devices, sockets or FIFOs\n");
}

static void large_files_are_left_out_and_the_first_are_named(void **state) {
        Trees *t = *state;
        char name[32];

        for (unsigned i = 0; i < 23; i++) {
                snprintf(name, sizeof name, "large\n%02u", i);
                put(t->upper, name, "x", 0644);
                _cleanup_close_ int fd = openat(t->upper, name, O_WRONLY);
                assert_int_equal(ftruncate(fd, 8 * MIB + (i > 0)), 0);
        }
        assert_int_equal(run(t, NULL), 0);
        assert_said(t, "carrel-patch: \"large\\n01\" left out: larger than 8 MiB\n");
        assert_said(t, "carrel-patch: \"large\\n20\" left out: larger than 8 MiB\n");
        assert_said(t, "carrel-patch: 2 more left out: larger than 8 MiB\n");
        assert_int_equal(
                shell(t, "test $(grep -c '^diff' patch) = 1 && test $(grep -c '' errors) = 21"), 0);
}

static void a_patch_over_the_limit_is_cut_between_files(void **state) {
        Trees *t = *state;

        need_git(t);
        put(t->upper, "a", "x\n", 0644);
        put(t->upper, "b", "a longer text than the limit has room for\n", 0644);
        assert_int_equal(run(t, "200"), 3);
        assert_said(t,
                    "carrel-patch: the patch is larger than 200 bytes: cut before the first file");
        assert_int_equal(shell(t, "mkdir repo && cd repo && git init -q . && git apply ../patch"),
                         0);
        assert_true(exists(t->fd, "repo/a"));
        assert_false(exists(t->fd, "repo/b"));
}

static void bad_arguments_are_named(void **state) {
        Trees *t = *state;

        assert_int_equal(run(t, "12k"), 1);
        assert_said(t, "carrel-patch: '12k' is no number of bytes\n  hint: ");
        assert_int_equal(run(t, "-1"), 1);
        assert_said(t, "carrel-patch: '-1' is no number of bytes\n");
}

static void a_missing_directory_is_named(void **state) {
        Trees *t = *state;
        int fd = t->upper;

        make_dir(t->fd, "empty", 0755);
        put(t->fd, "file", "x", 0644);
        t->upper = openat(t->fd, "file", O_RDONLY);
        assert_int_equal(run(t, NULL), 1);
        assert_said(t, "carrel-patch: no upper directory in descriptor 4: Not a directory\n");
        fd_close(t->upper);
        t->upper = fd;
}

/* What carrel-patch reports of these patterns ('=' before one: it is approved), a line a text. */
static char *reported(Trees *t, const char *const *patterns, size_t n) {
        _cleanup_close_ int out = openat(t->fd, "patch", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        _cleanup_close_ int err = openat(t->fd, "errors", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        const char *arguments[32] = {"carrel-patch"};
        char *text = NULL;
        size_t size;

        if (!exists(t->fd, "empty"))
                make_dir(t->fd, "empty", 0755);
        for (size_t i = 0; i < n; i++) {
                bool approved = *patterns[i] == '=';

                arguments[1 + 2 * i] = approved ? "--approve" : "--protect";
                arguments[2 + 2 * i] = patterns[i] + approved;
        }
        assert_int_equal(end_of(start_with(t, arguments, out, err)), 0);
        assert_int_equal(file_read_at(t->fd, "report", MIB, &text, &size, NULL), 0);
        for (size_t i = 0; i < size; i++)
                if (!text[i])
                        text[i] = '\n';
        return text;
}

#define assert_reported(t, expected, ...)                                                          \
        do {                                                                                       \
                const char *const _patterns[] = {__VA_ARGS__};                                     \
                _cleanup_free_ char *_text = reported(t, _patterns, ELEMENTSOF(_patterns));        \
                assert_string_equal(_text, expected);                                              \
        } while (0)

static void make_protected(int dir) {
        make_dir(dir, ".github", 0755);
        make_dir(dir, ".github/workflows", 0755);
        put(dir, ".github/workflows/ci.yml", "on: push\n", 0644);
        put(dir, ".github/dependabot.yml", "x\n", 0644);
        make_dir(dir, ".git", 0755);
        make_dir(dir, ".git/hooks", 0755);
        put(dir, ".git/hooks/pre-commit", "#!/bin/sh\n", 0755);
        put(dir, "Jenkinsfile", "x\n", 0644);
        put(dir, "src", "x\n", 0644);
}

static void edit_ci(int dir) {
        put(dir, ".github/workflows/ci.yml", "on: pull_request_target\n", 0644);
        put(dir, ".github/workflows/new.yml", "x\n", 0644);
        put(dir, "src", "y\n", 0644);
        assert_int_equal(unlinkat(dir, "Jenkinsfile", 0), 0);
}

static void protected_changes_are_reported_and_approved_ones_not(void **state) {
        Trees *t = *state;

        make_protected(t->lower);
        in_overlay(t, edit_ci);
        assert_reported(t, "3\n.github/workflows/ci.yml\n.github/workflows/new.yml\nJenkinsfile\n",
                        ".github/**", "jenkinsfile");
        assert_reported(t, "1\nJenkinsfile\n", ".github/**", "jenkinsfile",
                        "=.github/workflows/*.yml");
        assert_reported(t, "2\n.github/workflows/new.yml\nJenkinsfile\n", ".github/**",
                        "jenkinsfile", "!**/ci.yml");
        assert_reported(t, "0\n", "other");
}

static void edit_renames(int dir) {
        assert_int_equal(renameat(dir, "src", dir, "Jenkinsfile"), 0); /* over it */
        assert_int_equal(renameat(dir, ".git/hooks/pre-commit", dir, "hook"), 0);
        put(dir, "ci.yml", "x\n", 0644);
        assert_int_equal(renameat(dir, "ci.yml", dir, ".github/renamed.yml"), 0);
        assert_int_equal(linkat(dir, ".github/dependabot.yml", dir, "alias", 0), 0);
        put(dir, "alias", "written by another name\n", 0644);
}

static void renamed_and_linked_files_are_reported(void **state) {
        Trees *t = *state;

        make_protected(t->lower);
        put(t->lower, "Jenkinsfile", "other\n", 0644);
        in_overlay(t, edit_renames);
        assert_reported(t,
                        "4\n.git/hooks/pre-commit\n.github/dependabot.yml\n.github/renamed.yml\n"
                        "Jenkinsfile\n",
                        ".github/**", "**/.git/hooks/**", "Jenkinsfile");
}

static void edit_parents(int dir) {
        assert_int_equal(fchdir(dir), 0);
        assert_int_equal(system("rm -r .github && mkdir ci && touch ci/dependabot.yml && "
                                "ln -s ci .github && rm -r .git && ln -s /elsewhere .git && "
                                "mkdir sub && ln -s ../ci sub/.git && rm Jenkinsfile && "
                                "mkdir Jenkinsfile && touch Jenkinsfile/x"),
                         0);
}

static void what_stands_in_place_of_a_directory_above_is_reported(void **state) {
        Trees *t = *state;

        make_protected(t->lower);
        in_overlay(t, edit_parents);
        assert_reported(t,
                        "7\n.git/hooks/pre-commit\n.git\n.github/workflows/ci.yml\n.github\n"
                        "Jenkinsfile\nJenkinsfile/x\nsub/.git\n",
                        ".github/workflows/**", "**/.git/hooks/**", "Jenkinsfile");
        assert_reported(t,
                        "4\n.github/dependabot.yml\n.github/workflows/ci.yml\n.github\n"
                        "sub/.git\n",
                        ".github/**", "sub/.git/x");
}

static void edit_directories(int dir) {
        make_dir(dir, ".vscode", 0755);
        assert_int_equal(unlinkat(dir, "gone", AT_REMOVEDIR), 0);
        assert_int_equal(fchmodat(dir, ".github", 0777, 0), 0);
        put(dir, "Jenkinsfile", "x\n", 0644); /* the same again */
}

static void a_directory_alone_counts_for_its_permissions(void **state) {
        Trees *t = *state;

        make_protected(t->lower);
        make_dir(t->lower, "gone", 0755);
        in_overlay(t, edit_directories);
        assert_reported(t, "1\n.github\n", ".github/**", ".vscode/**", "gone", "Jenkinsfile");
}

/* More names than libc sorts without asking for the size of the memory. */
static void the_first_hundred_are_named_and_all_are_counted(void **state) {
        _cleanup_free_ char *text = NULL;
        const char *const patterns[] = {".github/**"};
        Trees *t = *state;
        size_t lines = 0;
        char name[32];

        make_dir(t->upper, ".github", 0755);
        for (unsigned i = 0; i < 130; i++) {
                snprintf(name, sizeof name, ".github/%03u", i);
                put(t->upper, name, "x", 0644);
        }
        text = reported(t, patterns, 1);
        for (const char *p = text; (p = strchr(p, '\n')); p++)
                lines++;
        assert_int_equal(lines, 101);
        assert_int_equal(strncmp(text, "130\n.github/000\n", 16), 0);
        assert_non_null(strstr(text, "\n.github/099\n"));
        assert_null(strstr(text, ".github/100"));
}

static void a_bad_pattern_is_named(void **state) {
        const char *const arguments[] = {"carrel-patch", "--protect", "/etc", NULL};
        _cleanup_close_ int err = -EBADF;
        Trees *t = *state;

        make_dir(t->fd, "empty", 0755);
        err = openat(t->fd, "errors", O_WRONLY | O_CREAT | O_TRUNC, 0644);
        assert_int_equal(end_of(start_with(t, arguments, err, err)), 1);
        assert_said(t, "carrel-patch: pattern '/etc' is an absolute path\n  hint: ");
}

/* "Name:\tvalue\n" of /proc/PID/status */
static void assert_status(const char *status, const char *line) {
        if (!strstr(status, line))
                fail_msg("no '%s' in %s", line, status);
}

static void it_has_nothing_left_when_it_writes(void **state) {
        _cleanup_free_ char *status = NULL;
        Trees *t = *state;
        char path[64], root[128] = {}, empty[96], byte;
        int p[2];
        pid_t pid;

        put_bytes(t->upper, "more-than-a-pipe-holds", 400000, 7);
        make_dir(t->fd, "empty", 0755);
        assert_int_equal(pipe2(p, O_CLOEXEC), 0);
        pid = start(t, NULL, p[1], 2);
        assert_int_equal(read(p[0], &byte, 1), 1); /* it writes: now it is as confined as it gets */
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        status = text_of(AT_FDCWD, path);
        snprintf(path, sizeof path, "/proc/%d/root", pid);
        assert_true(readlink(path, root, sizeof root - 1) > 0);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        fd_close_many(p, 2);

        snprintf(empty, sizeof empty, "%s/empty", t->path);
        assert_string_equal(root, empty);
        assert_status(status, "Uid:\t65534\t65534\t65534\t65534\n");
        assert_status(status, "Gid:\t65534\t65534\t65534\t65534\n");
        assert_status(status, "Groups:\t \n");
        assert_status(status, "CapInh:\t0000000000000000\n");
        assert_status(status, "CapPrm:\t0000000000000004\n");
        assert_status(status, "CapEff:\t0000000000000004\n");
        assert_status(status, "CapBnd:\t0000000000000000\n");
        assert_status(status, "CapAmb:\t0000000000000000\n");
        assert_status(status, "NoNewPrivs:\t1\n");
        assert_status(status, "Seccomp:\t2\n");
        assert_status(status, "Seccomp_filters:\t2\n");
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                TREES_TEST(git_makes_of_the_original_what_the_run_made),
                TREES_TEST(no_change_is_an_empty_patch),
                TREES_TEST(files_that_only_their_owner_may_read_are_read),
                TREES_TEST(a_name_with_a_space_ends_with_a_tab),
                TREES_TEST(what_git_refuses_is_left_out_and_said),
                TREES_TEST(large_files_are_left_out_and_the_first_are_named),
                TREES_TEST(a_patch_over_the_limit_is_cut_between_files),
                TREES_TEST(bad_arguments_are_named),
                TREES_TEST(a_missing_directory_is_named),
                TREES_TEST(protected_changes_are_reported_and_approved_ones_not),
                TREES_TEST(renamed_and_linked_files_are_reported),
                TREES_TEST(what_stands_in_place_of_a_directory_above_is_reported),
                TREES_TEST(a_directory_alone_counts_for_its_permissions),
                TREES_TEST(the_first_hundred_are_named_and_all_are_counted),
                TREES_TEST(a_bad_pattern_is_named),
                TREES_TEST(it_has_nothing_left_when_it_writes),
        };

        if (argc != 2) {
                fprintf(stderr, "usage: test-patch PATH-OF-CARREL-PATCH\n");
                return 2;
        }
        patch_program = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
