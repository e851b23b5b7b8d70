// How threads and processes end: the locks that they leave behind, and execve from any thread. Printed, so that a run
// can be held against one on the host itself.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Shared with children.
static struct shared {
    pthread_mutex_t locks[4];
    pthread_mutex_t pi;
    volatile int held;
} *shared;

static void make(pthread_mutex_t *lock, int protocol) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutex_init(lock, &attributes);
}

// Takes every lock, says how, and makes them whole again.
static void take(const char *after) {
    printf("%s:", after);
    for (int i = 0; i < 5; i++) {
        pthread_mutex_t *lock = i < 4 ? &shared->locks[i] : &shared->pi;
        struct timespec limit;
        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += 20;
        int error = pthread_mutex_timedlock(lock, &limit);
        printf(" %s", error ? strerrorname_np(error) : "free");
        if (error == EOWNERDEAD) pthread_mutex_consistent(lock);
        if (!error || error == EOWNERDEAD) pthread_mutex_unlock(lock);
    }
    puts("");
}

static void hold(int from) {
    for (int i = from; i < 4; i++) pthread_mutex_lock(&shared->locks[i]);
    pthread_mutex_lock(&shared->pi);
    shared->held = 1;
}

static void *holds(void *unused) {
    hold(1);
    return 0;
}

static void *holds_and_waits(void *unused) {
    hold(0);
    for (;;) pause();
}

static void *holds_and_spins(void *unused) {
    hold(0);
    for (volatile long i = 0;; i++) {}
}

static void *waits(void *unused) {
    int error = pthread_mutex_lock(&shared->locks[1]);
    if (error == EOWNERDEAD) pthread_mutex_consistent(&shared->locks[1]);
    pthread_mutex_unlock(&shared->locks[1]);
    return (void *)(long)error;
}

static void start(void *(*body)(void *)) {
    pthread_t thread;
    pthread_create(&thread, 0, body, 0);
    while (!shared->held) usleep(1000);
}

// What a child does that holds locks, and how it ends then.
static void child(int how) {
    switch (how) {
    case 0: hold(0); exit(0);
    case 1: start(holds_and_waits); _exit(1);
    case 2: start(holds_and_spins); _exit(2);
    case 3: hold(0); raise(SIGTERM);
    case 4: hold(0); *(volatile int *)16 = 0;
    case 5: start(holds_and_spins); kill(getpid(), SIGINT); for (;;) pause();
    case 6: hold(0); execl("/bin/true", "true", (char *)0);
    case 7: start(holds_and_spins); execl("/bin/true", "true", (char *)0);
    case 8: hold(2); for (;;) pause();
    case 9: start(holds_and_waits); abort();
    }
    _exit(99);
}

static void locks(void) {
    shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 4; i++) make(&shared->locks[i], PTHREAD_PRIO_NONE);
    make(&shared->pi, PTHREAD_PRIO_INHERIT);
    take("nobody has ended");
    pthread_t thread, waiter;
    pthread_create(&thread, 0, holds, 0);
    pthread_join(thread, 0);
    take("after a thread");
    for (int how = 0; how < 10; how++) {
        shared->held = 0;
        pid_t pid = fork();
        if (!pid) child(how);
        if (how == 8) {
            while (!shared->held) usleep(1000);
            kill(pid, SIGTERM);
        }
        int status;
        waitpid(pid, &status, 0);
        printf("child %d, status %d signal %d, ", how, WEXITSTATUS(status), WTERMSIG(status));
        take("after it");
    }
    // One who waits already is woken.
    shared->held = 0;
    pid_t pid = fork();
    if (!pid) {
        hold(1);
        usleep(300000);
        _exit(0);
    }
    while (!shared->held) usleep(1000);
    void *error;
    pthread_create(&waiter, 0, waits, 0);
    pthread_join(waiter, &error);
    waitpid(pid, 0, 0);
    printf("who waited: %s\n", strerrorname_np((long)error));
    void *head = 0;
    size_t size = 0;
    long done = syscall(SYS_get_robust_list, 0, &head, &size);
    printf("list: %ld, %d, %zu\n", done, head != 0, size);
    printf("a head of another size: %ld\n", syscall(SYS_set_robust_list, head, 23));
    // A list that is none, or has no end, ends nothing.
    static struct robust_list circle = {&circle};
    static struct robust_list_head heads[] = {{{(void *)8}, 0, (void *)16}, {{&circle}, 3, 0}, {{&circle}, 0, &circle}};
    for (int i = 0; i < 4; i++) {
        if (!(pid = fork())) {
            syscall(SYS_set_robust_list, i < 3 ? (void *)&heads[i] : (void *)-24L, 24);
            _exit(i);
        }
        int status;
        waitpid(pid, &status, 0);
        printf("bad list %d\n", WEXITSTATUS(status));
    }
}

