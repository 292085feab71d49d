// SPDX-License-Identifier: Apache-2.0
//
// A DNS server that knows every name by rule, so that a benchmark can ask for domains that were
// never seen before without this side being the slow one. One thread, no state.
//
//   NAME.test            MX    10 mx1.NAME.test, 20 mx2.NAME.test
//   mxM.NAME.test        A     192.0.2.M (nobody connects)
//   _mta-sts.pREST.test  TXT   v=STSv1; id=...        names that begin with "p" have a policy
//   mta-sts.pREST.test   A     --policy-address
//   anything else        NXDOMAIN, or NODATA where the name exists
//
// Domains whose name names an operator (NNNN: four digits) are hosted there, and have more to look at:
//
//   pREST-oNNNN.test     MX    10 mx1.oNNNN.test, 20 mx2.oNNNN.test;  NS ns1, ns2 below oNNNN.test;
//                        SOA;  TXT v=spf1 -all;  _dmarc TXT v=DMARC1; p=reject
//     _smtp._tls         TXT   v=TLSRPTv1; rua=mailto:...
//     mta-sts            A     11.5.NNNN
//   mxM.oNNNN.test       A     11.M.NNNN (the number in two octets)
//     _25._tcp           TLSA  if NNNN is even: 3 1 1 of each key that smtpd.c has for this host
//   nsM.oNNNN.test       A     11.2M.NNNN
//
// Questions with RD set are answered as a resolver does, with AD where `--secure yes` says so; others
// as an authority does.
//
// usage: dnsd --listen inet:ADDR:PORT [--policy-address ADDR] [--ttl SECONDS] [--secure yes|no]
//             [--tlsa-ecdsa HEX --tlsa-rsa HEX] [--cpu N]

#include "events.h"

#include <ctype.h>

enum { TYPE_A = 1, TYPE_NS = 2, TYPE_SOA = 6, TYPE_MX = 15, TYPE_TXT = 16, TYPE_OPT = 41, TYPE_TLSA = 52 };
enum { NOERROR = 0, NXDOMAIN = 3, DIGEST_BYTES = 32, MAX_DATAGRAMS = 256, TCP_BYTES = 514, ROOT = 0x3fff };

static struct in_addr policy_address;
static uint32_t ttl = 3600;
static bool is_secure;
static uint8_t tlsa_ecdsa[DIGEST_BYTES], tlsa_rsa[DIGEST_BYTES];

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

static void put_txt(struct message *m, const char *text) {
    size_t size = strlen(text);
    put_header(m, 12, TYPE_TXT, ttl), put16(m, (unsigned)size + 1), put8(m, (unsigned)size);
    put_bytes(m, text, size);
    m->answers++;
}

// A name in wire form, not compressed.
static void put_name(struct message *m, const char *name) {
    for (const char *label = name; *label;) {
        size_t size = strcspn(label, ".");
        put8(m, (unsigned)size), put_bytes(m, label, size);
        label += size + (label[size] == '.');
    }
    put8(m, 0);
}

// MX or NS: the hosts of an operator.
static void put_host(struct message *m, unsigned type, unsigned number, unsigned operator) {
    char name[24];
    snprintf(name, sizeof name, "%s%u.o%04u.test", type == TYPE_MX ? "mx" : "ns", number, operator);
    bool is_mx = type == TYPE_MX;
    put_header(m, 12, type, ttl), put16(m, (unsigned)strlen(name) + 2 + 2 * is_mx);
    if (is_mx) put16(m, 10 * number);
    put_name(m, name);
    m->answers++;
}

static void put_operator_a(struct message *m, unsigned second_octet, unsigned operator) {
    uint8_t address[4] = {11, (uint8_t)second_octet, (uint8_t)(operator >> 8), (uint8_t)operator};
    put_a(m, address);
}

static void put_tlsa(struct message *m, const uint8_t *digest) {
    put_header(m, 12, TYPE_TLSA, ttl), put16(m, 3 + DIGEST_BYTES);
    put8(m, 3), put8(m, 1), put8(m, 1), put_bytes(m, digest, DIGEST_BYTES);
    m->answers++;
}

static void put_soa_data(struct message *m, unsigned zone) {
    bool is_root = zone == ROOT;
    put16(m, (is_root ? 2 : 2 + 2) + 20);
    if (is_root) put8(m, 0), put8(m, 0);
    else put16(m, 0xc000 | zone), put16(m, 0xc000 | zone);
    put32(m, 1), put32(m, 3600), put32(m, 600), put32(m, 86400), put32(m, 300);
}

// The zone's SOA, with the time a negative answer holds; `zone` is where its name stands.
static void put_soa(struct message *m, unsigned zone) {
    if (zone == ROOT) put8(m, 0), put16(m, TYPE_SOA), put16(m, 1), put32(m, 300);
    else put_header(m, zone, TYPE_SOA, 300);
    put_soa_data(m, zone);
    m->authorities++;
}

