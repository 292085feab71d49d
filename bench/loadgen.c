// SPDX-License-Identifier: Apache-2.0
//
// A load generator for the socketmap protocol: a closed loop over N connections, one thread,
// epoll. It knows netstrings and the four status words, and nothing else about what it asks.
//
// Each connection sends `--pipeline` requests in one write, waits for all their replies, and goes
// on; a measurement lasts until at least one reply has come. The latency of a request is the time
// from that write to the read that brought its reply. Every latency is counted in a histogram with
// 1 % resolution, so percentiles cost nothing while measuring. With `--rate` a request is only sent
// when its turn has come (an open loop as long as there are free connections); with `--order once`
// every key is asked exactly once.
//
// Output: one JSON object on stdout. Exit 0 when every request was answered, 1 when not.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

enum { MAX_PIPELINE = 256, BUFFER_BYTES = 65536, MAX_EVENTS = 1024 };
enum { BUCKETS = 2400 }; // 1 ns * 1.01^2399 is 6.5 h: nothing falls off the end

struct connection {
    int fd;
    int unanswered;      // replies still to come of the batch that was sent
    int64_t sent_at;     // monotonic nanoseconds
    uint32_t have;       // bytes of an incomplete reply at the start of `buffer`
    char buffer[4096];
};

static struct {
    const char *connect_to, *keys_file, *map, *order;
    int connections, pipeline, cpu;
    double seconds, warmup, rate, timeout;
    uint64_t seed;
} option = {.map = "postfix", .order = "random", .connections = 1, .pipeline = 1, .cpu = -1,
            .seconds = 3, .warmup = 0.5, .timeout = 30, .seed = 1};

static char *arena;          // all requests, one behind the other
static uint32_t *offset;     // offset[i] .. offset[i + 1] is request i
static uint32_t key_count;
static uint32_t next_key;    // for `--order once`
static uint64_t sent, answered, status_count[5], histogram[BUCKETS];
static int64_t latency_max;
static bool measuring;
static double log_base;

static const char *const STATUS[5] = {"OK ", "NOTFOUND ", "TEMP ", "PERM ", "TIMEOUT "};

static uint64_t xorshift(uint64_t *state) {
    uint64_t x = *state;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return *state = x;
}

// Floats are exact enough: the histogram's resolution is 1 %. A table serves the common range.
enum { TABLE = 1 << 16, TABLE_SHIFT = 6 }; // up to 4.2 ms in steps of 64 ns
static uint16_t bucket_table[TABLE];

static int bucket_of(int64_t nanoseconds) {
    if (nanoseconds < ((int64_t)TABLE << TABLE_SHIFT)) return bucket_table[nanoseconds >> TABLE_SHIFT];
    int bucket = (int)(log((double)nanoseconds) / log_base);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static void make_bucket_table(void) {
    log_base = log(1.01);
    for (int i = 0; i < TABLE; i++)
        bucket_table[i] = (uint16_t)(log(((double)i + 0.5) * (1 << TABLE_SHIFT)) / log_base);
}

static double percentile(double fraction) {
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++) total += histogram[i];
    if (total == 0) return 0;
    uint64_t wanted = (uint64_t)ceil(fraction * (double)total);
    for (int i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen >= wanted) return exp(((double)i + 0.5) * log_base) / 1000;
    }
    return 0;
}

static void load_keys(void) {
    FILE *file = fopen(option.keys_file, "r");
    if (!file) die("cannot open %s: %s", option.keys_file, strerror(errno));
    struct stat info;
    if (fstat(fileno(file), &info) != 0) die("fstat: %s", strerror(errno));
    size_t lines = 0;
    for (int c; (c = getc_unlocked(file)) != EOF;) lines += c == '\n';
    if (lines == 0) die("%s holds no keys", option.keys_file);
    rewind(file);
    arena = allocate((size_t)info.st_size + lines * (strlen(option.map) + 12));
    offset = allocate((lines + 1) * sizeof *offset);
    char line[512];
    size_t at = 0;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = 0;
        if (!*line) continue;
        offset[key_count++] = (uint32_t)at;
        at += (size_t)sprintf(arena + at, "%zu:%s %s,", strlen(option.map) + 1 + strlen(line),
                              option.map, line);
    }
    offset[key_count] = (uint32_t)at;
    fclose(file);
}

