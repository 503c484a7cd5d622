/* Probes of what carrel handles processes with. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/host.h"

#define HOST_OK      CARREL__V1__HOST_STATE__HOST_STATE_OK
#define HOST_MISSING CARREL__V1__HOST_STATE__HOST_STATE_MISSING

void host_probe_pidfd(const HostProbe *p, HostResult *r) {
        _cleanup_close_ int fd = -EBADF;
        siginfo_t info;
        pid_t pid = fork();

        if (pid == 0)
                for (;;)
                        pause();
        fd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
        if (fd < 0 || syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 ||
            waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED) < 0) {
                host_lacks(r, errno, "pidfd");
                if (pid > 0)
                        (void)kill(pid, SIGKILL);
                return;
        }
        host_found(r, HOST_OK, "a child was signalled and waited for");
}

void host_probe_close_range(const HostProbe *p, HostResult *r) {
        int fd = open("/dev/null", O_RDONLY);

        if (syscall(SYS_close_range, fd, fd, CLOSE_RANGE_CLOEXEC) < 0)
                host_lacks(r, errno, "close_range");
        else if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC))
                host_found(r, HOST_MISSING, "close_range does nothing");
        else
                host_found(r, HOST_OK, "works");
        close(fd);
}

/* A whole program: exit(42). */
typedef struct HostProgram {
        Elf64_Ehdr header;
        Elf64_Phdr segment;
        unsigned char code[16];
} HostProgram;

static HostProgram host_make_program(void) {
        static const unsigned char code[] = {0xb8, 60,  0, 0, 0, /* mov eax, SYS_exit */
                                             0xbf, 42,  0, 0, 0, /* mov edi, 42 */
                                             0x0f, 0x05};        /* syscall */
        const uint64_t base = 0x400000;
        HostProgram program = {
                .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
                                       EV_CURRENT},
                           .e_type = ET_EXEC,
                           .e_machine = EM_X86_64,
                           .e_version = EV_CURRENT,
                           .e_entry = base + offsetof(HostProgram, code),
                           .e_phoff = offsetof(HostProgram, segment),
                           .e_ehsize = sizeof(Elf64_Ehdr),
                           .e_phentsize = sizeof(Elf64_Phdr),
                           .e_phnum = 1},
                .segment = {.p_type = PT_LOAD,
                            .p_flags = PF_R | PF_X,
                            .p_vaddr = base,
                            .p_paddr = base,
                            .p_filesz = sizeof(HostProgram),
                            .p_memsz = sizeof(HostProgram),
                            .p_align = 0x1000},
        };

        memcpy(program.code, code, sizeof code);
        return program;
}

void host_probe_memfd_exec(const HostProbe *p, HostResult *r) {
        char name[] = "probe", *argv[] = {name, NULL}, *envp[] = {NULL};
        HostProgram program = host_make_program();
        _cleanup_close_ int fd = fd_memfd_sealed("carrel-doctor", &program, sizeof program);
        int status = 0;
        pid_t pid;

        if (fd < 0) {
                host_lacks(r, -fd, "a sealed memory file");
                return;
        }
        pid = fork();
        if (pid == 0) {
                syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH);
                _exit(errno & 0xff);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                host_lacks(r, errno, "fork");
        else if (WIFEXITED(status) && WEXITSTATUS(status) == 42)
                host_found(r, HOST_OK, "a program ran from one");
        else
                host_lacks(r, WIFEXITED(status) ? WEXITSTATUS(status) : EIO, "execveat");
}
