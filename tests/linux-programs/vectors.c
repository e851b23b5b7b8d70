// The vector registers of AVX, and of AVX-512 where there is that, across handlers that change them, and in a child: a
// program that copies with them loses what it copies otherwise.

#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HANDLED = 300 };

static atomic_int over;
static _Atomic unsigned long handled;
static pid_t first;

__attribute__((target("avx"))) static void changes(int signal) {
    (void)signal;
    handled++;
    __asm__ volatile("vpcmpeqd %%xmm1, %%xmm1, %%xmm1; vzeroall" : : : "xmm1", "memory");
}

static void *sender(void *unused) {
    for (unsigned long sent = 0; !over; sent++) {
        syscall(SYS_tgkill, getpid(), first, SIGUSR1);
        while (handled <= sent && !over) usleep(20);
        for (volatile unsigned pause = sent * 7919 % 5000; pause > 0; pause--) {}
    }
    return unused;
}

// Loads two registers, passes time, stores them.
__attribute__((target("avx"))) static void by_avx(const void *from, void *to) {
    __asm__ volatile(
        "vmovdqu (%0), %%ymm1; vmovdqu 32(%0), %%ymm15; mov $3000, %%eax; 1: dec %%eax; jnz 1b;"
        "vmovdqu %%ymm1, (%1); vmovdqu %%ymm15, 32(%1); vzeroupper"
        : : "r"(from), "r"(to) : "eax", "xmm1", "xmm15", "memory");
}

__attribute__((target("avx512f"))) static void by_avx512(const void *from, void *to) {
    __asm__ volatile(
        "vmovdqu64 (%0), %%zmm29; mov $3000, %%eax; 1: dec %%eax; jnz 1b; vmovdqu64 %%zmm29, (%1); vzeroupper"
        : : "r"(from), "r"(to) : "eax", "memory");
}

// The same in a child and in its parent, which fork(2) is called between.
__attribute__((target("avx"))) static int by_fork(const void *from, void *to) {
    long child;
    __asm__ volatile(
        "vmovdqu (%1), %%ymm1; vmovdqu 32(%1), %%ymm15; mov %3, %%eax; syscall;"
        "vmovdqu %%ymm1, (%2); vmovdqu %%ymm15, 32(%2); vzeroupper"
        : "=&a"(child) : "r"(from), "r"(to), "i"(SYS_fork) : "rcx", "r11", "xmm1", "xmm15", "memory");
    int differs = memcmp(from, to, 64) != 0, status = 0;
    if (child == 0) _exit(differs);
    waitpid((pid_t)child, &status, 0);
    return differs | status;
}

int main(void) {
    if (!__builtin_cpu_supports("avx")) {
        puts("no AVX");
        return 0;
    }
    first = getpid();
    struct sigaction action = {.sa_handler = changes, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, 0);
    pthread_t other;
    pthread_create(&other, 0, sender, 0);
    unsigned long from[8], to[8];
    for (unsigned long round = 1; handled < HANDLED; round++) {
        for (unsigned i = 0; i < 8; i++) from[i] = round * 77 + i;
        int with_avx512 = __builtin_cpu_supports("avx512f") && round % 2;
        (with_avx512 ? by_avx512 : by_avx)(from, to);
        if (memcmp(from, to, sizeof to)) {
            printf("lost in round %lu, %s\n", round, with_avx512 ? "AVX-512" : "AVX");
            return 1;
        }
    }
    over = 1;
    pthread_join(other, 0);
    printf("handlers: kept, fork: %s\n", by_fork(from, to) ? "lost" : "kept");
    return 0;
}
