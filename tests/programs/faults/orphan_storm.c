/* Trick: 8 loops, deaf to TERM and INT, that fork without pause a child whose own child becomes an orphan and dies. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    for (int loop = 1; loop < 8; loop++)
        if (fork() == 0)
            break;
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            fork();
            _exit(0);
        }
        if (child > 0)
            waitpid(child, 0, 0);
    }
}
