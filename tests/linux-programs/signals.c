// What signals look like to a program: printed, so that a run can be held against one on the host itself.
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static char *base;
static volatile sig_atomic_t seen;

static void fault(int signal, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    long at = (char *)info->si_addr - base;
    // Bit 0 of the code says whether a page was there, which differs for pages never touched.
    printf("signal %d code %d at %ld trap %lld error %llx cs %llx\n", signal, info->si_code,
           info->si_code == SI_KERNEL ? 0 : signal == SIGSEGV || signal == SIGBUS ? at : 0,
           uc->uc_mcontext.gregs[REG_TRAPNO], uc->uc_mcontext.gregs[REG_ERR] & ~1ULL,
           uc->uc_mcontext.gregs[REG_CSGSFS] & 0xffff);
    siglongjmp(back, 1);
}

static void count(int signal) { seen = signal; }

static void changes(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    // What a handler does to vector registers and to the context.
    asm volatile("pxor %%xmm0, %%xmm0; pxor %%xmm15, %%xmm15" ::: "xmm0", "xmm15");
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RBX] = 42;
}

static void on_stack(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    stack_t now;
    sigaltstack(0, &now);
    int here;
    ucontext_t *uc = context;
    printf("alternate: flags %d, saved flags %d, inside %d\n", now.ss_flags, uc->uc_stack.ss_flags,
           (char *)&here > (char *)now.ss_sp && (char *)&here < (char *)now.ss_sp + now.ss_size);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(signal, &action, 0);
}

int main(void) {
    setbuf(stdout, 0);
    base = mmap(0, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(base + 4096, 4096, PROT_READ);
    mprotect(base + 2 * 4096, 4096, PROT_NONE);
    munmap(base + 3 * 4096, 4096);
    base[4 * 4096] = (char)0xc3; // ret
    int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (int i = 0; i < 5; i++) handle(signals[i], fault, SA_NODEFER);
    if (!sigsetjmp(back, 1)) base[4096 + 5] = 1;
    if (!sigsetjmp(back, 1)) base[2 * 4096 + 6] = 1;
    if (!sigsetjmp(back, 1)) (void)*(volatile char *)(base + 2 * 4096 + 7);
    if (!sigsetjmp(back, 1)) base[3 * 4096 + 8] = 1;
    if (!sigsetjmp(back, 1)) ((void (*)(void))(base + 4 * 4096))();
    mprotect(base + 4 * 4096, 4096, PROT_READ | PROT_EXEC);
    ((void (*)(void))(base + 4 * 4096))();
    mprotect(base + 4 * 4096, 4096, PROT_READ);
    if (!sigsetjmp(back, 1)) ((void (*)(void))(base + 4 * 4096))();
    volatile int zero = 0;
    if (!sigsetjmp(back, 1)) zero = 1 / zero;
    if (!sigsetjmp(back, 1)) asm volatile("ud2");
    if (!sigsetjmp(back, 1)) asm volatile("int3");
    if (!sigsetjmp(back, 1)) asm volatile("hlt");
    if (!sigsetjmp(back, 1)) asm volatile("out %%al, $0x80" ::: "memory");
    if (!sigsetjmp(back, 1)) asm volatile("out %%al, $0x81" ::: "memory");
    if (!sigsetjmp(back, 1)) asm volatile("in $0x80, %%al" ::: "rax");
    if (!sigsetjmp(back, 1)) asm volatile("in %%dx, %%eax" ::"d"(0x81) : "rax");
    if (!sigsetjmp(back, 1)) asm volatile("rep insb" ::"d"(0x3f8), "D"(malloc(64)), "c"(64) : "memory");
    if (!sigsetjmp(back, 1)) (void)*(volatile char *)0x123456789abcdef0;
    FILE *file = tmpfile();
    if (file) {
        char *mapped = mmap(0, 2 * 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
        base = mapped;
        if (!sigsetjmp(back, 1)) (void)*(volatile char *)(mapped + 4096 + 9);
    }

    // A handler's changes to vectors are undone, and those to its context are kept.
    handle(SIGUSR1, changes, 0);
    uint64_t low, rbx;
    long self = getpid();
    asm volatile("mov $7, %%rbx; movq %%rbx, %%xmm0; movq %%rbx, %%xmm15; mov $62, %%eax; mov %2, %%rdi;"
                 "mov $10, %%esi; syscall; movq %%xmm15, %0; mov %%rbx, %1"
                 : "=r"(low), "=r"(rbx) : "r"(self) : "rax", "rbx", "rdi", "rsi", "rcx", "r11", "xmm0", "xmm15", "memory");
    printf("xmm15 %lu rbx %lu\n", low, rbx);

    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&stack, 0);
    handle(SIGUSR2, on_stack, SA_ONSTACK);
    raise(SIGUSR2);
    sigaltstack(0, &stack);
    printf("alternate afterwards: %d\n", stack.ss_flags);

    // Interrupted calls: made again with SA_RESTART, failed without.
    struct sigaction action = {.sa_handler = count};
    int pipes[2];
    for (int restart = 0; restart < 2; restart++) {
        action.sa_flags = restart ? SA_RESTART : 0;
        sigaction(SIGALRM, &action, 0);
        if (pipe(pipes)) return 1;
        pid_t child = fork();
        if (!child) {
            // Long enough for a slow machine to make the child, and the parent to wait.
            struct timespec begin = {.tv_nsec = 300000000}, time = {.tv_nsec = 100000000};
            nanosleep(&begin, 0);
            kill(getppid(), SIGALRM);
            nanosleep(&time, 0);
            if (write(pipes[1], "x", 1) != 1) _exit(1);
            _exit(0);
        }
        char byte;
        seen = 0;
        long got = read(pipes[0], &byte, 1);
        printf("read: %ld %s, seen %d\n", got, got < 0 ? strerror(errno) : "", seen);
        while (waitpid(child, 0, 0) < 0) {
        }
    }
    // A blocked signal waits; sigsuspend lets it in, and the mask is then as it was.
    sigset_t set, old, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_BLOCK, &set, 0);
    seen = 0;
    raise(SIGALRM);
    sigpending(&pending);
    printf("blocked: seen %d, pending %d\n", seen, sigismember(&pending, SIGALRM));
    sigemptyset(&old);
    sigsuspend(&old);
    sigprocmask(SIG_BLOCK, 0, &old);
    printf("suspended: seen %d, errno %d, blocked %d\n", seen, errno, sigismember(&old, SIGALRM));
    // What a child ends with, and what it dies of.
    int endings[] = {SIGTERM, SIGSEGV, SIGABRT, SIGKILL};
    for (int i = 0; i < 4; i++) {
        signal(endings[i], SIG_DFL);
        pid_t child = fork();
        int status;
        if (!child) {
            if (endings[i] == SIGSEGV) *(volatile char *)8 = 1;
            kill(getpid(), endings[i]);
            pause();
        }
        waitpid(child, &status, 0);
        printf("child: signal %d\n", WTERMSIG(status));
    }
    return 0;
}