// The next request, or -1 when every key was asked.
static int64_t choose_key(void) {
    if (option.order[0] == 'o') return next_key < key_count ? (int64_t)next_key++ : -1;
    return (int64_t)(xorshift(&option.seed) % key_count);
}

// Write one batch; false when there is nothing left to ask.
static bool send_batch(struct connection *connection) {
    char buffer[MAX_PIPELINE * 300];
    size_t length = 0;
    const char *data = buffer;
    int batch = 0;
    for (; batch < option.pipeline; batch++) {
        int64_t key = choose_key();
        if (key < 0) break;
        uint32_t size = offset[key + 1] - offset[key];
        if (option.pipeline == 1) {
            data = arena + offset[key];
            length = size;
        } else {
            if (length + size > sizeof buffer) die("a batch is too long; use a smaller --pipeline");
            memcpy(buffer + length, arena + offset[key], size);
            length += size;
        }
    }
    if (batch == 0) return false;
    connection->sent_at = now_ns();
    connection->unanswered = batch;
    sent += (uint64_t)batch;
    ssize_t n = send(connection->fd, data, length, MSG_NOSIGNAL);
    if (n != (ssize_t)length) die("send: %s", n < 0 ? strerror(errno) : "short write");
    return true;
}

static void count_reply(const char *payload, size_t length, int64_t latency) {
    int status = 0;
    while (status < 4 && (length < strlen(STATUS[status]) ||
                          memcmp(payload, STATUS[status], strlen(STATUS[status])) != 0))
        status++;
    if (status == 4 && (length < 8 || memcmp(payload, "TIMEOUT ", 8) != 0))
        die("not a socketmap reply: %.*s", (int)(length < 60 ? length : 60), payload);
    answered++;
    if (!measuring) return;
    status_count[status]++;
    histogram[bucket_of(latency)]++;
    if (latency > latency_max) latency_max = latency;
}

// Take the replies out of `data`; what is left of the last one is kept for the next read.
static void take_replies(struct connection *connection, const char *data, size_t length, int64_t now) {
    size_t at = 0;
    while (at < length) {
        size_t size = 0, p = at;
        while (p < length && data[p] >= '0' && data[p] <= '9') size = size * 10 + (size_t)(data[p++] - '0');
        if (p == length) break;
        if (data[p] != ':' || p == at) die("no netstring: %.*s", (int)(length - at), data + at);
        if (length - p < size + 2) break;
        if (data[p + 1 + size] != ',') die("a netstring does not end in a comma");
        count_reply(data + p + 1, size, now - connection->sent_at);
        if (--connection->unanswered < 0) die("a reply that nobody asked for");
        at = p + size + 2;
    }
    connection->have = (uint32_t)(length - at);
    if (connection->have > sizeof connection->buffer) die("a reply is too long");
    memmove(connection->buffer, data + at, connection->have);
}

static bool read_replies(struct connection *connection) {
    static char buffer[BUFFER_BYTES];
    uint32_t have = connection->have;
    memcpy(buffer, connection->buffer, have);
    ssize_t n = recv(connection->fd, buffer + have, sizeof buffer - have, MSG_DONTWAIT);
    if (n == 0) die("the daemon closed a connection");
    if (n < 0) {
        if (errno == EAGAIN) return false;
        die("recv: %s", strerror(errno));
    }
    take_replies(connection, buffer, have + (size_t)n, now_ns());
    return connection->unanswered == 0;
}

static void parse_options(int argc, char **argv) {
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value) die("%s needs a value", name);
        if (!strcmp(name, "--connect")) option.connect_to = value;
        else if (!strcmp(name, "--keys")) option.keys_file = value;
        else if (!strcmp(name, "--map")) option.map = value;
        else if (!strcmp(name, "--order")) option.order = value;
        else if (!strcmp(name, "--connections")) option.connections = atoi(value);
        else if (!strcmp(name, "--pipeline")) option.pipeline = atoi(value);
        else if (!strcmp(name, "--seconds")) option.seconds = atof(value);
        else if (!strcmp(name, "--warmup")) option.warmup = atof(value);
        else if (!strcmp(name, "--rate")) option.rate = atof(value);
        else if (!strcmp(name, "--timeout")) option.timeout = atof(value);
        else if (!strcmp(name, "--cpu")) option.cpu = atoi(value);
        else if (!strcmp(name, "--seed")) option.seed = strtoull(value, NULL, 10) | 1;
        else die("unknown option %s", name);
    }
    if (!option.connect_to || !option.keys_file)
        die("usage: loadgen --connect inet:ADDR:PORT|unix:PATH --keys FILE [--map NAME]\n"
            "       [--connections N] [--pipeline N] [--seconds S] [--warmup S] [--cpu N] [--seed N]\n"
            "       [--order random|once] [--rate PER_SECOND] [--timeout S]");
    if (option.pipeline < 1 || option.pipeline > MAX_PIPELINE) die("--pipeline: 1 to %d", MAX_PIPELINE);
    if (option.connections < 1) die("--connections: at least 1");
}

