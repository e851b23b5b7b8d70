// What a program may try to get at the process that serves it. Each line says what came of it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int failures;

static void refused(const char *what, long result, int expected) {
    int ok = result == -1 && errno == expected;
    if (!ok) failures++;
    printf("%s %s: %ld %s\n", ok ? "ok" : "HOLE", what, result, result == -1 ? strerrorname_np(errno) : "");
}

static sigjmp_buf back;
static void fault(int signal) {
    (void)signal;
    siglongjmp(back, 1);
}

static void stays(const char *what, volatile char *at) {
    signal(SIGSEGV, fault);
    if (!sigsetjmp(back, 1)) {
        *at = 1;
        failures++;
        printf("HOLE %s: written to\n", what);
    } else {
        printf("ok %s: SIGSEGV\n", what);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    setbuf(stdout, 0);
    char buffer[64];
    // Descriptors of the process that serves us: 1024 and above.
    for (int fd = 1024; fd < 1032; fd++) {
        if (ioctl(fd, 0xae80, 0) != -1 || errno != EBADF) failures++, printf("HOLE ioctl %d\n", fd);
        if (close(fd) != -1 || errno != EBADF) failures++, printf("HOLE close %d\n", fd);
        if (dup(fd) != -1 || errno != EBADF) failures++, printf("HOLE dup %d\n", fd);
        if (dup2(0, fd) != -1 || errno != EBADF) failures++, printf("HOLE dup2 %d\n", fd);
        if (dup3(0, fd, 0) != -1 || errno != EBADF) failures++, printf("HOLE dup3 %d\n", fd);
        if (mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED) failures++, printf("HOLE mmap %d\n", fd);
        if (read(fd, buffer, 1) != -1 || errno != EBADF) failures++, printf("HOLE read %d\n", fd);
        if (fcntl(fd, F_DUPFD, 3) != -1 || errno != EBADF) failures++, printf("HOLE F_DUPFD %d\n", fd);
        char path[64];
        sprintf(path, "/proc/self/fd/%d", fd);
        if (open(path, O_RDWR) != -1) failures++, printf("HOLE open %s\n", path);
        if (readlink(path, buffer, sizeof buffer) != -1) failures++, printf("HOLE readlink %s\n", path);
        sprintf(path, "/dev/fd/%d", fd);
        if (open(path, O_RDWR) != -1) failures++, printf("HOLE open %s\n", path);
    }
    refused("fcntl F_DUPFD to ours", fcntl(0, F_DUPFD, 1024), EINVAL);
    printf("%s close_range\n", close_range(1000, ~0U, 0) ? "HOLE" : "ok");
    struct rlimit limit = {4096, 4096};
    refused("more open files", setrlimit(RLIMIT_NOFILE, &limit), EPERM);
    // A message with a descriptor of ours.
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 2;
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control = {0};
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    struct iovec piece = {buffer, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    for (int fd = 1024; fd < 1028; fd++) {
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        if (sendmsg(pair[0], &message, 0) != -1 || errno != EBADF) failures++, printf("HOLE sendmsg %d\n", fd);
    }
    // Memory of the process that serves us, by its files.
    const char *files[] = {"/proc/self/mem", "/proc/thread-self/mem", "/proc/self/task/../mem", "/proc/self/pagemap",
                           "/proc/self/map_files", "/proc/self/environ", "/proc/1/environ", "/proc/kcore", "/proc/kmsg",
                           "/proc/self/cwd/../../../../../../../proc/self/mem", "/dev/mem", "/dev/kvm", "/proc/self/auxv", "/proc/self/smaps"};
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        int fd = open(files[i], O_RDONLY);
        if (fd != -1) failures++, printf("HOLE open %s\n", files[i]);
        int directory = open("/proc/self", O_RDONLY | O_DIRECTORY);
        if (directory != -1 && strncmp(files[i], "/proc/self/", 11) == 0) {
            fd = openat(directory, files[i] + 11, O_RDWR);
            if (fd != -1) failures++, printf("HOLE openat %s\n", files[i]);
        }
        close(directory);
    }
    // Addresses that begin inside and end outside, and sums that wrap.
    long end = 62L << 30;
    char *edges[] = {(char *)-1L, (char *)-4096L, (char *)end, (char *)(end - 1), (char *)(1L << 47), (char *)(63L << 30)};
    int zero = open("/dev/zero", O_RDONLY);
    for (unsigned i = 0; i < sizeof edges / sizeof *edges; i++) {
        if (read(zero, edges[i], 4096) != -1 || errno != EFAULT) failures++, printf("HOLE read to %p\n", edges[i]);
        struct iovec vector[2] = {{buffer, 1}, {edges[i], 4096}};
        long got = readv(zero, vector, 2);
        if (got > 1) failures++, printf("HOLE readv to %p\n", edges[i]);
        if (syscall(SYS_getrandom, edges[i], 4096, 0) > 0) failures++, printf("HOLE getrandom to %p\n", edges[i]);
        if (syscall(SYS_clock_gettime, 0, edges[i]) != -1) failures++, printf("HOLE clock_gettime to %p\n", edges[i]);
        if (readv(zero, (struct iovec *)edges[i], 2) != -1) failures++, printf("HOLE iovec at %p\n", edges[i]);
        if (open(edges[i], O_RDONLY) != -1) failures++, printf("HOLE path at %p\n", edges[i]);
    }
    if (read(zero, buffer, -1UL) != -1) failures++, printf("HOLE a length that wraps\n");
    refused("mmap outside", (long)mmap((void *)(63L << 30), 4096, 3, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    refused("mprotect outside", mprotect((void *)(63L << 30), 4096, 7), ENOMEM);
    refused("munmap outside", munmap((void *)(63L << 30), 4096), EINVAL);
    refused("madvise DONTFORK", madvise((void *)((long)buffer & ~4095L), 4096, MADV_DONTFORK), EINVAL);
    // What lies beside us in the VM.
    stays("page tables", (char *)(63L << 30));
    stays("descriptor tables", (char *)(63L << 30) + 0x4000);
    stays("the stub", (char *)(63L << 30) + 0x7000);
    stays("behind the program", (char *)end);
    if (getauxval(AT_SYSINFO_EHDR)) stays("the vDSO", (char *)getauxval(AT_SYSINFO_EHDR));
    // Other processes.
    refused("a signal to process 1", kill(1, 0), EPERM);
    refused("a signal to our parent", kill(getppid(), 0), EPERM);
    refused("ptrace", syscall(SYS_ptrace, 0, 0, 0, 0), EPERM);
    refused("process_vm_readv", syscall(SYS_process_vm_readv, getpid(), 0, 0, 0, 0, 0), ENOSYS);
    refused("io_uring", syscall(SYS_io_uring_setup, 1, 0), ENOSYS);
    refused("bpf", syscall(SYS_bpf, 0, 0, 0), ENOSYS);
    refused("pidfd_getfd", syscall(SYS_pidfd_getfd, 0, 0, 0), ENOSYS);
    refused("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, 0, 0), ENOSYS);
    refused("an internet socket", socket(AF_INET, SOCK_STREAM, 0), EACCES);
    refused("unshare", unshare(0x10000000), EPERM);
    refused("a loadable filter", setsockopt(pair[0], SOL_SOCKET, SO_ATTACH_FILTER, buffer, 16), ENOPROTOOPT);
    // Files that are not ours to change.
    refused("a new file", open("/matchstick-test", O_CREAT | O_WRONLY, 0600), EROFS);
    refused("an old file", open(argv[0], O_WRONLY), EROFS);
    refused("its end", open(argv[0], O_RDONLY | O_TRUNC), EROFS);
    refused("its permissions", chmod(argv[0], 0644), EROFS);
    refused("its name", rename(argv[0], "/matchstick-test"), EROFS);
    refused("a directory", mkdir("/matchstick-test", 0700), EROFS);
    refused("a device", mknod("/tmp/matchstick-null", S_IFCHR | 0666, 0x103), EPERM);
    int passwd = open(argv[0], O_RDONLY);
    refused("permissions by a descriptor", fchmod(passwd, 0644), EROFS);
    refused("an address for a local socket", connect(pair[0], (struct sockaddr *)"\1\0/run/x", 8), EACCES);
    printf("%d holes\n", failures);
    return failures ? 1 : 0;
}
