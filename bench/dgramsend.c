// SPDX-License-Identifier: Apache-2.0
//
// Sends TLSRPT datagrams to a unix socket, as many smtp processes of an MTA do: each never waits, so
// what does not fit into the receiver's queue is lost.
//
//   --messages FILE   each datagram: its length (32 bits, host order), then its octets
//   --order FILE      which to send: numbers of datagrams (32 bits, host order)
//   --rate R          so many a second, evenly; 0: as fast as they are taken, waiting for room
//   --sockets N       sent through so many sockets in turn: a socket's own buffer must not be the limit
//
// A sender that comes late (somebody else had the processor) goes on from there instead of catching up
// in a burst that no MTA would send; "rate" tells what came of it.
//
// usage: dgramsend --to unix:PATH --messages FILE --order FILE --rate R [--sockets N]
// prints {"sent": N, "refused": N, "seconds": S, "rate": R, "busy": CPU share}

#include "common.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { MAX_SOCKETS = 256, SPIN_NS = 15000, LATE_INTERVALS = 2 };

struct message {
    const uint8_t *bytes;
    uint32_t length;
};

static const uint8_t *whole_file(const char *path, size_t *size) {
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &facts) || !facts.st_size) die("%s: %s", path, fd < 0 ? strerror(errno) : "empty");
    *size = (size_t)facts.st_size;
    void *data = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (data == MAP_FAILED) die("%s: %s", path, strerror(errno));
    return data;
}

static struct message *read_messages(const char *path, size_t *count) {
    size_t size, room = 1024;
    const uint8_t *data = whole_file(path, &size);
    struct message *messages = allocate(room * sizeof *messages);
    *count = 0;
    for (size_t at = 0; at + 4 <= size;) {
        if (*count == room && !(messages = realloc(messages, (room *= 2) * sizeof *messages))) die("out of memory");
        struct message *m = &messages[(*count)++];
        memcpy(&m->length, data + at, 4);
        m->bytes = data + at + 4;
        at += 4 + m->length;
    }
    return messages;
}

static void wait_until(int64_t due) {
    int64_t early = due - SPIN_NS;
    if (early > now_ns()) {
        struct timespec t = {early / 1000000000, early % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    }
    while (now_ns() < due) {
    }
}

int main(int argc, char **argv) {
    const char *to = NULL, *message_path = NULL, *order_path = NULL;
    double rate = 0;
    int sockets = 64;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--to")) to = argv[i + 1];
        else if (!strcmp(argv[i], "--messages")) message_path = argv[i + 1];
        else if (!strcmp(argv[i], "--order")) order_path = argv[i + 1];
        else if (!strcmp(argv[i], "--rate")) rate = atof(argv[i + 1]);
        else if (!strcmp(argv[i], "--sockets")) sockets = atoi(argv[i + 1]);
        else die("unknown option %s", argv[i]);
    }
    if (!to || !message_path || !order_path || sockets < 1 || sockets > MAX_SOCKETS)
        die("usage: dgramsend --to unix:PATH --messages FILE --order FILE --rate R [--sockets N]");
    union address address;
    socklen_t length = parse_address(to, &address);
    int fds[MAX_SOCKETS];
    for (int i = 0; i < sockets; i++)
        if ((fds[i] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0) die("socket: %s", strerror(errno));

    size_t kinds, order_size;
    struct message *messages = read_messages(message_path, &kinds);
    const uint32_t *order = (const void *)whole_file(order_path, &order_size);
    size_t count = order_size / sizeof *order;

    size_t sent = 0, refused = 0;
    int64_t interval = rate > 0 ? (int64_t)(1e9 / rate) : 0, started = now_ns(), due = started;
    for (size_t i = 0; i < count; i++) {
        if (order[i] >= kinds) die("there is no datagram %u", order[i]);
        if (interval) {
            wait_until(due);
            int64_t late = now_ns() - due;
            due += interval + (late > LATE_INTERVALS * interval ? late : 0);
        }
        const struct message *m = &messages[order[i]];
        ssize_t done;
        do done = sendto(fds[i % (size_t)sockets], m->bytes, m->length, interval ? MSG_DONTWAIT : 0, &address.any, length);
        while (done < 0 && errno == EINTR);
        if (done >= 0) sent++;
        else if (errno == EAGAIN) refused++;
        else die("cannot send to %s: %s", to, strerror(errno));
    }
    double seconds = (double)(now_ns() - started) / 1e9;
    printf("{\"sent\": %zu, \"refused\": %zu, \"seconds\": %.6f, \"rate\": %.1f, \"busy\": %.3f}\n", sent, refused,
           seconds, (double)count / seconds, cpu_seconds() / seconds);
    return 0;
}
