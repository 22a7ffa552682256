/* The ceiling of the FastCGI path: answers every request with the bytes of one file, on libfcgi, one request at a time.
 *
 * usage: limit RESPONSE_FILE      (the FastCGI socket is descriptor 0; SIGTERM ends it, queued connections are served first)
 * build: cc -O2 -o limit limit.c -lfcgi
 *
 * Where FCGI_SWEEP_STATS names a directory, the process counts in the file <directory>/<pid>, which is laid out as in
 * counters.py beside this folder: magic, requests done, in flight, peak in flight; behind them, written on SIGUSR1:
 * answers so far, voluntary and involuntary context switches; at last connections that carried a request, the highest
 * request id, the most requests open on one connection. All are unsigned 64-bit numbers of this machine.
 */
#include <fcgiapp.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC, DONE, IN_FLIGHT, PEAK, ANSWERS, VOLUNTARY, INVOLUNTARY, CONNECTIONS, HIGHEST_ID, PEAK_IDS, NUMBERS };

static uint64_t private_numbers[NUMBERS];
static volatile uint64_t *numbers = private_numbers;
static volatile sig_atomic_t stopping;
static FCGX_Request request;

static void die(const char *what, const char *name)
{
    fprintf(stderr, "limit: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

/* Connections that wait in the queue are still handed out after this; then accept fails and main leaves. A connection
 * that stands open gives what has been sent on it and then ends; no system call is interrupted, so no request is lost.
 */
static void on_stop(int number)
{
    int before = errno;
    (void)number;
    stopping = 1;
    shutdown(0, SHUT_RD);
    if (request.ipcFd >= 0 && numbers[IN_FLIGHT] == 0)
        shutdown(request.ipcFd, SHUT_RD);
    errno = before;
}

static void on_ask(int number)
{
    struct rusage usage;
    int before = errno;
    (void)number;
    getrusage(RUSAGE_SELF, &usage);
    numbers[VOLUNTARY] = (uint64_t)usage.ru_nvcsw;
    numbers[INVOLUNTARY] = (uint64_t)usage.ru_nivcsw;
    numbers[ANSWERS]++;
    errno = before;
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (sigaction(number, &action, NULL) < 0)
        die("cannot handle", "a signal");
}

/* The file appears complete and at once. It is written, not only extended: on a full disk a hole would mean SIGBUS. */
static void share_numbers(const char *directory)
{
    char path[4096], draft[4096 + 4];
    int file;

    snprintf(path, sizeof path, "%s/%ld", directory, (long)getpid());
    snprintf(draft, sizeof draft, "%s.new", path);
    file = open(draft, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || write(file, private_numbers, sizeof private_numbers) != (ssize_t)sizeof private_numbers)
        die("cannot write", draft);
    numbers = mmap(NULL, sizeof private_numbers, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (numbers == MAP_FAILED)
        die("cannot map", draft);
    close(file);
    if (rename(draft, path) < 0)
        die("cannot rename", draft);
}

static char *read_response(const char *name, int *length)
{
    struct stat state;
    char *bytes;
    off_t at = 0;
    int file = open(name, O_RDONLY | O_CLOEXEC);

    if (file < 0 || fstat(file, &state) < 0)
        die("cannot read", name);
    bytes = malloc((size_t)state.st_size + 1);
    if (bytes == NULL)
        die("no memory for", name);
    while (at < state.st_size) {
        /* Its own offset: the descriptor may be shared with who wrote the file. */
        ssize_t got = pread(file, bytes + at, (size_t)(state.st_size - at), at);
        if (got <= 0)
            die("cannot read", name);
        at += got;
    }
    close(file);
    *length = (int)state.st_size;
    return bytes;
}

/* A kept connection is marked: the descriptor of a new one lacks the flag, also where it has the same number. */
static void count_connection(void)
{
    int flags = fcntl(request.ipcFd, F_GETFD);
    if (flags & FD_CLOEXEC)
        return;
    numbers[CONNECTIONS]++;
    if (request.keepConnection)
        fcntl(request.ipcFd, F_SETFD, flags | FD_CLOEXEC);
}

/* What is left of a request's body would otherwise be taken for the next request of a kept connection. */
static void skip_body(FCGX_Stream *in)
{
    char rest[8192];
    while (FCGX_GetStr(rest, sizeof rest, in) == (int)sizeof rest)
        ;
}

int main(int count, char **arguments)
{
    const char *stats = getenv("FCGI_SWEEP_STATS");
    char *response;
    int length;

    if (count != 2) {
        fprintf(stderr, "usage: limit RESPONSE_FILE\n");
        return 2;
    }
    response = read_response(arguments[1], &length);
    private_numbers[MAGIC] = 0x46435357;
    if (stats != NULL && *stats != '\0')
        share_numbers(stats);
    if (FCGX_Init() != 0 || FCGX_InitRequest(&request, 0, 0) != 0) {
        fprintf(stderr, "limit: libfcgi cannot be set up\n");
        return 1;
    }
    handle(SIGTERM, on_stop);
    handle(SIGINT, on_stop);
    handle(SIGUSR1, on_ask);
    while (FCGX_Accept_r(&request) >= 0) {
        numbers[IN_FLIGHT] = numbers[PEAK] = numbers[PEAK_IDS] = 1;
        if ((uint64_t)request.requestId > numbers[HIGHEST_ID])
            numbers[HIGHEST_ID] = (uint64_t)request.requestId;
        count_connection();
        skip_body(request.in);
        FCGX_PutStr(response, length, request.out);
        numbers[IN_FLIGHT] = 0;
        numbers[DONE]++;
        FCGX_Finish_r(&request);
        if (stopping)
            FCGX_Free(&request, 1);
    }
    free(response);
    return 0;
}
