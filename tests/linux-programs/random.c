// Random system calls with random arguments, from two threads that share what the pointers lead to. Each child begins
// with a number of its own and makes the same calls every time. It may end however it likes; who serves it may not.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static _Thread_local uint64_t state;
static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static char *memory;
static const char *paths[] = {"/", ".", "..", "", "/proc/self/fd/0", "/proc/self/mem", "/dev/null", "/etc/passwd",
                              "/proc/self/exe", "/tmp/../proc/1/root", "/proc/self/fd", "x/../y", "/dev/fd/1024"};

static uint64_t pointer(void) {
    switch (next() % 8) {
    case 0: return 0;
    case 1: return (uint64_t)memory + 65536 - next() % 64;
    case 2: return (62UL << 30) - next() % 64;
    case 3: return next();
    case 4: return (uint64_t)paths[next() % (sizeof paths / sizeof *paths)];
    default: return (uint64_t)memory + next() % 65536 / 8 * 8;
    }
}

static uint64_t argument(void) {
    switch (next() % 6) {
    case 0: return next() % 16;
    case 1: return pointer();
    case 2: return 1UL << next() % 64;
    case 3: return -(next() % 4096);
    case 4: return 1000 + next() % 64;
    default: return next() % 8192;
    }
}

// What would only wait, end it, or begin it anew.
static int is_left_out(long number) {
    switch (number) {
    case SYS_exit: case SYS_exit_group: case SYS_pause: case SYS_rt_sigsuspend: case SYS_execve: case SYS_execveat:
    case SYS_fork: case SYS_vfork: case SYS_clone: case SYS_rt_sigreturn: case SYS_kill: case SYS_tkill: case SYS_tgkill:
    case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: case SYS_wait4: case SYS_waitid: case SYS_sync:
        return 1;
    }
    return 0;
}

static void *calls(void *seed) {
    state = (uint64_t)seed * 0x9e3779b97f4a7c15 + 1;
    for (int round = 0; round < 1500; round++) {
        // What is mapped may be gone by now; what pointers lead to holds pointers and numbers.
        for (int word = 0; word < 4; word++) {
            uint64_t at = next() % 8192;
            mprotect(memory, 65536, PROT_READ | PROT_WRITE);
            ((volatile uint64_t *)memory)[at] = argument();
        }
        long number = next() % 8 ? next() % 460 : next();
        if (!is_left_out(number)) syscall(number, argument(), argument(), argument(), argument(), argument(), argument());
    }
    return 0;
}

int main(int argc, char **argv) {
    long first = argc > 1 ? atol(argv[1]) : 1, count = argc > 2 ? atol(argv[2]) : 8;
    for (long seed = first; seed < first + count; seed++) {
        pid_t child = fork();
        if (child == 0) {
            // Whatever waits is called back, unless that is called off.
            alarm(5);
            setpgid(0, 0);
            for (int fd = 0; fd < 3; fd++) close(fd);
            memory = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            pthread_t other;
            pthread_create(&other, 0, calls, (void *)(seed << 1 | 1));
            calls((void *)(seed << 1));
            _exit(0);
        }
        int status;
        // It may wait for what never comes.
        for (int tenths = 0; waitpid(child, &status, WNOHANG) == 0; tenths++) {
            usleep(100000);
            if (tenths == 100) kill(child, SIGKILL);
        }
        // 125: who serves it failed, or the filter stopped it. 101 and SIGABRT: it panicked.
        int is_ours = WIFEXITED(status) ? WEXITSTATUS(status) == 125 || WEXITSTATUS(status) == 101
                                        : WTERMSIG(status) == SIGABRT;
        printf("%ld %s\n", seed, is_ours ? "FAILED" : "ok");
        fflush(stdout);
    }
    return 0;
}
