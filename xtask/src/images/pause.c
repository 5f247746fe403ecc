/* Keeps the namespaces of a Pod: waits until it is told to end, and takes in processes whose parent is gone. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

static void take_in(int signal) {
    (void)signal;
    while (waitpid(-1, 0, WNOHANG) > 0) {
    }
}

int main(void) {
    struct sigaction ending = {.sa_handler = end}, child = {.sa_handler = take_in, .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGTERM, &ending, 0);
    sigaction(SIGINT, &ending, 0);
    sigaction(SIGCHLD, &child, 0);
    for (;;)
        pause();
}
