/* Four loops that send a real-time signal to the guard, where such signals queue up. TERM is ignored. */
#include <signal.h>
#include <unistd.h>

int main(void) {
    pid_t guard = getppid();
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    for (int number = 4; number > 1 && fork() != 0; number--)
        ;
    for (;;)
        kill(guard, SIGRTMIN + 6);
}
