// SPDX-License-Identifier: Apache-2.0
// A certificate authority in memory: keys, roots, intermediates and leaves for whatever name is asked for.

#ifndef BENCH_AUTHORITY_H
#define BENCH_AUTHORITY_H

#include "common.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

enum { MAX_NAME = 200 };

static long serial = 1;

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

// `what` is the common name; `host` is what the certificate is good for.
static X509 *make_leaf(const char *what, const char *host, EVP_PKEY *key, X509 *signer, EVP_PKEY *signer_key) {
    char names[MAX_NAME + 8];
    snprintf(names, sizeof names, "DNS:%s", host);
    X509 *certificate = make_certificate(what, key, signer);
    add_extension(certificate, signer, NID_subject_alt_name, names);
    add_extension(certificate, signer, NID_ext_key_usage, "serverAuth");
    add_extension(certificate, signer, NID_authority_key_identifier, "keyid:always");
    X509_sign(certificate, signer_key, EVP_sha256());
    return certificate;
}

static void write_certificate(const char *path, X509 *certificate) {
    FILE *file = fopen(path, "w");
    if (!file || !PEM_write_X509(file, certificate) || fclose(file)) die("cannot write %s", path);
}

#endif
