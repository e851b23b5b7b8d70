// Random mappings, and accesses by two threads: what each of them finds, or how it faults, so that a run can be held
// against one on the host itself. `memory SEED OPERATIONS [all]`: the third prints each of
// them.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { PAGES = 10240, FILE_PAGES = 64 };
enum { READ, WRITE, RUN };

static char *base;
static char mapped[PAGES];
static __thread sigjmp_buf back;
static int to_other[2], to_first[2];
static uint64_t hash = 1469598103934665603u, state;

struct access {
    int kind;
    char *at;
    uint64_t value;
    // What came of it.
    int signal, code;
    uint64_t place, error;
};

static unsigned random_below(unsigned limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % limit;
}

static void note(uint64_t value) {
    for (int i = 0; i < 8; i++) hash = (hash ^ (value >> 8 * i & 255)) * 1099511628211u;
}

static __thread struct access *current;

static void fault(int signal, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    current->signal = signal;
    current->code = info->si_code;
    current->place = (uint64_t)info->si_addr;
    // Bit 0 says whether a page was there, which differs for pages never touched.
    current->error = signal == SIGSEGV ? uc->uc_mcontext.gregs[REG_ERR] & ~1ull : 0;
    siglongjmp(back, 1);
}

static void make(struct access *access) {
    current = access;
    access->signal = access->code = 0;
    access->place = access->error = 0;
    if (sigsetjmp(back, 1)) return;
    if (access->kind == READ) access->value = *(volatile uint64_t *)access->at;
    if (access->kind == WRITE) *(volatile uint64_t *)access->at = access->value;
    // Its first bytes are zero everywhere: an addition to the byte at RAX, which faults at 0.
    if (access->kind == RUN) asm volatile("xor %%eax, %%eax\n jmp *%0" ::"r"(access->at) : "rax", "memory");
}

static void *other(void *unused) {
    struct access *access;
    while (read(to_other[0], &access, sizeof access) == sizeof access) {
        make(access);
        write(to_first[1], &access, sizeof access);
    }
    return 0;
}

static void set(unsigned page, unsigned count, char is_mapped) {
    for (unsigned i = 0; i < count; i++) mapped[page + i] = is_mapped;
}

static int are_mapped(unsigned page, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (!mapped[page + i]) return 0;
    return 1;
}

int main(int count, char **words) {
    state = count > 1 ? atoll(words[1]) : 1;
    long operations = count > 2 ? atol(words[2]) : 1000;
    static char buffer[4096];
    setvbuf(stdout, buffer, _IOLBF, sizeof buffer);
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, 0);
    sigaction(SIGBUS, &action, 0);
    int file = memfd_create("pages", 0);
    ftruncate(file, FILE_PAGES * 4096);
    for (uint64_t page = 0; page < FILE_PAGES; page++) pwrite(file, &page, 8, page * 4096 + 8);
    pipe(to_other);
    pipe(to_first);
    pthread_t thread;
    pthread_create(&thread, 0, other, 0);
    printf("%d pages\n", PAGES);
    // Last, as nothing else may come to lie in there.
    base = mmap(0, PAGES * 4096ul, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    base = (char *)(((uint64_t)base + (2 << 20) - 1) & ~((2ul << 20) - 1));
    unsigned pages = PAGES - 512;
    munmap(base, pages * 4096ul);
    static const int rights[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
                                 PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC};
    long found = 0, faulted[2] = {0, 0};
    for (long n = 0; n < operations; n++) {
        unsigned length = random_below(3)   ? 1 + random_below(8)
                          : random_below(3) ? 1 + random_below(100)
                          : random_below(4) ? 400 + random_below(800)
                                            : 4096 + random_below(600);
        unsigned page = random_below(pages - length), kind = random_below(10);
        char *at = base + page * 4096ul;
        size_t bytes = length * 4096ul;
        int protection = rights[random_below(6)];
        long result = 0;
        errno = 0;
        switch (kind) {
        case 0:
        case 1:
        case 2:
            result = mmap(at, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == at;
            set(page, length, 1);
            break;
        case 3:
        case 4:
        case 5:
            result = mprotect(at, bytes, protection);
            break;
        case 6:
            result = munmap(at, bytes);
            set(page, length, 0);
            break;
        case 7: { // Beyond the file's end at times.
            unsigned from = random_below(FILE_PAGES);
            length = length > 40 ? 40 : length;
            int flags = random_below(2) ? MAP_SHARED : MAP_PRIVATE;
            result = mmap(at, length * 4096ul, protection, flags | MAP_FIXED, file, from * 4096ul) == at;
            set(page, length, 1);
            break;
        }
        case 8: { // A new mapping, written to, goes elsewhere, and may grow.
            length = length > 200 ? 200 : length;
            unsigned grown = length + random_below(3) * random_below(20), target = random_below(pages - grown);
            if (target < page + length && page < target + grown) break;
            mmap(at, length * 4096ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            *(volatile uint64_t *)(at + 16) = n;
            char *to = base + target * 4096ul;
            result = mremap(at, length * 4096ul, grown * 4096ul, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to;
            set(page, length, 0);
            set(target, grown, 1);
            page = target, length = grown;
            break;
        }
        case 9:
            if (are_mapped(page, length)) result = madvise(at, bytes, MADV_DONTNEED);
            break;
        }
        if (count > 3) printf("%ld: %u of %u at %u, rights %d: %ld %d\n", n, kind, length, page, protection, result, errno);
        note(result);
        note(errno);
        for (int i = 0; i < 4; i++) {
            unsigned where = i < 2 ? page + random_below(length) : i == 2 ? page + length : random_below(pages);
            struct access access = {.kind = random_below(3), .value = (uint64_t)n << 8 | i}, *pointer = &access;
            access.at = base + where * 4096ul + (access.kind == RUN ? 0 : 8 + 8 * random_below(3));
            if (random_below(2)) {
                make(&access);
            } else {
                write(to_other[1], &pointer, sizeof pointer);
                read(to_first[0], &pointer, sizeof pointer);
            }
            if (access.kind == RUN && access.signal == SIGSEGV && !access.place) access.signal = access.error = 0;
            if (count > 3)
                printf("  %d at %u: %d %d %lx %lx\n", access.kind, where, access.signal, access.code,
                       access.signal ? access.place - (uint64_t)base : access.kind == READ ? access.value : 0, access.error);
            note(access.signal << 8 | access.kind);
            if (access.signal) {
                faulted[access.signal == SIGBUS]++;
                note(access.code);
                note(access.place - (uint64_t)base);
                note(access.error);
            } else {
                found++;
                note(access.kind == READ ? access.value : 0);
            }
        }
        if (n % 50 == 49) printf("%ld: %016lx\n", n + 1, hash);
    }
    printf("%ld found, %ld SIGSEGV, %ld SIGBUS\n", found, faulted[0], faulted[1]);
    return 0;
}
