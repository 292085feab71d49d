// SPDX-License-Identifier: Apache-2.0
// Clients of a server that speaks TLS with whatever certificate fits the name asked for (SNI).

#ifndef BENCH_TLSCLIENTS_H
#define BENCH_TLSCLIENTS_H

#include "authority.h"
#include "events.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <signal.h>

enum { TEXT_BYTES = 4096 };

struct client {
    int fd;
    SSL *tls; // NULL in the clear
    bool shaken;
    size_t have;
    char text[TEXT_BYTES]; // what was received and not yet dealt with
    char name[32];
};

enum progress { BROKEN, WAITING, DONE };

// `choose` picks a certificate by the name asked for; `usual` is there only because one has to be.
static SSL_CTX *make_tls(X509 *usual, EVP_PKEY *key, int (*choose)(SSL *, int *, void *)) {
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_use_certificate(context, usual);
    SSL_CTX_use_PrivateKey(context, key);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_tlsext_servername_callback(context, choose);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return context;
}

static void start_tls(struct client *client, SSL_CTX *context) {
    client->tls = SSL_new(context);
    SSL_set_fd(client->tls, client->fd);
    SSL_set_accept_state(client->tls);
}

static void drop(struct client *client) {
    SSL_free(client->tls);
    close(client->fd);
    free(client);
}

// What became of a call: what we write fits any socket buffer, so only reading waits.
static enum progress judge(struct client *client, int result) {
    if (result > 0) return DONE;
    int error = SSL_get_error(client->tls, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ ? WAITING : BROKEN;
}

// Take what has come, over TLS or not, the handshake first.
static enum progress receive(struct client *client) {
    int room = (int)(TEXT_BYTES - 1 - client->have), n;
    if (room == 0) return BROKEN;
    if (client->tls && !client->shaken) {
        enum progress progress = judge(client, SSL_accept(client->tls));
        if (progress != DONE) return progress;
        client->shaken = true;
    }
    if (client->tls) {
        n = SSL_read(client->tls, client->text + client->have, room);
        if (n <= 0) return judge(client, n);
    } else {
        n = (int)read(client->fd, client->text + client->have, (size_t)room);
        if (n <= 0) return n < 0 && errno == EAGAIN ? WAITING : BROKEN;
    }
    client->have += (size_t)n;
    client->text[client->have] = 0;
    return DONE;
}

// A listening socket that hands out clients until there are no more.
static int listen_for_many(const char *address) {
    int listening = listen_on(address);
    fcntl(listening, F_SETFL, O_NONBLOCK);
    return listening;
}

#endif
