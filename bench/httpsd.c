// SPDX-License-Identifier: Apache-2.0
//
// Policy hosts for every domain: an HTTPS server that makes a certificate for the name that the
// client asks for (SNI), signed by a CA of its own: through one intermediate, as the public web does
// it, or with `--chain short` by the root itself. One thread, epoll, OpenSSL; keys and signatures are ECDSA P-256. The policy of
// mta-sts.NAME lists mx1.NAME and mx2.NAME and enforces; where NAME names an operator (see dnsd.c), as in
// mta-sts.pREST-oN.test, it lists the hosts of oN.test.
//
// usage: httpsd --listen inet:ADDR:PORT --ca-file OUT.pem [--chain long|short] [--max-age SECONDS] [--cpu N]

#include "tlsclients.h"

static EVP_PKEY *leaf_key, *issuer_key;
static X509 *issuer;
static long max_age = 604800;
static SSL_CTX *context;
static int listening;

static bool is_host_name(const char *text) {
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.");
    return length > 8 && length < MAX_NAME && text[length] == 0 && !strncmp(text, "mta-sts.", 8);
}

static int choose_certificate(SSL *tls, int *alert, void *unused) {
    (void)unused;
    const char *host = SSL_get_servername(tls, TLSEXT_NAMETYPE_host_name);
    if (!host || !is_host_name(host)) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    X509 *certificate = make_leaf("policy host", host, leaf_key, issuer, issuer_key);
    SSL_use_certificate(tls, certificate);
    SSL_use_PrivateKey(tls, leaf_key);
    X509_free(certificate);
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *make_context(const char *ca_file, bool is_short) {
    EVP_PKEY *root_key = make_key();
    leaf_key = make_key(), issuer_key = make_key();
    X509 *root = make_authority("Benchmark Root", root_key, NULL, root_key);
    if (is_short) issuer = root, issuer_key = root_key;
    else issuer = make_authority("Benchmark Intermediate", issuer_key, root, root_key);
    write_certificate(ca_file, root);
    X509 *placeholder = make_leaf("policy host", "mta-sts.invalid", leaf_key, issuer, issuer_key);
    SSL_CTX *made = make_tls(placeholder, leaf_key, choose_certificate);
    if (!is_short) SSL_CTX_add1_chain_cert(made, issuer);
    return made;
}

// Answer the request; false when the connection is done.
static bool respond(struct client *client) {
    const char *host = SSL_get_servername(client->tls, TLSEXT_NAMETYPE_host_name);
    const char *domain = host + strlen("mta-sts."), *at = strstr(domain, "-o");
    if (at) domain = at + 1; // the hosts are their operator's
    char body[1024], out[2048];
    bool found = !strncmp(client->text, "GET /.well-known/mta-sts.txt ", 29);
    int size = snprintf(body, sizeof body,
                        "version: STSv1\r\nmode: enforce\r\nmx: mx1.%s\r\nmx: mx2.%s\r\nmax_age: %ld\r\n",
                        domain, domain, max_age);
    int length = snprintf(out, sizeof out,
                          "HTTP/1.1 %s\r\nServer: bench\r\nContent-Type: text/plain\r\n"
                          "Content-Length: %d\r\n\r\n%s",
                          found ? "200 OK" : "404 Not Found", size, body);
    bool last = strcasestr(client->text, "\r\nconnection: close\r\n") != NULL;
    client->have = 0;
    if (SSL_write(client->tls, out, length) != length || last) {
        SSL_shutdown(client->tls);
        return false;
    }
    return true;
}

static void handle(int epoll, void *who) {
    struct client *client = who;
    if (!client) {
        while ((client = accept_client(epoll, listening, sizeof *client, SOCK_NONBLOCK)))
            start_tls(client, context);
        return;
    }
    enum progress progress;
    while ((progress = receive(client)) == DONE)
        if (strstr(client->text, "\r\n\r\n") && !respond(client)) break;
    if (progress != WAITING) drop(client);
}

int main(int argc, char **argv) {
    const char *address = NULL, *ca_file = NULL;
    bool is_short = false;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--listen")) address = argv[i + 1];
        else if (!strcmp(argv[i], "--ca-file")) ca_file = argv[i + 1];
        else if (!strcmp(argv[i], "--chain")) is_short = !strcmp(argv[i + 1], "short");
        else if (!strcmp(argv[i], "--max-age")) max_age = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--cpu")) pin_to(atoi(argv[i + 1]));
        else die("unknown option %s", argv[i]);
    }
    if (!address || !ca_file) die("usage: httpsd --listen ADDRESS --ca-file OUT.pem [--chain long|short]\n"
                                  "       [--max-age SECONDS] [--cpu N]");
    context = make_context(ca_file, is_short), listening = listen_for_many(address);
    int epoll = epoll_create1(0);
    watch(epoll, listening, NULL);
    handle_events(epoll, handle);
}
