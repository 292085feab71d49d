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
// The hosts of one operator can be made to take connections and say nothing.
//
// usage: smtpd --listen inet:ADDR:PORT --ca-file OUT.pem [--silent OPERATOR] [--cpu N]

#include "tlsclients.h"

#include <openssl/sha.h>

enum { OPERATORS = 10000, HOSTS = 10, RSA_BITS = 2048 };

static EVP_PKEY *ecdsa_key, *rsa_key, *issuer_key;
static X509 *issuer;
static X509 *certificates[2][OPERATORS][HOSTS];
static SSL_CTX *context;
static int listening, silent = -1;

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
    X509 *placeholder = make_leaf("MX host", "mx.invalid", ecdsa_key, issuer, issuer_key);
    return make_tls(placeholder, ecdsa_key, choose_certificate);
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
    if ((int)(address & 65535) == silent) return;
    snprintf(client->name, sizeof client->name, "mx%u.o%04u.test", address >> 16 & 255, address & 65535);
    char text[64];
    snprintf(text, sizeof text, "220 %s ESMTP\r\n", client->name);
    say(client, text);
}

// Answer one command; false when the connection is done.
static bool obey(struct client *client) {
    char text[160];
    const char *verb = client->text;
    if (!strncasecmp(verb, "EHLO ", 5)) {
        snprintf(text, sizeof text, "250-%s\r\n250-PIPELINING\r\n250-SIZE 10485760\r\n%s250 8BITMIME\r\n",
                 client->name, client->tls ? "" : "250-STARTTLS\r\n");
        return say(client, text);
    }
    if (!strncasecmp(verb, "STARTTLS", 8) && !client->tls) {
        say(client, "220 go ahead\r\n");
        start_tls(client, context);
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

// Answer the commands that are there; false when the connection is done.
static bool obey_all(struct client *client) {
    char *end;
    while ((end = strstr(client->text, "\r\n"))) {
        bool in_clear = !client->tls;
        *end = 0;
        if (!obey(client)) return false;
        client->have -= (size_t)(end + 2 - client->text);
        memmove(client->text, end + 2, client->have + 1);
        if (in_clear && client->tls) client->have = 0, client->text[0] = 0; // the handshake is next
    }
    return true;
}

static void handle(int epoll, void *who) {
    struct client *client = who;
    if (!client) {
        while ((client = accept_client(epoll, listening, sizeof *client, SOCK_NONBLOCK))) greet(client);
        return;
    }
    enum progress progress;
    while ((progress = receive(client)) == DONE)
        if (!obey_all(client)) break;
    if (progress != WAITING) drop(client);
}

int main(int argc, char **argv) {
    const char *address = NULL, *ca_file = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--listen")) address = argv[i + 1];
        else if (!strcmp(argv[i], "--ca-file")) ca_file = argv[i + 1];
        else if (!strcmp(argv[i], "--silent")) silent = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--cpu")) pin_to(atoi(argv[i + 1]));
        else die("unknown option %s", argv[i]);
    }
    if (!address || !ca_file) die("usage: smtpd --listen ADDRESS --ca-file OUT.pem [--silent OPERATOR] [--cpu N]");
    context = make_context(ca_file), listening = listen_for_many(address);
    int epoll = epoll_create1(0);
    watch(epoll, listening, NULL);
    print_digest(ecdsa_key), print_digest(rsa_key);
    handle_events(epoll, handle);
}
