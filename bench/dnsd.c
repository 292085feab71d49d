// SPDX-License-Identifier: Apache-2.0
//
// A DNS server that knows every name by rule, so that a benchmark can ask for domains that were
// never seen before without this side being the slow one. UDP only, one thread, no state.
//
//   NAME.test           MX    10 mx1.NAME.test, 20 mx2.NAME.test
//   mxN.NAME.test       A     192.0.2.N (nobody connects)
//   _mta-sts.pREST.test TXT   v=STSv1; id=...        names that begin with "p" have a policy
//   mta-sts.pREST.test  A     --policy-address
//   anything else       NXDOMAIN, or NODATA where the name exists
//
// usage: dnsd --listen inet:ADDR:PORT [--policy-address ADDR] [--ttl SECONDS] [--cpu N]

#include "common.h"

#include <ctype.h>

enum { TYPE_A = 1, TYPE_SOA = 6, TYPE_MX = 15, TYPE_TXT = 16, TYPE_OPT = 41 };
enum { NOERROR = 0, NXDOMAIN = 3 };

static struct in_addr policy_address;
static uint32_t ttl = 3600;

struct message {
    uint8_t bytes[1232];
    size_t length;
    uint16_t answers, authorities, additionals;
};

static void put8(struct message *m, unsigned value) { m->bytes[m->length++] = (uint8_t)value; }
static void put16(struct message *m, unsigned value) { put8(m, value >> 8), put8(m, value & 255); }
static void put32(struct message *m, uint32_t value) { put16(m, value >> 16), put16(m, value & 65535); }

static void put_bytes(struct message *m, const void *data, size_t size) {
    memcpy(m->bytes + m->length, data, size);
    m->length += size;
}

// Owner, type, class IN, TTL; the caller writes the length and the data.
static void put_header(struct message *m, unsigned owner, unsigned type, uint32_t seconds) {
    put16(m, 0xc000 | owner), put16(m, type), put16(m, 1), put32(m, seconds);
}

static void put_a(struct message *m, const void *address) {
    put_header(m, 12, TYPE_A, ttl), put16(m, 4), put_bytes(m, address, 4);
    m->answers++;
}

static void put_mx(struct message *m, unsigned preference, char digit) {
    put_header(m, 12, TYPE_MX, ttl), put16(m, 2 + 4 + 2), put16(m, preference);
    put8(m, 3), put8(m, 'm'), put8(m, 'x'), put8(m, (unsigned)digit), put16(m, 0xc00c);
    m->answers++;
}

static void put_txt(struct message *m) {
    static const char text[] = "v=STSv1; id=20260101000000Z;";
    put_header(m, 12, TYPE_TXT, ttl), put16(m, sizeof text), put8(m, sizeof text - 1);
    put_bytes(m, text, sizeof text - 1);
    m->answers++;
}

// The zone's SOA, with the time a negative answer holds; `zone` is where "test" stands.
static void put_soa(struct message *m, unsigned zone) {
    put_header(m, zone, TYPE_SOA, 300), put16(m, 2 + 2 + 20), put16(m, 0xc000 | zone), put16(m, 0xc000 | zone);
    put32(m, 1), put32(m, 3600), put32(m, 600), put32(m, 86400), put32(m, 300);
    m->authorities++;
}

// What a name means. The rcode; records are added to `m`.
static int answer(struct message *m, const char *name, unsigned type) {
    static const uint8_t mx_address[3] = {192, 0, 2};
    size_t length = strlen(name);
    if (length < 6 || strcmp(name + length - 5, ".test")) return NXDOMAIN;
    const char *dot = strchr(name, '.');
    bool whole = dot == name + length - 5; // one label under "test"
    if (whole) {
        if (type == TYPE_MX) put_mx(m, 10, '1'), put_mx(m, 20, '2');
        return NOERROR;
    }
    if (!strncmp(name, "_mta-sts.p", 10)) {
        if (type == TYPE_TXT) put_txt(m);
        return NOERROR;
    }
    if (!strncmp(name, "mta-sts.p", 9)) {
        if (type == TYPE_A) put_a(m, &policy_address);
        return NOERROR;
    }
    if (!strncmp(name, "mx", 2) && isdigit((unsigned char)name[2]) && name[3] == '.') {
        uint8_t address[4];
        memcpy(address, mx_address, 3);
        address[3] = (uint8_t)(name[2] - '0');
        if (type == TYPE_A) put_a(m, address);
        return NOERROR;
    }
    return NXDOMAIN;
}

// Decode the question's name; where the question ends, or 0.
static size_t read_question(const uint8_t *query, size_t length, char *name, unsigned *zone) {
    size_t at = 12, used = 0;
    while (at < length && query[at]) {
        size_t label = query[at];
        if (label > 63 || at + 1 + label >= length || used + label + 2 > 256) return 0;
        *zone = (unsigned)at;
        if (used) name[used++] = '.';
        for (size_t i = 0; i < label; i++) name[used++] = (char)tolower(query[at + 1 + i]);
        at += label + 1;
    }
    name[used] = 0;
    return at + 5 <= length ? at + 5 : 0;
}

static size_t respond(const uint8_t *query, size_t length, struct message *m) {
    char name[260];
    unsigned zone = 12;
    if (length < 17 || (query[2] & 0x80) || query[4] != 0 || query[5] != 1) return 0;
    size_t end = read_question(query, length, name, &zone);
    if (end == 0) return 0;
    memset(m, 0, sizeof *m);
    put_bytes(m, query, end);
    int rcode = answer(m, name, (unsigned)query[end - 4] << 8 | query[end - 3]);
    if (m->answers == 0) put_soa(m, zone);
    if (query[10] || query[11]) { // EDNS was offered: agree
        put8(m, 0), put16(m, TYPE_OPT), put16(m, 1232), put32(m, 0), put16(m, 0);
        m->additionals++;
    }
    m->bytes[2] = 0x84 | (query[2] & 1), m->bytes[3] = (uint8_t)(0x80 | rcode);
    m->bytes[6] = 0, m->bytes[7] = (uint8_t)m->answers;
    m->bytes[8] = 0, m->bytes[9] = (uint8_t)m->authorities;
    m->bytes[10] = 0, m->bytes[11] = (uint8_t)m->additionals;
    return m->length;
}

int main(int argc, char **argv) {
    const char *address = NULL, *policy = "127.0.0.1";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--listen")) address = argv[i + 1];
        else if (!strcmp(argv[i], "--policy-address")) policy = argv[i + 1];
        else if (!strcmp(argv[i], "--ttl")) ttl = (uint32_t)atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--cpu")) pin_to(atoi(argv[i + 1]));
        else die("unknown option %s", argv[i]);
    }
    if (!address || inet_pton(AF_INET, policy, &policy_address) != 1)
        die("usage: dnsd --listen inet:ADDR:PORT [--policy-address ADDR] [--ttl SECONDS] [--cpu N]");
    union address own;
    socklen_t own_length = parse_address(address, &own);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 4 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(fd, &own.any, own_length)) die("cannot listen on %s: %s", address, strerror(errno));
    puts("ready");
    fflush(stdout);
    for (;;) {
        uint8_t query[2048];
        struct message reply;
        union address client;
        socklen_t client_length = sizeof client;
        ssize_t n = recvfrom(fd, query, sizeof query, 0, &client.any, &client_length);
        if (n <= 0) continue;
        size_t length = respond(query, (size_t)n, &reply);
        if (length) sendto(fd, reply.bytes, length, 0, &client.any, client_length);
    }
}
