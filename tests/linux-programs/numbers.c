// The calls that a VM answers by itself: what they say after fork, in threads, with other users, and while signals come.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t alarms;
static pid_t process;

static void on_alarm(int signal) { alarms++; }

static long call(long number) { return syscall(number); }

// Runs `number` with these flags, and says which of them are others afterwards.
static unsigned long flags_after(long number, unsigned long flags) {
    unsigned long after;
    asm volatile("lea -128(%%rsp), %%rsp\n push %2\n popf\n syscall\n pushf\n pop %1\n cld\n lea 128(%%rsp), %%rsp"
                 : "+a"(number), "=&r"(after)
                 : "r"(flags)
                 : "rcx", "r11", "memory", "cc");
    return (after ^ flags) & 0xcd5;
}

static void *in_thread(void *unused) {
    int self = call(SYS_gettid);
    printf("thread: %d %d, is one of ours %d\n", call(SYS_getpid) == process, self != process,
           syscall(SYS_tgkill, process, self, 0) == 0);
    pid_t child = fork();
    if (!child) {
        printf("child of a thread: %d %d\n", call(SYS_getpid) == call(SYS_gettid), call(SYS_getpid) != process);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, 0, 0);
    return 0;
}

static void *alone(void *unused) {
    // Without the C library, it is this thread alone that becomes another user.
    syscall(SYS_setresgid, 12, 13, 14);
    syscall(SYS_setresuid, 12, 13, 14);
    printf("thread as user %ld %ld %ld %ld\n", call(SYS_getuid), call(SYS_geteuid), call(SYS_getgid), call(SYS_getegid));
    return 0;
}

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 4096);
    process = getpid();
    printf("first: %d %d %d\n", call(SYS_getpid) == process, call(SYS_gettid) == process, getppid() != process);
    int pipes[2];
    pipe(pipes);
    pid_t child = fork();
    if (!child) {
        int self = call(SYS_getpid), thread = call(SYS_gettid);
        printf("child: %d %d\n", self == thread, getppid() == process);
        write(pipes[1], &self, sizeof self);
        _exit(0);
    }
    int told = 0;
    read(pipes[0], &told, sizeof told);
    waitpid(child, 0, 0);
    printf("is told %d, parent's %d\n", told == child, call(SYS_getpid) == process);
    if (!(child = vfork())) {
        _exit(call(SYS_getpid) == process);
    }
    int status;
    waitpid(child, &status, 0);
    printf("vfork: %d\n", WEXITSTATUS(status));

    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        pthread_create(&threads[i], 0, in_thread, 0);
        pthread_join(threads[i], 0);
    }

    unsigned long changed = 0;
    static const long numbers[] = {SYS_getpid, SYS_gettid, SYS_getuid, SYS_getegid, SYS_getppid, 500};
    for (int n = 0; n < 6; n++)
        for (unsigned long bits = 0; bits < 64; bits++) {
            unsigned long flags = 0x202 | (bits & 1) | (bits & 2) << 1 | (bits & 4) << 2 | (bits & 24) << 3;
            changed |= flags_after(numbers[n], flags | (bits & 32) << 6 | (bits & 1) << 10);
        }
    printf("flags changed: %lx\n", changed);

    signal(SIGALRM, on_alarm);
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, 0);
    int wrong = 0;
    while (alarms < 200) {
        wrong += call(SYS_getpid) != process;
        wrong += call(SYS_gettid) != process;
        wrong += call(SYS_getuid) != getuid();
    }
    timer = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, 0);
    printf("wrong while signals came: %d\n", wrong);
    // A call that waits for nothing is not ended by a handler, which comes before or after it.
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, 0);
    timer = (struct itimerval){{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &timer, 0);
    for (alarms = wrong = 0; alarms < 300;) {
        struct itimerval left;
        wrong += getitimer(ITIMER_VIRTUAL, &left) != 0;
        wrong += getpgid(0) < 0;
        wrong += lseek(pipes[0], 0, SEEK_SET) == 0;
        wrong += kill(process, 0) != 0;
        // A file is read and written to without waiting, and so is a pipe that has room.
        char byte;
        wrong += write(pipes[1], "x", 1) != 1 || read(pipes[0], &byte, 1) != 1;
        int file = open("/proc/self/exe", O_RDONLY);
        wrong += file < 0 || read(file, &byte, 1) != 1 || fcntl(file, F_GETFL) < 0 || close(file);
    }
    timer = (struct itimerval){{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &timer, 0);
    printf("interrupted that wait for nothing: %d\n", wrong);

    if (geteuid() == 0) {
        pthread_create(&threads[0], 0, alone, 0);
        pthread_join(threads[0], 0);
        printf("first thread as user %ld %ld\n", call(SYS_getuid), call(SYS_getegid));
        setregid(3, 4);
        setreuid(3, 4);
        printf("user %ld %ld %ld %ld\n", call(SYS_getuid), call(SYS_geteuid), call(SYS_getgid), call(SYS_getegid));
        if (!(child = fork())) {
            printf("child's user %ld %ld\n", call(SYS_getuid), call(SYS_geteuid));
            _exit(0);
        }
        waitpid(child, 0, 0);
    }
    return 0;
}
