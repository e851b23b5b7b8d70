// Something to look at with a debugger: functions, a thread, a signal, a child, a call that waits, and a fault.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int counter;

static void *worker(void *arg)
{
    __sync_fetch_and_add(&counter, 3);
    return arg;
}

static int square(int n)
{
    counter++;
    return n * n;
}

static void handler(int signal)
{
    counter += 100;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    signal(SIGUSR1, handler);
    printf("square %d\n", square(7));
    fflush(stdout);
    raise(SIGUSR1);
    pthread_t thread;
    pthread_create(&thread, NULL, worker, NULL);
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0) {
        _exit(square(2));
    }
    int status;
    waitpid(child, &status, 0);
    if (WEXITSTATUS(status) != 4) {
        return 1;
    }
    if (strcmp(what, "wait") == 0) {
        pause();
    }
    if (strcmp(what, "crash") == 0) {
        *(volatile int *)16 = 1;
    }
    if (strcmp(what, "exec") == 0) {
        execl("/bin/true", "true", NULL);
    }
    return counter;
}