static void print_result(double elapsed, double cpu, uint64_t requests, bool complete) {
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"rate\": %.1f, \"cpu_seconds\": %.4f, "
           "\"p50_us\": %.2f, \"p90_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, "
           "\"max_us\": %.2f, \"ok\": %llu, \"notfound\": %llu, \"temp\": %llu, \"perm\": %llu, "
           "\"complete\": %s}\n",
           (unsigned long long)requests, elapsed, (double)requests / elapsed, cpu,
           percentile(0.5), percentile(0.9), percentile(0.99), percentile(0.999),
           (double)latency_max / 1000, (unsigned long long)status_count[0],
           (unsigned long long)status_count[1], (unsigned long long)(status_count[2] + status_count[4]),
           (unsigned long long)status_count[3], complete ? "true" : "false");
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    pin_to(option.cpu);
    make_bucket_table();
    load_keys();
    int n = option.connections;
    struct connection *connections = allocate((size_t)n * sizeof *connections);
    int *idle = allocate((size_t)n * sizeof *idle), idle_count = 0;
    int epoll = epoll_create1(0);
    for (int i = 0; i < n; i++) {
        connections[i].fd = connect_to(option.connect_to);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event)) die("epoll_ctl: %s", strerror(errno));
        idle[idle_count++] = i;
    }

    bool once = option.order[0] == 'o', paced = option.rate > 0, exhausted = false, stopping = false;
    int64_t start = now_ns(), measure_from = start + (int64_t)(once ? 0 : option.warmup * 1e9);
    int64_t end = once ? INT64_MAX : measure_from + (int64_t)(option.seconds * 1e9);
    int64_t last_answer = start, interval = paced ? (int64_t)(1e9 / option.rate) : 0, due = start;
    uint64_t answered_before = 0, requests = 0;
    double elapsed = 0, cpu = 0;
    double cpu_before = cpu_seconds();
    measuring = once || option.warmup == 0;
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int64_t now = now_ns();
        if (!measuring && !stopping && now >= measure_from) {
            measuring = true, measure_from = now, answered_before = answered, cpu_before = cpu_seconds();
        }
        if (now >= end && answered > answered_before) { // stop counting; take what is still owed
            elapsed = (double)(now - measure_from) / 1e9, cpu = cpu_seconds() - cpu_before;
            requests = answered - answered_before;
            measuring = false, stopping = true, exhausted = true, end = INT64_MAX;
        }
        while (idle_count > 0 && !exhausted && (!paced || due <= now)) {
            if (!send_batch(&connections[idle[idle_count - 1]])) { exhausted = true; break; }
            idle_count--, due += interval;
        }
        if (exhausted && idle_count == n) break;
        if (now - last_answer > (int64_t)(option.timeout * 1e9) && idle_count < n) break;
        struct timespec wait = {.tv_nsec = 100000000};
        if (paced && idle_count > 0 && !exhausted && due - now < wait.tv_nsec) wait.tv_nsec = due > now ? due - now : 0;
        int ready = epoll_pwait2(epoll, events, MAX_EVENTS, &wait, NULL);
        for (int i = 0; i < ready; i++) {
            uint32_t index = events[i].data.u32;
            if (!read_replies(&connections[index])) continue;
            if (paced || exhausted || !send_batch(&connections[index])) idle[idle_count++] = (int)index;
        }
        if (ready > 0) last_answer = now;
    }
    if (once) elapsed = (double)(now_ns() - start) / 1e9, cpu = cpu_seconds() - cpu_before, requests = answered;
    bool complete = answered == sent && answered > 0;
    print_result(elapsed, cpu, requests, complete);
    return complete ? 0 : 1;
}
