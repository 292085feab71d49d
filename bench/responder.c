// SPDX-License-Identifier: Apache-2.0
//
// The physical limit: a socketmap server that decides nothing. One thread, epoll; it parses each
// netstring, checks that the request is `name SPACE key`, and answers every one alike. Nothing
// that a real daemon must do (cache, expiry, counters, fairness, time-outs) is here.
//
// usage: responder --listen inet:ADDR:PORT|unix:PATH --reply TEXT [--cpu N]

#include "events.h"

enum { BUFFER_BYTES = 65536, KEPT_BYTES = 4096 };

struct client {
    int fd;
    size_t have;
    char kept[KEPT_BYTES]; // an incomplete request
};

static char reply[2048];
static size_t reply_length;
static int listening;

// Answer the complete requests in `data`; the bytes used, or -1 when it is no netstring.
static ssize_t answer(int fd, const char *data, size_t length) {
    static char out[BUFFER_BYTES * 8];
    size_t at = 0, used = 0;
    while (at < length) {
        size_t size = 0, p = at;
        while (p < length && p - at < 6 && data[p] >= '0' && data[p] <= '9')
            size = size * 10 + (size_t)(data[p++] - '0');
        if (p == length) break;
        if (data[p] != ':' || p == at) return -1;
        if (length - p < size + 2) break;
        if (data[p + 1 + size] != ',' || !memchr(data + p + 1, ' ', size)) return -1;
        if (used + reply_length > sizeof out) return -1;
        memcpy(out + used, reply, reply_length);
        used += reply_length;
        at = p + size + 2;
    }
    if (used && send(fd, out, used, MSG_NOSIGNAL) != (ssize_t)used) return -1;
    return (ssize_t)at;
}

// One read; false when the client is to be dropped.
static bool serve(struct client *client) {
    static char buffer[BUFFER_BYTES];
    memcpy(buffer, client->kept, client->have);
    ssize_t n = recv(client->fd, buffer + client->have, sizeof buffer - client->have, MSG_DONTWAIT);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    size_t length = client->have + (size_t)n;
    ssize_t used = answer(client->fd, buffer, length);
    if (used < 0 || length - (size_t)used > KEPT_BYTES) return false;
    client->have = length - (size_t)used;
    memmove(client->kept, buffer + used, client->have);
    return true;
}

static void handle(int epoll, void *who) {
    struct client *client = who;
    if (!client) {
        accept_client(epoll, listening, sizeof *client, 0);
    } else if (!serve(client)) {
        close(client->fd);
        free(client);
    }
}

int main(int argc, char **argv) {
    const char *address = NULL, *text = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--listen")) address = argv[i + 1];
        else if (!strcmp(argv[i], "--reply")) text = argv[i + 1];
        else if (!strcmp(argv[i], "--cpu")) pin_to(atoi(argv[i + 1]));
        else die("unknown option %s", argv[i]);
    }
    if (!address || !text || strlen(text) > 1024) die("usage: responder --listen ADDRESS --reply TEXT [--cpu N]");
    reply_length = (size_t)sprintf(reply, "%zu:%s,", strlen(text), text);
    listening = listen_on(address);
    int epoll = epoll_create1(0);
    watch(epoll, listening, NULL);
    handle_events(epoll, handle);
}
