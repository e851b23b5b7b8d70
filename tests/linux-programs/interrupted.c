// Signals that come at any moment of an exception: between a fault and its handler there are a few instructions of the
// VM's own, in ring 0, and no handler may begin from there. What each handler sees is checked: its ring, and where the
// program was.

#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { FAULTS = 1000 };

static atomic_int over;
static _Atomic unsigned long handled, faults;
static pid_t first;
extern char ill[];

static void fail(const char *what) {
    dprintf(2, "%s\n", what);
    _exit(1);
}

static void look(const void *context) {
    unsigned short code, stack;
    __asm__ volatile("mov %%cs, %0; mov %%ss, %1" : "=r"(code), "=r"(stack));
    if ((code & 3) != 3 || (stack & 3) != 3) fail("a handler is not in ring 3");
    // Where ring 0 is emulated, only ring 3 can do this.
    __asm__ volatile("pxor %%xmm15, %%xmm15" : : : "xmm15");
    const greg_t *registers = ((const ucontext_t *)context)->uc_mcontext.gregs;
    unsigned long rip = (unsigned long)registers[REG_RIP], rsp = (unsigned long)registers[REG_RSP];
    if (rip >= 63ul << 30 && rip < 64ul << 30) fail("the program was in no code of its own");
    if (rsp >= 63ul << 30 && rsp < 64ul << 30) fail("the program was on no stack of its own");
}

static void interrupted(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    look(context);
    handled++;
}

static void undefined(int signal, siginfo_t *info, void *context) {
    (void)signal;
    look(context);
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    if ((char *)registers[REG_RIP] != ill || info->si_addr != ill) fail("the fault was elsewhere");
    registers[REG_RIP] += 2;
    faults++;
}

static void *sender(void *unused) {
    // One at a time, each after another pause: a flood would leave the program no time between its handlers.
    for (unsigned long sent = 0; !over; sent++) {
        syscall(SYS_tgkill, getpid(), first, SIGUSR1);
        while (handled <= sent && !over) usleep(50);
        for (volatile unsigned pause = sent * 7919 % 5000; pause > 0; pause--) {}
    }
    return unused;
}

int main(void) {
    first = getpid();
    struct sigaction action = {.sa_sigaction = interrupted, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGUSR1, &action, 0);
    action.sa_sigaction = undefined;
    sigaction(SIGILL, &action, 0);
    pthread_t other;
    pthread_create(&other, 0, sender, 0);
    while (handled == 0) usleep(50);
    for (int i = 0; i < FAULTS; i++) __asm__ volatile(".globl ill\nill: ud2" : : : "memory");
    over = 1;
    pthread_join(other, 0);
    printf("%lu faults\n", faults);
    return faults != FAULTS;
}
