// Names that another thread exchanges all the time, while files are opened, made, changed and removed by them: a directory
// for a link that leads elsewhere. Arguments: a directory of our own, with a directory d, and where the link l leads. What is
// elsewhere has to stay as it is, which who started us looks at. Printed: "inside" if what was done was ever done where it
// may be, and what was read that nobody should.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int is_over;
static void *exchange(void *unused) {
    while (!is_over) syscall(SYS_renameat2, AT_FDCWD, "d", AT_FDCWD, "l", 2 /* RENAME_EXCHANGE */);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4 || chdir(argv[1])) return 1;
    if (symlink(argv[2], "l") || mkdir("d", 0755)) return 2;
    int secret = 0, inside = 0;
    pthread_t thread;
    pthread_create(&thread, 0, exchange, 0);
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    for (int round = 0; round < 100 || (clock_gettime(CLOCK_MONOTONIC, &now), now.tv_sec * 10 + now.tv_nsec / 100000000 <
                                        end.tv_sec * 10 + end.tv_nsec / 100000000 + atoi(argv[3])); round++) {
        char bytes[32] = {0};
        int fd = open("d/f", O_CREAT | O_WRONLY | O_TRUNC, 0644);
        if (fd >= 0) {
            inside++;
            if (write(fd, "changed", 7) != 7) return 3;
            fchmod(fd, 0600);
            close(fd);
        }
        fd = open("d/f", O_RDONLY);
        if (fd >= 0) {
            if (read(fd, bytes, sizeof bytes - 1) > 0 && strstr(bytes, "secret")) secret++;
            close(fd);
        }
        truncate("d/f", 3);
        chmod("d/f", 0777);
        utimensat(AT_FDCWD, "d/f", 0, 0);
        mkdir("d/new", 0755);
        symlink("x", "d/link");
        link("own", "d/hard");
        mknod("d/pipe", S_IFIFO | 0600, 0);
        rename("own", "d/moved");
        rename("d/f", "taken");
        if (!access("taken", F_OK)) {
            fd = open("taken", O_RDONLY);
            if (fd >= 0 && read(fd, bytes, sizeof bytes - 1) > 0 && strstr(bytes, "secret")) secret++;
            close(fd);
        }
        unlink("taken");
        unlink("d/kept");
        unlink("d/link");
        unlink("d/hard");
        unlink("d/pipe");
        unlink("d/moved");
        rmdir("d/new");
        close(open("own", O_CREAT | O_WRONLY, 0644));
    }
    is_over = 1;
    pthread_join(thread, 0);
    puts(inside ? "inside" : "never inside");
    printf("%d read\n", secret);
    return 0;
}
