// Processes and threads, and what they share: printed, so that a run can be held against one on the host itself.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static long total, turns;
static __thread int own = 5;

static void *add(void *number) {
    own += (int)(long)number;
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&lock);
        total += (long)number;
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    turns++;
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
    return (void *)(long)own;
}

static void *forks(void *unused) {
    (void)unused;
    pid_t child = fork();
    if (!child) _exit(syscall(SYS_gettid) == getpid() ? 9 : 1);
    int status;
    waitpid(child, &status, 0);
    return (void *)(long)WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    setbuf(stdout, 0);
    if (argc > 1) {
        printf("anew: %s %s %s\n", argv[1], getenv("TOLD"), getcwd(0, 0) ? "there" : "nowhere");
        return 23;
    }
    pthread_t threads[6];
    for (long i = 0; i < 6; i++) pthread_create(&threads[i], 0, add, (void *)i);
    pthread_mutex_lock(&lock);
    while (turns < 6) pthread_cond_wait(&more, &lock);
    pthread_mutex_unlock(&lock);
    for (long i = 0; i < 6; i++) {
        void *result;
        pthread_join(threads[i], &result);
        printf("thread %ld: %ld\n", i, (long)result);
    }
    printf("total %ld, own %d\n", total, own);
    void *result;
    pthread_create(&threads[0], 0, forks, 0);
    pthread_join(threads[0], &result);
    printf("forked in a thread: %ld\n", (long)result);

    // posix_spawn tells why it could not, through memory that it shares with its child.
    pid_t child;
    int status;
    char *words[] = {"sh", "-c", "exit 6", 0};
    printf("spawn: %s\n", strerror(posix_spawn(&child, "/nonexistent", 0, 0, words, environ)));
    printf("spawn: %s", strerror(posix_spawn(&child, "/bin/sh", 0, 0, words, environ)));
    waitpid(child, &status, 0);
    printf(", status %d\n", WEXITSTATUS(status));
    // What a child of vfork changes, its parent sees.
    volatile int changed = 1;
    if (!(child = vfork())) {
        changed = 2;
        _exit(3);
    }
    waitpid(child, &status, 0);
    printf("vfork: %d, status %d\n", changed, WEXITSTATUS(status));
    // Shared memory is shared with a child, private memory is not.
    int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *private = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!(child = fork())) {
        *shared = *private = 7;
        _exit(0);
    }
    waitpid(child, 0, 0);
    printf("shared %d, private %d\n", *shared, *private);
    // Memory: grown, moved, given back.
    char *grown = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(grown, "moved");
    grown = mremap(grown, 4096, 64 << 20, MREMAP_MAYMOVE);
    grown[(64 << 20) - 1] = 1;
    printf("remap: %s\n", grown);
    char *heap = malloc(100 << 20);
    memset(heap, 1, 100 << 20);
    free(heap);
    char *end = sbrk(0);
    printf("brk: %d\n", (char *)sbrk(1 << 20) == end && sbrk(0) == end + (1 << 20));
    end[100] = 1;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &after);
    long apart = (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
    printf("clocks agree: %d\n", apart >= 0 && apart < 1000000000L);
    // And on as ourselves.
    setenv("TOLD", "yes", 1);
    execl("/proc/self/exe", "processes", "again", (char *)0);
    return 1;
}
