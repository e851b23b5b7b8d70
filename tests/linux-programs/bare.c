// Without a C library: such a program begins on a processor that does not show CPUID, and has to notice nothing of it.
// -nostdlib -static -O1; its one argument says what it does first: c asks CPUID, v uses AVX without asking, h has a handler,
// f a child, which has the same bases of FS and GS, t a thread, p a privileged instruction's handler. Run natively, it prints the same.
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>

static long call(long n, long a, long b, long c, long d, long e) {
    register long r10 asm("r10") = d, r8 asm("r8") = e;
    long result;
    asm volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}

static void say(const char *text) {
    long len = 0;
    while (text[len]) len++;
    call(SYS_write, 1, (long)text, len, 0, 0);
}

static void cpuid(uint32_t leaf, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d) {
    asm volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(0));
}

static const uint64_t wide[4] = {1, 2, 3, 4};
static void fill(void) {
    asm volatile("movdqu %0, %%xmm7" ::"m"(wide) : "xmm7");
}
static int is_full(void) {
    uint64_t found[2];
    asm volatile("movdqu %%xmm7, %0" : "=m"(found));
    return found[0] == wide[0] && found[1] == wide[1];
}

struct action {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};
extern void restorer(void);
asm("restorer: mov $15, %eax\nsyscall\n");
static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    asm volatile("pxor %%xmm7, %%xmm7" ::: "xmm7");
    say("handled\n");
}
static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)info;
    // RIP: behind HLT.
    ((uint64_t *)context)[5 + 16]++;
    say(signal == SIGSEGV ? "refused\n" : "otherwise\n");
}
static void handle(int signal, void (*handler)(int, siginfo_t *, void *)) {
    struct action action = {handler, SA_SIGINFO | 0x04000000, restorer, 0};
    call(SYS_rt_sigaction, signal, (long)&action, 0, 8, 0);
}

static char stack[65536] __attribute__((aligned(16)));
static volatile int is_done;

__attribute__((used)) static int begin(long *words) {
    char mode = words[0] > 1 ? ((char *)words[2])[0] : 'c';
    uint32_t a, b, c, d;
    if (mode == 'c') {
        asm volatile("movq %0, %%xmm9" ::"r"(0x1234567890abcdefull));
        cpuid(0, &a, &b, &c, &d);
        uint64_t kept;
        asm volatile("movq %%xmm9, %0" : "=r"(kept));
        say(a >= 7 && b && c && d ? "cpuid\n" : "no cpuid\n");
        say(kept == 0x1234567890abcdefull ? "kept\n" : "lost\n");
    }
    if (mode == 'v') {
        uint64_t found[4];
        asm volatile("vmovdqu %1, %%ymm7\n vmovdqu %%ymm7, %0" : "=m"(found) : "m"(wide) : "xmm7");
        say(found[0] == 1 && found[3] == 4 ? "moved\n" : "lost\n");
        cpuid(0, &a, &b, &c, &d);
        say(b ? "cpuid\n" : "no cpuid\n");
    }
    if (mode == 'h') {
        handle(SIGUSR1, on_signal);
        fill();
        call(SYS_kill, call(SYS_getpid, 0, 0, 0, 0, 0), SIGUSR1, 0, 0, 0);
        say(is_full() ? "kept\n" : "lost\n");
    }
    if (mode == 'p') {
        handle(SIGSEGV, on_fault);
        asm volatile("hlt");
        say("behind it\n");
    }
    if (mode == 'f') {
        static long own[2] = {7, 8};
        call(SYS_arch_prctl, 0x1002, (long)&own[0], 0, 0, 0);
        call(SYS_arch_prctl, 0x1001, (long)&own[1], 0, 0, 0);
        long child = call(SYS_fork, 0, 0, 0, 0, 0);
        if (child == 0) {
            cpuid(0, &a, &b, &c, &d);
            say(b ? "cpuid in the child\n" : "no cpuid in the child\n");
            long found[2];
            asm("mov %%fs:0, %0\n mov %%gs:0, %1" : "=r"(found[0]), "=r"(found[1]));
            say(found[0] == 7 && found[1] == 8 ? "its own\n" : "somebody's\n");
            return 3;
        }
        int status = 0;
        call(SYS_wait4, child, (long)&status, 0, 0, 0);
        say(status == 3 << 8 ? "three\n" : "other\n");
    }
    if (mode == 't') {
        const long flags = 0x50f00; // CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM
        long result;
        register long r10 asm("r10") = 0, r8 asm("r8") = 0;
        register volatile int *r9 asm("r9") = &is_done;
        asm volatile("syscall\n test %%rax, %%rax\n jnz 1f\n"
                     " xor %%eax, %%eax\n xor %%ecx, %%ecx\n cpuid\n mov %%ebx, (%%r9)\n"
                     " mov $60, %%eax\n xor %%edi, %%edi\n syscall\n 1:"
                     : "=a"(result)
                     : "a"(SYS_clone), "D"(flags), "S"(stack + sizeof stack), "d"(0), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "rbx", "memory");
        while (!is_done) call(SYS_sched_yield, 0, 0, 0, 0, 0);
        say("a thread\n");
    }
    return 0;
}

asm(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall begin\nmov %eax, %edi\nmov $231, %eax\nsyscall\n");
