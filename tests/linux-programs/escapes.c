// What a program may try to get at the process that serves it. Each line says what came of it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
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
#include <sys/un.h>
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

// Another thread changes what a call is about to read, all the time: a piece of memory of ours, and one of nobody's.
static struct iovec racing;
static char inside[64];
static volatile int is_over;
static void *race(void *unused) {
    (void)unused;
    while (!is_over) {
        racing.iov_base = inside;
        racing.iov_len = sizeof inside;
        racing.iov_base = (char *)(62L << 30) - 32;
        racing.iov_len = -4096L;
    }
    return 0;
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
                           "/proc/self/cwd/../../../../../../../proc/self/mem", "/dev/mem", "/dev/kvm", "/proc/self/auxv", "/proc/self/smaps",
                           "/proc/thread-self/map_files", "/proc/self/task/../map_files", "/proc/self/fd/../mem",
                           "/proc/self/stack", "/proc/self/syscall", "/proc/self/clear_refs",
                           "/proc/self/smaps_rollup", "/proc/self/numa_maps", "/proc/self/personality"};
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
    // Files that are mapped, by the addresses that the program knows and by those where they are: none by its link.
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], link[64];
    unsigned long start, stop, lines = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx", &start, &stop) != 2) continue;
        lines++;
        sprintf(link, "/proc/self/map_files/%lx-%lx", start, stop);
        refused("a mapped file's link", readlink(link, buffer, sizeof buffer), ENOENT);
        refused("a mapped file", open(link, O_RDONLY), ENOENT);
        sprintf(link, "/proc/%d/map_files/%lx-%lx", getpid(), start, stop);
        refused("a mapped file by number", open(link, O_RDWR), ENOENT);
    }
    if (!lines) failures++, puts("HOLE no maps to try");
    refused("all mapped files", (long)(opendir("/proc/self/map_files") ? 0 : -1), ENOENT);
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
    // Whether another process's socket is reached is a test of its own: here is none that would certainly be there.
    refused("a name for a local socket", bind(pair[0], (struct sockaddr *)"\1\0/run/x", 8), EROFS);
    // What changes while it is read is copied once: a read ends inside, or is refused.
    pthread_t racer;
    if (pthread_create(&racer, 0, race, 0)) return 2;
    for (int round = 0; round < 2000; round++) {
        long got = readv(zero, &racing, 1);
        if (got != sizeof inside && !(got == -1 && (errno == EFAULT || errno == EINVAL)) && got != 0 && got != 32)
            failures++, printf("HOLE a piece that changes: %ld\n", got);
    }
    is_over = 1;
    pthread_join(racer, 0);
    // Other processes again, by calls that are no signals at first sight.
    int parent = getppid();
    refused("another one's priority", setpriority(PRIO_PROCESS, parent, 19), EPERM);
    refused("all of a user's", setpriority(PRIO_USER, 0, 19), EPERM);
    cpu_set_t processors;
    CPU_ZERO(&processors);
    CPU_SET(0, &processors);
    refused("another one's processors", sched_setaffinity(parent, sizeof processors, &processors), EPERM);
    struct sched_param param = {0};
    refused("another one's scheduling", sched_setscheduler(parent, SCHED_BATCH, &param), EPERM);
    struct { unsigned size, policy; long flags; int nice, priority; long runtime, deadline, period; } attributes = {48, SCHED_BATCH};
    refused("another one's scheduling by attributes", syscall(SYS_sched_setattr, parent, &attributes, 0), EPERM);
    refused("another one's input and output", syscall(SYS_ioprio_set, 1, parent, 3 << 13), EPERM);
    refused("all of a user's input and output", syscall(SYS_ioprio_set, 3, 0, 3 << 13), EPERM);
    refused("signals by a descriptor", fcntl(pair[0], F_SETOWN, parent), EPERM);
    refused("another one's limits", prlimit(parent, RLIMIT_CPU, 0, &limit), EPERM);
    refused("its own number of files", prlimit(0, RLIMIT_NOFILE, &limit, 0), EPERM);
    // Walls that are put up until there is no more room, and rights that are to be had back.
    refused("a filter", syscall(SYS_seccomp, 1, 0, 0), ENOSYS);
    refused("a filter by prctl", prctl(PR_SET_SECCOMP, 2, 0, 0, 0), EINVAL);
    refused("landlock", syscall(SYS_landlock_create_ruleset, 0, 0, 1), ENOSYS);
    refused("rights to programs", prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), EINVAL);
    refused("a name space", syscall(SYS_clone, 0x10000000 | SIGCHLD, 0, 0, 0, 0), EPERM);
    refused("somebody else's child", syscall(SYS_clone, 0x8000 | SIGCHLD, 0, 0, 0, 0), EPERM);
    refused("a mount", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0), EPERM);
    refused("the new mounts", syscall(SYS_fsopen, "tmpfs", 0), ENOSYS);
    refused("another root", syscall(SYS_chroot, "/tmp"), EPERM);
    refused("words for a terminal", ioctl(0, 0x5412, "x"), ENOTTY);
    refused("KVM on our own descriptor", ioctl(pair[0], 0xae01, 0), ENOTTY);
    // Sockets that lead to others by a name, abstract or not.
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0matchstick"};
    int named = socket(AF_UNIX, SOCK_DGRAM, 0);
    // One of its own it may have where the kernel keeps it among its own; nobody else has this one.
    if (sendto(named, "x", 1, 0, (struct sockaddr *)&name, 13) != -1) failures++, puts("HOLE a message to one");
    strcpy(name.sun_path, "/run/x");
    refused("a name of its own", bind(named, (struct sockaddr *)&name, sizeof name), EROFS);
    refused("raw packets", socket(AF_PACKET, SOCK_RAW, 0), EACCES);
    // A memory file is run as any other: in the VM, behind the same walls.
    int memory = memfd_create("program", 0);
    if (memory < 0 || write(memory, "#!/nothing\n", 11) != 11) failures++, printf("HOLE memfd\n");
    char *none[] = {0};
    refused("a memory file that is no program", syscall(SYS_execveat, memory, "", none, none, 0x1000), ENOENT);
    // What ends the process that serves us, is ours to ignore and not to switch off.
    signal(SIGSYS, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    refused("a call that is none", syscall(600), ENOSYS);
    printf("%d holes\n", failures);
    return failures ? 1 : 0;
}
