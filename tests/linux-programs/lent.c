// What a child of vfork changes in the memory that it shares with its parent, and what its parent's other threads change
// there meanwhile: both stay.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 60, THREADS = 2, STACK = 256 << 10, WORDS = 64 };

static int of_file = 1, of_nothing;
static atomic_int over;
// One memory: words, the stack of the thread that has children, words. The words at both ends are in pages of the stack.
static char *memory;
static _Atomic unsigned long *words[2];

static void *has_children(void *unused) {
    for (volatile int i = 1; i <= CHILDREN; i++) {
        volatile int on_stack = 0;
        pid_t child = vfork();
        if (!child) {
            on_stack = i;
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        if (on_stack != i) {
            printf("child %d of a thread: %d\n", i, on_stack);
            exit(1);
        }
    }
    over = 1;
    return unused;
}

static void *counts(void *number) {
    unsigned long sum = 0, index = (unsigned long)number;
    for (; !over; sum++) {
        for (int end = 0; end < 2; end++) words[end][index + sum % (WORDS / THREADS) * THREADS]++;
    }
    return (void *)sum;
}

int main(void) {
    pid_t child = vfork();
    if (!child) {
        of_file = of_nothing = 2;
        _exit(0);
    }
    waitpid(child, 0, 0);
    printf("data %d, bss %d\n", of_file, of_nothing);

    size_t len = WORDS * sizeof(long), page = 4096;
    memory = mmap(0, STACK + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *stack = memory + page, *top = stack + STACK;
    words[0] = (void *)(top - len), words[1] = (void *)top;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK - page / 4);
    pthread_t threads[THREADS], parent;
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, counts, (void *)i);
    pthread_create(&parent, &attributes, has_children, 0);
    pthread_join(parent, 0);
    unsigned long counted = 0, there = 0;
    for (int i = 0; i < THREADS; i++) {
        void *sum;
        pthread_join(threads[i], &sum);
        counted += 2 * (unsigned long)sum;
    }
    for (int i = 0; i < WORDS; i++) there += words[0][i] + words[1][i];
    if (there != counted) printf("%ld of %lu counts are lost\n", (long)(counted - there), counted);
    printf("%d children\n", CHILDREN);
    return there != counted;
}
