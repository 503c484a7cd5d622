/*
 * floor: the least that starting a program in a workspace can cost
 *
 *     floor SCRATCH LOWER COMMAND [ARGUMENT...]
 *
 * A bare program that does what a workspace needs of the kernel and nothing else: no policy, no
 * filter, no cgroup, no journal. It clones mount, pid, net, ipc, uts, cgroup and time namespaces,
 * which the host's user namespace owns; mounts an overlay of LOWER with a fresh upper directory
 * below SCRATCH, a read-only /usr and a fresh /proc; pivots; enters a user namespace of 65536 ids;
 * executes COMMAND and waits for it; and removes the upper directory. What carrel costs is given as
 * a ratio to this.
 *
 * Not here: error texts for people. A failed step ends the program with the step's name and its
 * errno.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FIRST_ID = 1879048192, N_IDS = 65536 };

typedef struct Scratch {
        char base[256], upper[300], work[300], root[300];
} Scratch;

static void scratch_make(Scratch *s, const char *parent) {
        snprintf(s->base, sizeof s->base, "%s/floor-XXXXXX", parent);
        if (!mkdtemp(s->base))
                err(1, "mkdtemp '%s'", s->base);
        snprintf(s->upper, sizeof s->upper, "%s/upper", s->base);
        snprintf(s->work, sizeof s->work, "%s/work", s->base);
        snprintf(s->root, sizeof s->root, "%s/root", s->base);
        if (mkdir(s->upper, 0755) < 0 || mkdir(s->work, 0700) < 0 || mkdir(s->root, 0755) < 0)
                err(1, "mkdir below '%s'", s->base);
        if (chown(s->upper, FIRST_ID, FIRST_ID) < 0)
                err(1, "chown '%s'", s->upper);
}

/* The command of a measurement writes no file, so the directories are empty; what stands in work is
 * the overlay's own. */
static void scratch_remove(const Scratch *s) {
        static const char *const own[] = {"work/incompat/volatile/dirty", "work/incompat/volatile",
                                          "work/incompat", "work"};

        for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
                char inner[sizeof s->work + 32];

                snprintf(inner, sizeof inner, "%s/%s", s->work, own[i]);
                if (remove(inner) < 0)
                        err(1, "remove '%s'", inner);
        }
        if (rmdir(s->work) < 0 || rmdir(s->upper) < 0 || rmdir(s->root) < 0 || rmdir(s->base) < 0)
                err(1, "rmdir below '%s'", s->base);
}

static void bind_read_only(const char *source, const char *target) {
        if (mount(source, target, NULL, MS_BIND, NULL) < 0 ||
            mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV,
                  NULL) < 0)
                err(1, "bind '%s'", source);
}

static void root_make(const Scratch *s, const char *lower) {
        char options[1024];

        snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,volatile", lower,
                 s->upper, s->work);
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                err(1, "make mounts private");
        if (mount("overlay", s->root, "overlay", MS_NOSUID | MS_NODEV, options) < 0)
                err(1, "mount overlay (%s)", options);
        if (chdir(s->root) < 0)
                err(1, "chdir '%s'", s->root);
        bind_read_only("/usr", "usr");
        if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
                err(1, "mount proc");
        if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
                err(1, "pivot_root");
}

/* One byte each way: "in the user namespace", "its ids are mapped". */
static void byte_send(int fd) {
        if (write(fd, "", 1) != 1)
                err(1, "write");
}

static void byte_receive(int fd) {
        char byte;

        if (read(fd, &byte, 1) != 1)
                errx(1, "the other side has ended");
}

static _Noreturn void child(const Scratch *s, const char *lower, int sync_fd, char *command[]) {
        root_make(s, lower);
        if (unshare(CLONE_NEWUSER) < 0)
                err(1, "unshare user");
        byte_send(sync_fd);
        byte_receive(sync_fd);
        if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
                err(1, "setresuid");
        execv(command[0], command);
        err(127, "exec '%s'", command[0]);
}

static void map_write(pid_t pid, const char *file) {
        char path[64], text[64];
        int fd, n;

        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
        n = snprintf(text, sizeof text, "0 %d %d", FIRST_ID, N_IDS);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, (size_t)n) != n || close(fd) < 0)
                err(1, "write '%s'", path);
}

int main(int argc, char *argv[]) {
        struct clone_args args = {
                .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                         CLONE_NEWCGROUP | CLONE_NEWTIME,
                .exit_signal = SIGCHLD,
        };
        Scratch scratch;
        int sync_fds[2], status;
        pid_t pid;

        if (argc < 4)
                errx(2, "usage: floor SCRATCH LOWER COMMAND [ARGUMENT...]");
        scratch_make(&scratch, argv[1]);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sync_fds) < 0)
                err(1, "socketpair");

        pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
        if (pid < 0)
                err(1, "clone3");
        if (pid == 0)
                child(&scratch, argv[2], sync_fds[1], argv + 3);

        close(sync_fds[1]);
        byte_receive(sync_fds[0]);
        map_write(pid, "uid_map");
        map_write(pid, "gid_map");
        byte_send(sync_fds[0]);
        if (waitpid(pid, &status, 0) < 0)
                err(1, "waitpid");
        scratch_remove(&scratch);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
