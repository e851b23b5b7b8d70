// What a call does not look at may be anything: results printed, so that a run can be held against one on the host.
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
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// No address of any program's, and no descriptor.
static const long junk = 0x938515550a4ba798;

static void say(const char *what, long result) {
    printf("%s: %ld %s\n", what, result < 0 ? -1 : result, result < 0 ? strerror(errno) : "");
}

int main(void) {
    static int word = 1, other = 1;
    struct timespec soon = {0, 1000};
    say("wake", syscall(SYS_futex, &word, FUTEX_WAKE, 1, junk, junk, junk));
    say("wake bits", syscall(SYS_futex, &word, FUTEX_WAKE_BITSET, 1, junk, junk, 1));
    say("wait", syscall(SYS_futex, &word, FUTEX_WAIT, 0, &soon, junk, junk));
    say("wait long", syscall(SYS_futex, &word, FUTEX_WAIT, 1, &soon, junk, junk));
    say("wait bits", syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &soon, junk, 1));
    say("requeue", syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE, 0, 0, &other, 1));
    say("requeue to nowhere", syscall(SYS_futex, &word, FUTEX_CMP_REQUEUE, 0, 0, junk, 1));
    say("wake op", syscall(SYS_futex, &word, FUTEX_WAKE_OP, 0, 0, &other, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 1)));
    say("wake op nowhere", syscall(SYS_futex, &word, FUTEX_WAKE_OP, 0, 0, junk, 0));
    printf("%d\n", other);
    word = 0;
    say("lock", syscall(SYS_futex, &word, FUTEX_LOCK_PI, junk, 0, junk, junk));
    say("unlock", syscall(SYS_futex, &word, FUTEX_UNLOCK_PI, junk, junk, junk, junk));
    say("trylock", syscall(SYS_futex, &word, FUTEX_TRYLOCK_PI, junk, junk, junk, junk));
    say("wait at nowhere", syscall(SYS_futex, junk, FUTEX_WAIT, 0, 0, junk, junk));
    say("wait until nowhen", syscall(SYS_futex, &word, FUTEX_WAIT, word, junk, 0, 0));
    void *anonymous = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, 5000, 0);
    say("mmap", anonymous == MAP_FAILED ? -1 : 0);
    say("mmap of a file", (long)mmap(0, 4096, PROT_READ, MAP_PRIVATE, 5000, 0));
    pid_t child = syscall(SYS_clone, SIGCHLD, 0, junk, junk, junk);
    if (!child) _exit(3);
    int status = 0;
    say("wait for a child", waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1);
    int pipes[2], poll = epoll_create1(0);
    if (pipe(pipes)) return 1;
    struct epoll_event event = {.events = EPOLLIN};
    say("add", epoll_ctl(poll, EPOLL_CTL_ADD, pipes[0], &event));
    say("modify", syscall(SYS_epoll_ctl, poll, EPOLL_CTL_MOD, pipes[0], junk));
    say("delete", syscall(SYS_epoll_ctl, poll, EPOLL_CTL_DEL, pipes[0], junk));
    say("sleep", syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &soon, junk));
    struct stat found;
    say("openat", openat(5000, "/etc/hostname", O_RDONLY) >= 0 ? 0 : -1);
    say("openat here", openat(5000, "hostname", O_RDONLY));
    say("fstatat", fstatat(5000, "/", &found, 0));
    say("fstatat here", fstatat(5000, "", &found, AT_EMPTY_PATH));
    say("faccessat", syscall(SYS_faccessat, 5000, "/", R_OK));
    say("utimensat", syscall(SYS_utimensat, 5000, 0, 0, 0));
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 1;
    if (write(pair[0], "xy", 2) != 2) return 1;
    char bytes[4];
    say("recvfrom", syscall(SYS_recvfrom, pair[1], bytes, 1, 0, 0, junk));
    say("recvfrom somebody", syscall(SYS_recvfrom, pair[1], bytes, 1, MSG_DONTWAIT, bytes, junk));
    say("accept", syscall(SYS_accept4, pair[1], 0, junk, 0));
    return 0;
}