// The operator that a domain's label names: 0 to 9999, or -1.
static int operator_of(const char *label) {
    const char *dot = strchr(label, '.'), *digits = dot - 4;
    bool is_operator = label[0] == 'o' && dot - label == 5;
    bool is_hosted = label[0] == 'p' && dot - label > 7 && !strncmp(dot - 6, "-o", 2);
    if (!is_operator && !is_hosted) return -1;
    for (int i = 0; i < 4; i++)
        if (!isdigit((unsigned char)digits[i])) return -1;
    return atoi(digits);
}

// A name at or below a domain that names an operator: `below` is what stands before the domain.
static int answer_hosted(struct message *m, const char *below, const char *domain, unsigned operator, unsigned type) {
    char text[300];
    int number;
    size_t left = strlen(below);
    bool is_operator = domain[0] == 'o';
    if (left == 0) {
        if (type == TYPE_NS) put_host(m, TYPE_NS, 1, operator), put_host(m, TYPE_NS, 2, operator);
        if (type == TYPE_SOA) put_header(m, 12, TYPE_SOA, ttl), put_soa_data(m, 12), m->answers++;
        if (is_operator) return NOERROR;
        if (type == TYPE_MX) put_host(m, TYPE_MX, 1, operator), put_host(m, TYPE_MX, 2, operator);
        if (type == TYPE_TXT) put_txt(m, "v=spf1 -all");
        return NOERROR;
    }
    if (is_operator) {
        char kind[4], rest = 0;
        const char *host = left > 4 && !strncmp(below, "_25._tcp.", 9) ? below + 9 : below;
        if (host == below && !strncmp(below, "_tcp.mx", 7)) return NOERROR;
        if (sscanf(host, "%2[mxns]%1d%c", kind, &number, &rest) != 2) return NXDOMAIN;
        if (host != below) {
            if (operator % 2 || strcmp(kind, "mx")) return NXDOMAIN;
            if (type == TYPE_TLSA && operator % 10 != 0) put_tlsa(m, tlsa_ecdsa);
            if (type == TYPE_TLSA && (operator % 10 == 0 || operator % 10 == 2)) put_tlsa(m, tlsa_rsa);
            return NOERROR;
        }
        if (type == TYPE_A) put_operator_a(m, (unsigned)number + (strcmp(kind, "ns") ? 0 : 20), operator);
        return NOERROR;
    }
    if (!strcmp(below, "_mta-sts")) {
        if (type == TYPE_TXT) put_txt(m, "v=STSv1; id=20260101000000Z;");
    } else if (!strcmp(below, "mta-sts")) {
        if (type == TYPE_A) put_operator_a(m, 5, operator);
    } else if (!strcmp(below, "_smtp._tls")) {
        snprintf(text, sizeof text, "v=TLSRPTv1; rua=mailto:tlsrpt@%s", domain);
        if (type == TYPE_TXT) put_txt(m, text);
    } else if (!strcmp(below, "_dmarc")) {
        if (type == TYPE_TXT) put_txt(m, "v=DMARC1; p=reject");
    } else if (strcmp(below, "_tls")) {
        return NXDOMAIN;
    }
    return NOERROR;
}

