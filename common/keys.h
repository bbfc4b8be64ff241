/* keys.h - who is who between machines: key files, and the list of those who may come in.
 *
 * `onestep keygen NAME` makes two files. NAME.key holds the secret: 40 characters, for the eyes of
 * its owner alone. NAME.pub is a card that may be shown to everybody, a YAML file:
 *
 *   name: gpu-7
 *   role: worker
 *   key: "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
 *
 * A client's card may also say "tenant: birds": its jobs are that tenant's, whatever it claims.
 *
 * A broker reads the cards in a folder (curve_allow); workers and clients read the broker's. */
#ifndef ONESTEP_COMMON_KEYS_H
#define ONESTEP_COMMON_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/status.h"
#include "common/bus.h"
#include "proto/spec.h"

/* What a key's owner may do. The words are client, worker, admin, broker. */
enum keys_role {
    KEYS_STRANGER = 0, /* nothing */
    KEYS_CLIENT,       /* submit, look, cancel, fetch */
    KEYS_WORKER,       /* take jobs and report about them */
    KEYS_ADMIN,        /* what clients may, and whatever changes more than a job */
    KEYS_BROKER,       /* be connected to; at another broker's door it is a stranger */
    KEYS_ROLE_COUNT
};

/* Word of a role; "stranger" for none. This function can't fail. */
const char *keys_role_name(enum keys_role role);

/* Words of the roles that a card can have, in the order of the enum from KEYS_CLIENT on. */
extern const char *const keys_role_names[];

/* A public card. */
struct keys_card {
    char name[BUS_NAME_ROOM]; /* [a-z0-9.-], 1 to BUS_NAME_ROOM - 1 characters */
    enum keys_role role;
    char tenant[SPEC_TENANT_MAX]; /* of a client's jobs; "": as each job says */
    char key[BUS_KEY_ROOM];
};

/* Make a pair: DIR/NAME.key (mode 0600) and DIR/NAME.pub. The paths go to secret_path and card_path
 * (FILE_PATH_BYTES each). tenant: of the card; "": none.
 * Errors: ERR_BADARG for the name or tenant; ERR_CONFLICT when one of the files
 * exists: nothing is overwritten; ERR_UNAVAILABLE when libzmq can't encrypt; ERR_IO, ERR_FULL. */
MUST_USE status keys_make(const char *dir, const char *name, enum keys_role role,
                          const char *tenant, char *secret_path, char *card_path);

/* Read a NAME.key. Errors: ERR_NOTFOUND, ERR_IO; ERR_CONFLICT when others may read the file;
 * ERR_CORRUPT when it holds no key. No sentence quotes what is in it. */
MUST_USE status keys_read_secret(const char *path, struct bus_keys *keys);

/* Read a NAME.pub. Errors: ERR_NOTFOUND, ERR_IO, ERR_CORRUPT, ERR_BADARG. */
MUST_USE status keys_read_card(const char *path, struct keys_card *card);

/* Make the DEALERs of bus encrypted: own secret from key_path, the broker's card from card_path.
 * Both "": leave it as it is. Errors: ERR_BADARG when one is missing; those of reading. */
MUST_USE status keys_trust(struct bus *bus, const char *key_path, const char *card_path);

/* The cards of a folder. */
struct keys_ring;

/* Read every DIR/NAME.pub. Errors: ERR_NOTFOUND; ERR_CONFLICT when a name or a key is there twice;
 * ERR_FULL above KEYS_CARDS_MAX; those of keys_read_card. */
MUST_USE status keys_open_ring(struct keys_ring **ring, const char *dir);

#define KEYS_CARDS_MAX 4096

/* Free it. Accepts NULL. */
void keys_close_ring(struct keys_ring *ring);

/* Read the folder again. On an error nothing changes. Errors: as keys_open_ring. */
MUST_USE status keys_reload_ring(struct keys_ring *ring);

/* A bus_admit_fn; self is the ring. Thread: any. */
bool keys_admit(void *self, const char key[BUS_KEY_ROOM], char name[BUS_NAME_ROOM]);

/* What the owner of this name may do now, and the tenant of its card: a card that was taken out of
 * the folder is a stranger's after the next keys_reload_ring, on open connections as well.
 * Thread: any. */
enum keys_role keys_role_of(struct keys_ring *ring, const char *name, char tenant[SPEC_TENANT_MAX]);

/* Strangers that keys_admit has refused so far. Thread: any. */
long long keys_refused(const struct keys_ring *ring);

#endif
