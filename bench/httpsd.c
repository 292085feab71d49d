// SPDX-License-Identifier: Apache-2.0
//
// Policy hosts for every domain: an HTTPS server that makes a certificate for the name that the
// client asks for (SNI), signed by a CA of its own: through one intermediate, as the public web does
// it, or with `--chain short` by the root itself. One thread, epoll, OpenSSL; keys and signatures are ECDSA P-256. The policy of
// mta-sts.NAME lists mx1.NAME and mx2.NAME and enforces.
//
// usage: httpsd --listen inet:ADDR:PORT --ca-file OUT.pem [--chain long|short] [--max-age SECONDS] [--cpu N]

#include "common.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <sys/epoll.h>

enum { MAX_EVENTS = 1024, REQUEST_BYTES = 4096, MAX_NAME = 200 };

struct client {
    int fd;
    SSL *tls;
    bool shaken;
    size_t have;
    char request[REQUEST_BYTES];
};

static EVP_PKEY *leaf_key, *issuer_key;
static X509 *issuer;
static long serial = 1, max_age = 604800;

static EVP_PKEY *make_key(void) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (!key) die("cannot make a key");
    return key;
}

static void add_extension(X509 *certificate, X509 *signer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, signer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (!extension) die("cannot make the extension %s", value);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

// A certificate without its signature. `signer` is NULL for a self-signed one.
static X509 *make_certificate(const char *common_name, EVP_PKEY *key, X509 *signer) {
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 90L * 86400);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1, 0);
    X509_set_issuer_name(certificate, signer ? X509_get_subject_name(signer) : name);
    X509_set_pubkey(certificate, key);
    return certificate;
}

static X509 *make_authority(const char *name, EVP_PKEY *key, X509 *signer, EVP_PKEY *signer_key) {
    X509 *certificate = make_certificate(name, key, signer);
    X509 *above = signer ? signer : certificate;
    add_extension(certificate, above, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(certificate, above, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(certificate, above, NID_subject_key_identifier, "hash");
    add_extension(certificate, above, NID_authority_key_identifier, "keyid:always");
    X509_sign(certificate, signer_key, EVP_sha256());
    return certificate;
}

static X509 *make_leaf(const char *host) {
    char names[MAX_NAME + 8];
    snprintf(names, sizeof names, "DNS:%s", host);
    X509 *certificate = make_certificate("policy host", leaf_key, issuer);
    add_extension(certificate, issuer, NID_subject_alt_name, names);
    add_extension(certificate, issuer, NID_ext_key_usage, "serverAuth");
    add_extension(certificate, issuer, NID_authority_key_identifier, "keyid:always");
    X509_sign(certificate, issuer_key, EVP_sha256());
    return certificate;
}

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
    X509 *certificate = make_leaf(host);
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
    FILE *file = fopen(ca_file, "w");
    if (!file || !PEM_write_X509(file, root) || fclose(file)) die("cannot write %s", ca_file);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    X509 *placeholder = make_leaf("mta-sts.invalid");
    SSL_CTX_use_certificate(context, placeholder);
    SSL_CTX_use_PrivateKey(context, leaf_key);
    if (!is_short) SSL_CTX_add1_chain_cert(context, issuer);
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

// Answer the request; false when the connection is done.
static bool respond(struct client *client) {
    const char *host = SSL_get_servername(client->tls, TLSEXT_NAMETYPE_host_name);
    const char *domain = host + strlen("mta-sts.");
    char body[1024], out[2048];
    bool found = !strncmp(client->request, "GET /.well-known/mta-sts.txt ", 29);
    int size = snprintf(body, sizeof body,
                        "version: STSv1\r\nmode: enforce\r\nmx: mx1.%s\r\nmx: mx2.%s\r\nmax_age: %ld\r\n",
                        domain, domain, max_age);
    int length = snprintf(out, sizeof out,
                          "HTTP/1.1 %s\r\nServer: bench\r\nContent-Type: text/plain\r\n"
                          "Content-Length: %d\r\n\r\n%s",
                          found ? "200 OK" : "404 Not Found", size, body);
    bool last = strcasestr(client->request, "\r\nconnection: close\r\n") != NULL;
    client->have = 0;
    if (SSL_write(client->tls, out, length) != length || last) {
        SSL_shutdown(client->tls);
        return false;
    }
    return true;
}

static bool wants_more(struct client *client, int result) {
    int error = SSL_get_error(client->tls, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ; // what we write fits any socket buffer
}

// One step; false when the connection is done.
static bool serve(struct client *client) {
    if (!client->shaken) {
        int result = SSL_accept(client->tls);
        if (result != 1) return wants_more(client, result);
        client->shaken = true;
    }
    for (;;) {
        int n = SSL_read(client->tls, client->request + client->have, (int)(REQUEST_BYTES - 1 - client->have));
        if (n <= 0) return wants_more(client, n);
        client->have += (size_t)n;
        client->request[client->have] = 0;
        if (client->have == REQUEST_BYTES - 1) return false;
        if (strstr(client->request, "\r\n\r\n") && !respond(client)) return false;
    }
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
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = make_context(ca_file, is_short);
    int listening = listen_on(address), epoll = epoll_create1(0);
    fcntl(listening, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event);
    puts("ready");
    fflush(stdout);
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;
            if (client) {
                if (!serve(client)) drop(client);
                continue;
            }
            for (int fd; (fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;) {
                set_no_delay(fd);
                client = allocate(sizeof *client);
                client->fd = fd, client->tls = SSL_new(context);
                SSL_set_fd(client->tls, fd);
                event = (struct epoll_event){.events = EPOLLIN, .data.ptr = client};
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