static int stage;
static char self[64];

static void *becomes(void *unused) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_SETMASK, &set, 0);
    char next[16], number[16];
    sprintf(next, "%d", stage);
    sprintf(number, "%d", getpid());
    execl("/nonexistent", "x", (char *)0);
    execl(self, "ends", next, number, (char *)0);
    _exit(98);
}

static void *sleeps(void *unused) {
    for (;;) pause();
}

static void *spins(void *unused) {
    for (volatile long i = 0;; i++) {}
}

static void *reads(void *pipe) {
    char byte;
    for (;;) read(*(int *)pipe, &byte, 1);
}

// execve from a thread, beside others; `again` says what has come before.
static int anew(int again, const char *number) {
    sigset_t set;
    sigprocmask(0, 0, &set);
    struct sigaction action;
    sigaction(SIGUSR2, 0, &action);
    // The timer of the program before would have come by then, and ended this one.
    if (again == 1) usleep(900000);
    printf("stage %d: same process %d, first thread %d, mask kept %d, handler %d, alone %d\n", again,
           getpid() == atoi(number), syscall(SYS_gettid) == getpid(), sigismember(&set, SIGUSR1),
           action.sa_handler != SIG_DFL, access("/proc/self/task", F_OK));
    stage = again + 1;
    pthread_t thread;
    static int pipes[2];
    signal(SIGUSR2, (void (*)(int))becomes);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct itimerspec time = {.it_value.tv_nsec = 800000000};
    switch (again) {
    case 0:
        for (int i = 0; i < 3; i++) pthread_create(&thread, 0, i ? sleeps : spins, 0);
        timer_create(CLOCK_MONOTONIC, &event, &timer);
        timer_settime(timer, 0, &time, 0);
        pthread_create(&thread, 0, becomes, 0);
        for (;;) pause();
    case 1:
        if (pipe2(pipes, O_CLOEXEC)) return 97;
        pthread_create(&thread, 0, reads, pipes);
        pthread_create(&thread, 0, becomes, 0);
        reads(pipes);
    case 2:
        pthread_create(&thread, 0, becomes, 0);
        pthread_exit(0);
    case 3: {
        // All at once: one of them does it.
        for (int i = 0; i < 4; i++) pthread_create(&thread, 0, becomes, 0);
        becomes(0);
    }
    case 4: return 42;
    }
    return 0;
}

// A child of a thread that is not the first: its threads end as any others, and become other programs.
static void *forks(void *how) {
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        pthread_t thread;
        stage = 4;
        if (how) {
            pthread_create(&thread, 0, becomes, 0);
            for (;;) pause();
        }
        // Its first thread ends before another one, which has the last word but not the status.
        pthread_create(&thread, 0, (void *(*)(void *))usleep, (void *)20000);
        syscall(SYS_exit, 5);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("child of a thread: %d\n", WEXITSTATUS(status));
    return 0;
}

int main(int argc, char **argv) {
    setbuf(stdout, 0);
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) return 96;
    if (argc > 2) return anew(atoi(argv[1]), argv[2]);
    locks();
    pthread_t thread;
    for (long how = 0; how < 2; how++) {
        pthread_create(&thread, 0, forks, (void *)how);
        pthread_join(thread, 0);
    }
    char number[16];
    sprintf(number, "%d", getpid());
    return anew(0, number);
}
