/* Not part of a command: ARG1 processes that fork without pause, so that pids are used up quickly. A child leads its own
   session and ends by itself; if a signal ends it, its parent says so. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    for (int number = argc > 1 ? atoi(argv[1]) : 1; number > 1 && fork() != 0; number--)
        ;
    setsid();
    for (;;) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            setsid();
            usleep(500);
            _exit(0);
        }
        if (child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status)) {
            printf("%d\n", WTERMSIG(status));
            fflush(stdout);
        }
    }
}
