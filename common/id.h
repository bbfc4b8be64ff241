/* id.h - ids of jobs, workers and brokers, and the randomness in them.
 *
 * 26 characters: 2 hex digits of shard ("00": there is one), then 120 bits in base32 with the
 * alphabet 0-9 a-z without i l o u, most significant first. New ids are 48 bits of wall-clock
 * milliseconds and 72 random bits, so they sort by time. An id made of an idempotency key is the
 * first 120 bits of SHA-256(tenant, NUL, key): the same key is the same job. */
#ifndef ONESTEP_COMMON_ID_H
#define ONESTEP_COMMON_ID_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/status.h"
#include "proto/msg.h"

#define ID_KEY_MAX 512

/* An id of this moment. This function can't fail. */
void id_new(char id[JOB_ID_BYTES]);

/* An id of given time and randomness; for tests and replays. This function can't fail. */
void id_make(char id[JOB_ID_BYTES], int64_t wall_ms, const uint8_t random[9]);

/* The id that belongs to an idempotency key of a tenant.
 * Errors: ERR_BADARG when the key is empty or longer than ID_KEY_MAX bytes. */
MUST_USE status id_from_key(char id[JOB_ID_BYTES], const char *tenant, const char *key);

/* 64 random bits from the kernel, for nonces and seeds. This function can't fail. */
uint64_t id_random(void);

/* The nonce of a lease as 16 hex digits. This function can't fail. */
void id_nonce_text(char text[17], uint64_t nonce);

#endif
