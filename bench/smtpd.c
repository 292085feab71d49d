// SPDX-License-Identifier: Apache-2.0
//
// All MX hosts of a benchmark: one SMTP server for every local address. It greets, answers EHLO,
// starts TLS with a certificate for the name that the client asks for (SNI), and takes no mail. One
// thread, epoll, OpenSSL. What kind of key mxM.oN.test has follows from N:
//
//   N divisible by 10          RSA
//   N = 2 modulo 10            RSA and ECDSA, whichever the client takes
//   else                       ECDSA
//
// Certificates come from a CA of its own, through one intermediate, are made at the first use and
// kept: a second connection sees the same. When it is ready, it prints the SHA-256 digests of both
// public keys, for TLSA records.
//
// usage: smtpd --listen inet:ADDR:PORT --ca-file OUT.pem [--cpu N]

#include "authority.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <signal.h>
#include <sys/epoll.h>

enum { MAX_EVENTS = 1024, LINE_BYTES = 1024, OPERATORS = 10000, HOSTS = 10, RSA_BITS = 2048 };

struct client {
    int fd;
    SSL *tls; // NULL until STARTTLS
    bool shaken;
    size_t have;
    char line[LINE_BYTES];
    char name[32];
};

static EVP_PKEY *ecdsa_key, *rsa_key, *issuer_key;
static X509 *issuer;
static X509 *certificates[2][OPERATORS][HOSTS];

// "mxM.oN.test" into its numbers.
static bool read_host(const char *name, int *host, int *operator) {
    int end = 0;
    return sscanf(name, "mx%1d.o%4d.test%n", host, operator, &end) == 2 && end > 0 && name[end] == 0;
}

static X509 *certificate_for(const char *name, int host, int operator, bool is_rsa) {
    X509 **kept = &certificates[is_rsa][operator][host];
    if (!*kept) *kept = make_leaf("MX host", name, is_rsa ? rsa_key : ecdsa_key, issuer, issuer_key);
    return *kept;
}

static int choose_certificate(SSL *tls, int *alert, void *unused) {
    (void)unused;
    int host, operator;
    const char *name = SSL_get_servername(tls, TLSEXT_NAMETYPE_host_name);
    if (!name || !read_host(name, &host, &operator)) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    SSL_certs_clear(tls);
    STACK_OF(X509) *chain = sk_X509_new_null();
    sk_X509_push(chain, issuer);
    bool has_rsa = operator % 10 == 0 || operator % 10 == 2;
    if (has_rsa) SSL_use_cert_and_key(tls, certificate_for(name, host, operator, true), rsa_key, chain, 1);
    if (operator % 10 != 0)
        SSL_use_cert_and_key(tls, certificate_for(name, host, operator, false), ecdsa_key, chain, 1);
    sk_X509_free(chain);
    return SSL_TLSEXT_ERR_OK;
}

static void print_digest(EVP_PKEY *key) {
    unsigned char *der = NULL, digest[SHA256_DIGEST_LENGTH];
    int size = i2d_PUBKEY(key, &der);
    SHA256(der, (size_t)size, digest);
    for (size_t i = 0; i < sizeof digest; i++) printf("%02x", digest[i]);
    putchar(' ');
    OPENSSL_free(der);
}

static SSL_CTX *make_context(const char *ca_file) {
    EVP_PKEY *root_key = make_key();
    issuer_key = make_key(), ecdsa_key = make_key(), rsa_key = EVP_RSA_gen(RSA_BITS);
    X509 *root = make_authority("Benchmark Mail Root", root_key, NULL, root_key);
    issuer = make_authority("Benchmark Mail Intermediate", issuer_key, root, root_key);
    write_certificate(ca_file, root);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context, make_leaf("MX host", "mx.invalid", ecdsa_key, issuer, issuer_key));
    SSL_CTX_use_PrivateKey(context, ecdsa_key);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_tlsext_servername_callback(context, choose_certificate);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return context;
}

static void drop(struct client *client) {
    SSL_free(client->tls);
    close(client->fd);
    free(client);
}

