/* The cheapest responder that multiplexes, to find out how fast a FastCGI client is: one epoll loop, any number of
 * connections, any number of requests on each; every request gets the same bytes, all that arrived at once in one write.
 *
 * usage: wire_responder SOCKET_PATH RESPONSE_FILE      build: cc -O2 -o wire_responder wire_responder.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BEGIN = 1, END = 3, STDIN = 5, STDOUT = 6, GET_VALUES = 9, GET_VALUES_RESULT = 10 };
enum { HEADER = 8, INPUT = 1 << 17, MAX_BODY = 65000 };

struct connection {
    int socket;
    int keep;
    size_t filled;
    unsigned char input[INPUT];
};

static unsigned char answer[MAX_BODY + 64];
static size_t answer_length;
static unsigned char output[1 << 22];
static size_t output_length;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static size_t put_header(unsigned char *to, int type, size_t length)
{
    const unsigned char header[HEADER] = {1, (unsigned char)type, 0, 0, (unsigned char)(length >> 8),
                                          (unsigned char)length, (unsigned char)(-length & 7), 0};
    memcpy(to, header, HEADER);
    return HEADER;
}

/* One STDOUT record, its closing one and END_REQUEST; the request id is patched in for each answer. */
static size_t end_of_output, end_record;

static void prepare(const char *name)
{
    static unsigned char body[MAX_BODY];
    FILE *file = fopen(name, "rb");
    size_t length;

    if (file == NULL)
        die(name);
    length = fread(body, 1, sizeof body, file);
    fclose(file);
    answer_length = put_header(answer, STDOUT, length);
    memcpy(answer + answer_length, body, length);
    answer_length += length + (-length & 7);
    end_of_output = answer_length;
    answer_length += put_header(answer + answer_length, STDOUT, 0);
    end_record = answer_length;
    answer_length += put_header(answer + answer_length, END, 8) + 8;
}

static void put_answer(const unsigned char *id)
{
    unsigned char *to = output + output_length;
    memcpy(to, answer, answer_length);
    memcpy(to + 2, id, 2);
    memcpy(to + end_of_output + 2, id, 2);
    memcpy(to + end_record + 2, id, 2);
    output_length += answer_length;
}

static void put_values(void)
{
    static const char values[] = "\x0f\x01" "FCGI_MPXS_CONNS1";
    size_t length = sizeof values - 1;
    output_length += put_header(output + output_length, GET_VALUES_RESULT, length);
    memcpy(output + output_length, values, length);
    output_length += length + (-length & 7);
}

/* Returns 0 when the connection is to be closed. */
static int serve(struct connection *one)
{
    ssize_t got = recv(one->socket, one->input + one->filled, INPUT - one->filled, 0);
    size_t at = 0, sent = 0;

    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    one->filled += (size_t)got;
    output_length = 0;
    while (one->filled - at >= HEADER) {
        const unsigned char *record = one->input + at;
        size_t content = (size_t)record[4] << 8 | record[5], whole = HEADER + content + record[6];
        if (one->filled - at < whole)
            break;
        if (record[1] == BEGIN)
            one->keep = record[HEADER + 2] & 1;
        else if (record[1] == STDIN && content == 0 && output_length + answer_length < sizeof output)
            put_answer(record + 2);
        else if (record[1] == GET_VALUES)
            put_values();
        at += whole;
    }
    memmove(one->input, one->input + at, one->filled - at);
    one->filled -= at;
    while (sent < output_length) {
        ssize_t done = send(one->socket, output + sent, output_length - sent, MSG_NOSIGNAL);
        if (done < 0)
            return 0;
        sent += (size_t)done;
    }
    return output_length == 0 || one->keep;
}

int main(int count, char **arguments)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct epoll_event event = {.events = EPOLLIN}, events[64];
    int listener, poll = epoll_create1(0);

    if (count != 3 || strlen(arguments[1]) >= sizeof address.sun_path)
        return 2;
    prepare(arguments[2]);
    strcpy(address.sun_path, arguments[1]);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0)
        die(arguments[1]);
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *one = events[i].data.ptr;
            int accepted;
            if (one != NULL) {
                if (!serve(one)) {
                    close(one->socket);
                    free(one);
                }
                continue;
            }
            while ((accepted = accept4(listener, NULL, NULL, 0)) >= 0) {
                one = malloc(sizeof *one);
                one->socket = accepted;
                one->keep = 0;
                one->filled = 0;
                event.data.ptr = one;
                epoll_ctl(poll, EPOLL_CTL_ADD, accepted, &event);
            }
        }
    }
}
