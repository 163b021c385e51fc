/* Its main thread has called pthread_exit: proc(5) shows a zombie, while another thread goes on. TERM ends it politely. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void on_term(int number) {
    (void)number;
    static const char text[] = "got SIGTERM\n";
    if (write(1, text, sizeof text - 1) > 0)
        _exit(0);
}

static void *go_on(void *nothing) {
    usleep(100000); /* until the main thread is gone */
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
    return nothing;
}

int main(void) {
    pthread_t thread;
    signal(SIGTERM, on_term);
    pthread_create(&thread, NULL, go_on, NULL);
    pthread_exit(NULL);
}
