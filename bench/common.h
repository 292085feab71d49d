// SPDX-License-Identifier: Apache-2.0
// What the small benchmark programs share: dying, clocks, pinning, and opening sockets.

#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

__attribute__((format(printf, 1, 2), noreturn, unused)) static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

__attribute__((unused)) static void *allocate(size_t size) {
    void *memory = calloc(1, size ? size : 1);
    if (!memory) die("out of memory");
    return memory;
}

__attribute__((unused)) static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

__attribute__((unused)) static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

__attribute__((unused)) static void pin_to(int cpu) {
    if (cpu < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set)) die("cannot run on CPU %d: %s", cpu, strerror(errno));
}

union address {
    struct sockaddr any;
    struct sockaddr_in inet;
    struct sockaddr_un local;
};

// "inet:ADDR:PORT" (IPv4) or "unix:PATH".
__attribute__((unused)) static socklen_t parse_address(const char *text, union address *address) {
    memset(address, 0, sizeof *address);
    if (!strncmp(text, "unix:", 5)) {
        address->local.sun_family = AF_UNIX;
        if (strlen(text + 5) >= sizeof address->local.sun_path) die("%s: the path is too long", text);
        strcpy(address->local.sun_path, text + 5);
        return sizeof address->local;
    }
    char host[64];
    int port;
    if (sscanf(text, "inet:%63[0-9.]:%d", host, &port) != 2 ||
        inet_pton(AF_INET, host, &address->inet.sin_addr) != 1)
        die("%s: neither inet:ADDR:PORT nor unix:PATH", text);
    address->inet.sin_family = AF_INET;
    address->inet.sin_port = htons((uint16_t)port);
    return sizeof address->inet;
}

__attribute__((unused)) static void set_no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); // no effect on a unix socket
}

__attribute__((unused)) static int connect_to(const char *text) {
    union address address;
    socklen_t length = parse_address(text, &address);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &address.any, length)) die("cannot connect to %s: %s", text, strerror(errno));
    if (address.any.sa_family == AF_INET) set_no_delay(fd);
    return fd;
}

__attribute__((unused)) static int listen_on(const char *text) {
    union address address;
    socklen_t length = parse_address(text, &address);
    int one = 1, fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket: %s", strerror(errno));
    if (address.any.sa_family == AF_UNIX) unlink(address.local.sun_path);
    else setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, &address.any, length) || listen(fd, 4096)) die("cannot listen on %s: %s", text, strerror(errno));
    return fd;
}

#endif
