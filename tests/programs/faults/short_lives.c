/* Many short lives: 8 loops, each in a session of its own, whose children live for half a millisecond. TERM is ignored. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    signal(SIGTERM, SIG_IGN);
    for (int number = 8; number > 1 && fork() != 0; number--)
        ;
    setsid();
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            setsid();
            usleep(300);
            _exit(0);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
    }
}