static bool say(struct client *client, const char *text) {
    int length = (int)strlen(text);
    if (client->tls) return SSL_write(client->tls, text, length) == length;
    return write(client->fd, text, (size_t)length) == length; // fits any socket buffer
}

// The host's name follows from the address that was connected to: 11.M.N/256.N%256.
static void greet(struct client *client) {
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    getsockname(client->fd, (struct sockaddr *)&own, &length);
    uint32_t address = ntohl(own.sin_addr.s_addr);
    snprintf(client->name, sizeof client->name, "mx%u.o%04u.test", address >> 16 & 255, address & 65535);
    char text[64];
    snprintf(text, sizeof text, "220 %s ESMTP\r\n", client->name);
    say(client, text);
}

// Answer one command; false when the connection is done.
static bool obey(struct client *client, SSL_CTX *context) {
    char text[160];
    const char *verb = client->line;
    if (!strncasecmp(verb, "EHLO ", 5)) {
        snprintf(text, sizeof text, "250-%s\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n%s250 8BITMIME\r\n",
                 client->name, client->tls ? "" : "250-STARTTLS\r\n");
        return say(client, text);
    }
    if (!strncasecmp(verb, "STARTTLS", 8) && !client->tls) {
        say(client, "220 go ahead\r\n");
        client->tls = SSL_new(context);
        SSL_set_fd(client->tls, client->fd);
        SSL_set_accept_state(client->tls);
        return true;
    }
    if (!strncasecmp(verb, "QUIT", 4)) {
        say(client, "221 bye\r\n");
        if (client->tls) SSL_shutdown(client->tls);
        return false;
    }
    if (!strncasecmp(verb, "NOOP", 4) || !strncasecmp(verb, "RSET", 4)) return say(client, "250 fine\r\n");
    return say(client, "502 not here\r\n");
}

static bool wants_more(struct client *client, int result) {
    int error = SSL_get_error(client->tls, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ;
}

// One step; false when the connection is done.
static bool serve(struct client *client, SSL_CTX *context) {
    for (;;) {
        if (client->tls && !client->shaken) {
            int result = SSL_accept(client->tls);
            if (result != 1) return wants_more(client, result);
            client->shaken = true;
        }
        int room = (int)(LINE_BYTES - 1 - client->have), n;
        if (room == 0) return false;
        if (client->tls) {
            n = SSL_read(client->tls, client->line + client->have, room);
            if (n <= 0) return wants_more(client, n);
        } else {
            n = (int)read(client->fd, client->line + client->have, (size_t)room);
            if (n <= 0) return n < 0 && errno == EAGAIN;
        }
        client->have += (size_t)n;
        client->line[client->have] = 0;
        char *end;
        while ((end = strstr(client->line, "\r\n"))) {
            *end = 0;
            if (!obey(client, context)) return false;
            client->have -= (size_t)(end + 2 - client->line);
            memmove(client->line, end + 2, client->have + 1);
            if (client->tls && !client->shaken) break;
        }
    }
}

int main(int argc, char **argv) {
    const char *address = NULL, *ca_file = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--listen")) address = argv[i + 1];
        else if (!strcmp(argv[i], "--ca-file")) ca_file = argv[i + 1];
        else if (!strcmp(argv[i], "--cpu")) pin_to(atoi(argv[i + 1]));
        else die("unknown option %s", argv[i]);
    }
    if (!address || !ca_file) die("usage: smtpd --listen ADDRESS --ca-file OUT.pem [--cpu N]");
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = make_context(ca_file);
    int listening = listen_on(address), epoll = epoll_create1(0);
    fcntl(listening, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event);
    print_digest(ecdsa_key), print_digest(rsa_key);
    puts("ready");
    fflush(stdout);
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (client) {
                if (!serve(client, context)) drop(client);
                continue;
            }
            for (int fd; (fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
                set_no_delay(fd);
                client = allocate(sizeof *client);
                client->fd = fd;
                greet(client);
                event = (struct epoll_event){.events = EPOLLIN, .data.ptr = client};
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
