#include "common/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

struct tls {
    SSL_CTX *ctx;
    SSL *ssl;
    bool wants_write;
    char reason[200];
};

static const char *ssl_error(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());

    return text ? text : "no reason given";
}

static bool is_set(const char *path)
{
    return path && *path;
}

static status use_files(SSL_CTX *ctx, const struct tls_files *f)
{
    ERR_clear_error();
    if (is_set(f->cert) != is_set(f->key))
        return FAIL(ERR_BADARG, "a certificate goes with a key: give both or neither");
    if (is_set(f->ca) && SSL_CTX_load_verify_locations(ctx, f->ca, NULL) != 1)
        return FAIL(ERR_IO, "%s: no certificates (%s)", f->ca, ssl_error());
    if (!is_set(f->ca) && SSL_CTX_set_default_verify_paths(ctx) != 1)
        return FAIL(ERR_IO, "no certificates of the system (%s)", ssl_error());
    if (is_set(f->cert) && SSL_CTX_use_certificate_chain_file(ctx, f->cert) != 1)
        return FAIL(ERR_IO, "%s: no certificate (%s)", f->cert, ssl_error());
    if (is_set(f->key) && SSL_CTX_use_PrivateKey_file(ctx, f->key, SSL_FILETYPE_PEM) != 1)
        return FAIL(ERR_IO, "%s: no key of %s (%s)", f->key, f->cert, ssl_error());
    return OK;
}

static bool is_address(const char *server)
{
    struct in6_addr address;

    return inet_pton(AF_INET, server, &address) == 1 || inet_pton(AF_INET6, server, &address) == 1;
}

/* CAREFUL: without set1_host any certificate of the authority would do. */
static status make_ssl(struct tls *t, int fd, const char *server)
{
    t->ssl = SSL_new(t->ctx);
    if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1 || SSL_set1_host(t->ssl, server) != 1 ||
        (!is_address(server) && SSL_set_tlsext_host_name(t->ssl, server) != 1))
        return FAIL(ERR_NOMEM, "no TLS to %s: %s", server, ssl_error());
    SSL_set_connect_state(t->ssl);
    return OK;
}

status tls_open(struct tls **tls, int fd, const char *server, const struct tls_files *files)
{
    struct tls *t = calloc(1, sizeof(*t));
    status st = OK;

    *tls = NULL;
    if (!t)
        return FAIL(ERR_NOMEM, "no memory for TLS");
    t->wants_write = true;
    t->ctx = SSL_CTX_new(TLS_client_method());
    if (!t->ctx || SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1)
        TRY(FAIL(ERR_NOMEM, "no memory for TLS"));
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    TRY(use_files(t->ctx, files));
    TRY(make_ssl(t, fd, server));
    *tls = t;
    return OK;
out:
    tls_close(t);
    return st;
}

void tls_close(struct tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->ctx);
    free(tls);
}

static void explain(struct tls *t)
{
    long verdict = SSL_get_verify_result(t->ssl);

    if (verdict != X509_V_OK)
        snprintf(t->reason, sizeof(t->reason), "its certificate is refused: %s",
                 X509_verify_cert_error_string(verdict));
    else
        snprintf(t->reason, sizeof(t->reason), "TLS: %s", ssl_error());
}

/* What result of a read or write means, as send and recv would say it. */
static ssize_t outcome(struct tls *t, int result)
{
    int code = SSL_get_error(t->ssl, result), number = errno;

    t->wants_write = code == SSL_ERROR_WANT_WRITE;
    switch (code) {
    case SSL_ERROR_NONE:
        return result;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_SYSCALL:
        errno = number ? number : ECONNRESET;
        return -1;
    default: /* OpenSSL's numbers */
        explain(t);
        errno = EPROTO;
        return -1;
    }
}

ssize_t tls_send(struct tls *tls, const void *bytes, size_t len)
{
    ERR_clear_error();
    errno = 0;
    return outcome(tls, SSL_write(tls->ssl, bytes, len < (1 << 30) ? (int)len : 1 << 30));
}

ssize_t tls_receive(struct tls *tls, void *bytes, size_t room)
{
    ERR_clear_error();
    errno = 0;
    return outcome(tls, SSL_read(tls->ssl, bytes, room < (1 << 30) ? (int)room : 1 << 30));
}

bool tls_wants_write(const struct tls *tls)
{
    return tls->wants_write;
}

const char *tls_reason(const struct tls *tls)
{
    return tls->reason;
}