// What a name means. The rcode; records are added to `m`.
static int answer(struct message *m, const char *name, unsigned type) {
    static const uint8_t mx_address[3] = {192, 0, 2};
    size_t length = strlen(name);
    if (length == 0 || !strcmp(name, "test")) return NOERROR;
    if (length < 6 || strcmp(name + length - 5, ".test")) return NXDOMAIN;
    const char *domain = name + length - 5;
    while (domain > name && domain[-1] != '.') domain--;
    int operator = operator_of(domain);
    if (operator >= 0) {
        char below[260];
        size_t left = domain == name ? 0 : (size_t)(domain - name) - 1;
        memcpy(below, name, left), below[left] = 0;
        return answer_hosted(m, below, domain, (unsigned)operator, type);
    }
    if (domain == name) { // one label under "test"
        if (type == TYPE_MX) put_mx(m, 10, '1'), put_mx(m, 20, '2');
        return NOERROR;
    }
    if (!strncmp(name, "_mta-sts.p", 10)) {
        if (type == TYPE_TXT) put_txt(m, "v=STSv1; id=20260101000000Z;");
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

// Decode the question's name; where the question ends, or 0. `zone`: where the domain stands, one
// label below "test", or "test" itself, or ROOT.
static size_t read_question(const uint8_t *query, size_t length, char *name, unsigned *zone) {
    size_t at = 12, used = 0;
    unsigned last = ROOT;
    *zone = ROOT;
    while (at < length && query[at]) {
        size_t label = query[at];
        if (label > 63 || at + 1 + label >= length || used + label + 2 > 256) return 0;
        *zone = last == ROOT ? (unsigned)at : last;
        last = (unsigned)at;
        if (used) name[used++] = '.';
        for (size_t i = 0; i < label; i++) name[used++] = (char)tolower(query[at + 1 + i]);
        at += label + 1;
    }
    name[used] = 0;
    return at + 5 <= length ? at + 5 : 0;
}

static size_t respond(const uint8_t *query, size_t length, struct message *m) {
    char name[260];
    unsigned zone;
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
    bool is_resolver = query[2] & 1;
    m->bytes[2] = (uint8_t)(0x80 | (is_resolver ? 1 : 4));
    m->bytes[3] = (uint8_t)((is_resolver ? 0x80 : 0) | (is_resolver && is_secure ? 0x20 : 0) | rcode);
    m->bytes[6] = 0, m->bytes[7] = (uint8_t)m->answers;
    m->bytes[8] = 0, m->bytes[9] = (uint8_t)m->authorities;
    m->bytes[10] = 0, m->bytes[11] = (uint8_t)m->additionals;
    return m->length;
}

// Answer what has come by datagram, each from the address that it was sent to.
static void serve_datagrams(int fd) {
    for (int i = 0; i < MAX_DATAGRAMS; i++) {
        uint8_t query[2048];
        char control[CMSG_SPACE(sizeof(struct in_pktinfo))];
        struct sockaddr_in client;
        struct message reply;
        struct iovec part = {.iov_base = query, .iov_len = sizeof query};
        struct msghdr envelope = {.msg_name = &client, .msg_namelen = sizeof client, .msg_iov = &part,
                                  .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(fd, &envelope, MSG_DONTWAIT);
        if (n <= 0) return;
        part.iov_len = respond(query, (size_t)n, &reply), part.iov_base = reply.bytes;
        struct cmsghdr *where = CMSG_FIRSTHDR(&envelope);
        if (where) ((struct in_pktinfo *)CMSG_DATA(where))->ipi_ifindex = 0;
        if (part.iov_len) sendmsg(fd, &envelope, 0);
    }
}

struct client {
    int fd;
    size_t have;
    uint8_t bytes[TCP_BYTES];
};

// Answer what has come on a connection; false when it is done.
static bool serve_connection(struct client *client) {
    ssize_t n = read(client->fd, client->bytes + client->have, TCP_BYTES - client->have);
    if (n <= 0) return false;
    client->have += (size_t)n;
    while (client->have >= 2) {
        size_t size = (size_t)client->bytes[0] << 8 | client->bytes[1];
        if (size + 2 > TCP_BYTES) return false;
        if (client->have < size + 2) return true;
        struct message reply;
        uint8_t out[2 + sizeof reply.bytes];
        size_t length = respond(client->bytes + 2, size, &reply);
        out[0] = (uint8_t)(length >> 8), out[1] = (uint8_t)length;
        memcpy(out + 2, reply.bytes, length);
        if (length == 0 || write(client->fd, out, length + 2) < 0) return false;
        client->have -= size + 2;
        memmove(client->bytes, client->bytes + size + 2, client->have);
    }
    return true;
}

static void read_digest(const char *hex, uint8_t *digest) {
    for (int i = 0; i < DIGEST_BYTES; i++)
        if (sscanf(hex + 2 * i, "%2hhx", &digest[i]) != 1) die("%s: no SHA-256 digest", hex);
}

static int open_datagrams(const char *address) {
    union address own;
    socklen_t own_length = parse_address(address, &own);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 4 << 20, one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one);
    if (bind(fd, &own.any, own_length)) die("cannot listen on %s: %s", address, strerror(errno));
    return fd;
}

static struct client datagrams, listening;

static void handle(int epoll, void *who) {
    struct client *client = who;
    if (client == &datagrams) {
        serve_datagrams(client->fd);
    } else if (client == &listening) {
        accept_client(epoll, client->fd, sizeof *client, 0);
    } else if (!serve_connection(client)) {
        close(client->fd);
        free(client);
    }
}

int main(int argc, char **argv) {
    const char *address = NULL, *policy = "127.0.0.1";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--listen")) address = argv[i + 1];
        else if (!strcmp(argv[i], "--policy-address")) policy = argv[i + 1];
        else if (!strcmp(argv[i], "--ttl")) ttl = (uint32_t)atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--secure")) is_secure = !strcmp(argv[i + 1], "yes");
        else if (!strcmp(argv[i], "--tlsa-ecdsa")) read_digest(argv[i + 1], tlsa_ecdsa);
        else if (!strcmp(argv[i], "--tlsa-rsa")) read_digest(argv[i + 1], tlsa_rsa);
        else if (!strcmp(argv[i], "--cpu")) pin_to(atoi(argv[i + 1]));
        else die("unknown option %s", argv[i]);
    }
    if (!address || inet_pton(AF_INET, policy, &policy_address) != 1)
        die("usage: dnsd --listen inet:ADDR:PORT [--policy-address ADDR] [--ttl SECONDS] [--secure yes|no]\n"
            "            [--tlsa-ecdsa HEX --tlsa-rsa HEX] [--cpu N]");
    int epoll = epoll_create1(0);
    datagrams.fd = open_datagrams(address), listening.fd = listen_on(address);
    watch(epoll, datagrams.fd, &datagrams);
    watch(epoll, listening.fd, &listening);
    handle_events(epoll, handle);
}
