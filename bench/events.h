// SPDX-License-Identifier: Apache-2.0
// One thread for many descriptors: what the small servers do between two of their clients.

#ifndef BENCH_EVENTS_H
#define BENCH_EVENTS_H

#include "common.h"

#include <sys/epoll.h>

enum { MAX_EVENTS = 1024 };

// Tell `handle_events` of a descriptor that can be read; `who` is what it is called with.
static void watch(int epoll, int fd, void *who) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = who};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll: %s", strerror(errno));
}

// A client of `size` octets, all zero but for the descriptor that it begins with; NULL if there is none.
static void *accept_client(int epoll, int listening, size_t size, int flags) {
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | flags);
    if (fd < 0) return NULL;
    set_no_delay(fd);
    int *client = allocate(size);
    *client = fd;
    watch(epoll, fd, client);
    return client;
}

// Say that we are ready, and serve for ever.
__attribute__((noreturn)) static void handle_events(int epoll, void (*handle)(int epoll, void *who)) {
    struct epoll_event events[MAX_EVENTS];
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) handle(epoll, events[i].data.ptr);
    }
}

#endif
