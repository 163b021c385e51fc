/* Trick: 20 chains, deaf to TERM and INT, in which each process forks the next one, in a session of its own, and exits. */
#include <signal.h>
#include <unistd.h>

int main(void)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    for (int chain = 1; chain < 20; chain++)
        if (fork() == 0)
            break;
    for (;;) {
        pid_t next = fork();
        if (next > 0)
            _exit(0);
        if (next == 0)
            setsid();
    }
}
