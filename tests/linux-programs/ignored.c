// Calls with anything in the arguments that Linux does not look at, as a program's registers have it: none of it is a
// wrong address or a wrong descriptor.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Neither an address of the program's, nor a descriptor.
#define ANY 0x7fffffff0f0l

static void tell(const char *name, long result) {
    printf("%s: %s\n", name, result < 0 ? strerror(errno) : "well");
}

int main(void) {
    int word = 0, pair[2];
    tell("futex, wake", syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, ANY, ANY, ANY));
    tell("futex, wake some", syscall(SYS_futex, &word, FUTEX_WAKE_BITSET, 1, ANY, ANY, 1));
    tell("futex, wait", syscall(SYS_futex, &word, FUTEX_WAIT, 1, 0, ANY, ANY));
    tell("futex, lock", syscall(SYS_futex, &word, FUTEX_LOCK_PI, ANY, 0, ANY, ANY));
    tell("futex, unlock", syscall(SYS_futex, &word, FUTEX_UNLOCK_PI, ANY, ANY, ANY, ANY));
    long child = syscall(SYS_clone, SIGCHLD, 0, ANY, ANY, ANY);
    if (!child) _exit(0);
    tell("clone", child);
    tell("wait", waitpid((pid_t)child, 0, 0));

    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    tell("epoll, add", epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event));
    tell("epoll, delete", syscall(SYS_epoll_ctl, epoll, EPOLL_CTL_DEL, pair[0], ANY));
    tell("mmap", syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 5000, 0));
    struct timespec past = {0};
    tell("sleep", syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &past, ANY));

    tell("write of nothing", syscall(SYS_write, pair[1], ANY, 0));
    tell("send", send(pair[1], "x", 1, 0));
    char byte;
    tell("receive", syscall(SYS_recvfrom, pair[0], &byte, 1, 0, 0, ANY));
    struct iovec piece = {"y", 1};
    struct msghdr message = {.msg_name = (void *)ANY, .msg_iov = &piece, .msg_iovlen = 1, .msg_control = (void *)ANY};
    tell("send of a message", sendmsg(pair[1], &message, 0));
    tell("receive", recv(pair[0], &byte, 1, 0));
    int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    tell("accept", syscall(SYS_accept4, listening, 0, ANY, SOCK_NONBLOCK));

    // A path that begins at the root begins at no other directory.
    struct stat found;
    tell("openat", openat(5000, "/etc/hostname", O_RDONLY));
    tell("openat of a name", openat(5000, "hostname", O_RDONLY));
    tell("fstatat", fstatat(5000, "/", &found, 0));
    tell("fstatat of nothing", fstatat(5000, "", &found, AT_EMPTY_PATH));
    tell("utimensat of nothing", syscall(SYS_utimensat, 5000, 0, 0, 0));
    tell("mmap of a file", syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, 5000, 0));
    tell("futex, requeue", syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE, 0, 0, ANY & -8, word));
    tell("futex, wait till then", syscall(SYS_futex, &word, FUTEX_WAIT, word, ANY, 0, 0));
    return 0;
}
