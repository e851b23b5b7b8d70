// Makes system calls of many kinds, some of which fail: a trace of it is held against strace(1)'s.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void handler(int signal) { (void)signal; }

int main(int argc, char **argv)
{
    char bytes[64];
    struct stat stat_of;
    int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
    read(fd, bytes, 4);
    pread(fd, bytes, sizeof bytes, 8);
    fstat(fd, &stat_of);
    lseek(fd, 10, SEEK_SET);
    lseek(fd, -1, SEEK_SET);
    char *mapped = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    mprotect(mapped, 4096, PROT_NONE);
    munmap(mapped, 4096);
    int copy = dup(fd);
    dup2(copy, 100);
    close(100);
    fcntl(copy, F_GETFD);
    close(copy);
    close(copy);
    open("/nothing/there", O_RDONLY);
    access("/", R_OK | X_OK);
    access("/nothing", F_OK);
    readlink("/proc/self/exe", bytes, sizeof bytes);
    getcwd(bytes, sizeof bytes);
    stat("/\x1b[31m", &stat_of);
    int pair[2];
    pipe(pair);
    struct iovec pieces[2] = {{"two ", 4}, {"pieces", 6}};
    writev(pair[1], pieces, 2);
    struct pollfd polled = {pair[0], POLLIN, 0};
    poll(&polled, 1, 1000);
    read(pair[0], bytes, sizeof bytes);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    kill(getpid(), SIGUSR1);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct timespec moment = {0, 1000};
    syscall(SYS_nanosleep, &moment, NULL);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    struct utsname name;
    uname(&name);
    umask(022);
    syscall(SYS_getuid);
    syscall(SYS_sched_yield);
    write(-1, "nowhere", 7);
    write(1, "out\n", 4);
    write(2, "err\n", 4);
    pid_t child = fork();
    if (child == 0) {
        getppid();
        _exit(3);
    }
    int status;
    waitpid(child, &status, 0);
    waitpid(-1, &status, WNOHANG);
    if (argc > 1) {
        kill(getpid(), SIGTERM);
    }
    return WEXITSTATUS(status);
}
