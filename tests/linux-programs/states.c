// What calls leave behind: memory that has grown and moved, holes in it, times of files, capabilities. Printed, so that a
// run can be held against one on the host itself. Its argument is a directory of its own.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#define PAGE 4096l

static void say(const char *what, long result) {
    printf("%s: %ld %s\n", what, result < 0 ? -1 : result, result < 0 ? strerror(errno) : "");
}

static int is_kept(const char *memory, int pages) {
    for (int i = 0; i < pages; i++)
        if (memory[i * PAGE] != i + 1 || memory[i * PAGE + 99]) return 0;
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 2 || chdir(argv[1])) return 1;
    // Grown twice where it is, then elsewhere, then to a place that is said, and shrunk.
    char *room = mmap(0, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *memory = room;
    munmap(room, 64 * PAGE);
    memory = mmap(room, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    int pages = 0;
    for (; pages < 2; pages++) memory[pages * PAGE] = pages + 1;
    for (int more = 3; more < 8; more += 2) {
        say("grown", mremap(memory, pages * PAGE, more * PAGE, 0) == memory);
        for (; pages < more; pages++) memory[pages * PAGE] = pages + 1;
    }
    mmap(room + 7 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    say("grown, no room", mremap(memory, 7 * PAGE, 9 * PAGE, 0) == MAP_FAILED ? -1 : 0);
    char *moved = mremap(memory, 7 * PAGE, 16 * PAGE, MREMAP_MAYMOVE);
    say("moved", moved != MAP_FAILED && moved != memory && is_kept(moved, 7));
    memset(moved + 7 * PAGE, 0, 9 * PAGE);
    char *target = mmap(0, 32 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("moved there", mremap(moved, 16 * PAGE, 20 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target && is_kept(target, 7));
    say("grown there", mremap(target, 20 * PAGE, 21 * PAGE, MREMAP_MAYMOVE) != MAP_FAILED);
    // Two mappings that were made one after the other are one, or not, for mprotect and mremap.
    char *two = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    two[0] = 1;
    two[7 * PAGE] = 8;
    munmap(two + 4 * PAGE, PAGE);
    unsigned char there[8];
    say("mincore", mincore(two, 4 * PAGE, there));
    say("mincore of a hole", mincore(two, 8 * PAGE, there));
    say("mincore of half a page", mincore(two + 5, PAGE, there));
    say("mincore of nothing", mincore(two, 0, there));
    say("msync of a hole", msync(two, 8 * PAGE, MS_SYNC));
    say("msync", msync(two, 4 * PAGE, MS_SYNC));
    say("mlock", mlock(two, 2 * PAGE));
    say("mlock of a hole", mlock(two + 3 * PAGE, 2 * PAGE));
    say("munlock of a hole", munlock(two + 3 * PAGE, 2 * PAGE));
    say("munlock", munlock(two, 2 * PAGE));

    // Times, by the calls that C libraries no longer make.
    struct stat stat;
    close(open("f", O_CREAT | O_WRONLY, 0644));
    long seconds[2] = {1000, 2000};
    say("utime", syscall(SYS_utime, "f", seconds));
    lstat("f", &stat);
    printf("%ld %ld\n", stat.st_atim.tv_sec, stat.st_mtim.tv_sec);
    struct timeval times[2] = {{3, 4}, {5, 999999}};
    say("utimes", syscall(SYS_utimes, "f", times));
    lstat("f", &stat);
    printf("%ld.%09ld %ld.%09ld\n", stat.st_atim.tv_sec, stat.st_atim.tv_nsec, stat.st_mtim.tv_sec, stat.st_mtim.tv_nsec);
    times[0].tv_usec = 1000000;
    say("utimes of no time", syscall(SYS_utimes, "f", times));
    say("utimes of now", syscall(SYS_utimes, "f", 0));
    lstat("f", &stat);
    say("now", stat.st_mtim.tv_sec > 1000000000);
    say("utime of nothing", syscall(SYS_utime, "nothing", seconds));
    unlink("f");

    // How a thread is scheduled, for the processor and for input and output.
    struct { unsigned size, policy; long flags; int nice, priority; long more[3]; } attributes = {48, 3 /* SCHED_BATCH */, 0, 5};
    say("setattr", syscall(SYS_sched_setattr, 0, &attributes, 0));
    memset(&attributes, 0, sizeof attributes);
    say("getattr", syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0));
    printf("%u %d\n", attributes.policy, attributes.nice);
    say("ioprio_set", syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 5));
    say("ioprio_get", syscall(SYS_ioprio_get, 1, 0));

    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    say("capget", syscall(SYS_capget, &header, data));
    // Of the effective ones, chown goes; nothing that is not there can be had.
    data[0].effective &= ~1u;
    say("capset", syscall(SYS_capset, &header, data));
    say("capget", syscall(SYS_capget, &header, data));
    printf("%d\n", data[0].effective & 1);
    data[1].permitted |= 1u << 31;
    say("capset of more", syscall(SYS_capset, &header, data));
    header.pid = 1;
    say("capset of another", syscall(SYS_capset, &header, data));
    return 0;
}
