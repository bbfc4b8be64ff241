/* DESIGN: the ring is two arrays behind a mutex: admit runs on the guard's thread and searches by
 * key, once a connection; role_of runs for every message and searches by name. Reading happens
 * aside and is swapped in whole. */
#include "common/keys.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/file.h"
#include "common/config.h"

/* Nobody but the owner, and a group that is trusted with it (as mounted secrets have). */
#define SECRET_MODE_FORBIDDEN 0037

const char *const keys_role_names[] = { "client", "worker", "admin", "broker", NULL };

/* A card as it is in its file. */
struct card_file {
    char name[BUS_NAME_ROOM];
    int role; /* index of keys_role_names */
    char tenant[SPEC_TENANT_MAX];
    char key[BUS_KEY_ROOM];
};

static const struct config_row card_rows[] = {
    CFG_ROW_TEXT(struct card_file, name, "", "whose key it is"),
    CFG_ROW_CHOICE(struct card_file, role, "client", keys_role_names, "what its owner may do"),
    CFG_ROW_TEXT(struct card_file, tenant, "", "whose jobs a client's are; empty: as each says"),
    CFG_ROW_TEXT(struct card_file, key, "", "public key in Z85"),
};
#define CARD_ROWS (sizeof(card_rows) / sizeof(card_rows[0]))

struct keys_ring {
    char dir[FILE_PATH_BYTES];
    pthread_mutex_t lock;    /* guards cards and count */
    struct keys_card *cards; /* by name */
    size_t count;
    atomic_llong refused;
};

const char *keys_role_name(enum keys_role role)
{
    if (role <= KEYS_STRANGER || role >= KEYS_ROLE_COUNT)
        return "stranger";
    return keys_role_names[role - KEYS_CLIENT];
}

/* --- files --- */

static bool is_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-");

    return len > 0 && len < BUS_NAME_ROOM && !name[len] && name[0] != '.' && name[0] != '-';
}

static status fail_name(const char *name)
{
    return FAIL(ERR_BADARG,
                "\"%.80s\" can't be the name of a key; use 1 to %d of a-z, 0-9, '.' and '-', "
                "beginning with a letter or digit",
                name, BUS_NAME_ROOM - 1);
}

static status write_pair(const struct bus_keys *keys, const struct keys_card *card,
                         const char *secret_path, const char *card_path)
{
    char line[BUS_KEY_ROOM + 1];
    struct buf text = { 0 };
    status st = OK;

    TRY(buf_printf(&text, "name: %s\nrole: %s\n", card->name, keys_role_name(card->role)));
    if (*card->tenant)
        TRY(buf_printf(&text, "tenant: %s\n", card->tenant));
    TRY(buf_printf(&text, "key: \"%s\"\n", card->key));
    memcpy(line, keys->secret, BUS_KEY_ROOM - 1);
    line[BUS_KEY_ROOM - 1] = '\n';
    TRY(file_write_new(secret_path, line, BUS_KEY_ROOM));
    st = file_write_new(card_path, text.data, text.len);
    if (st != OK && unlink(secret_path) != 0) /* the first failure is what is told */
        st = file_errno(errno, secret_path);
out:
    explicit_bzero(line, sizeof(line));
    buf_free(&text);
    return st;
}

/* May a card of this role have this tenant? */
static status check_tenant(enum keys_role role, const char *tenant)
{
    if (*tenant && role != KEYS_CLIENT)
        return FAIL(ERR_BADARG, "tenant: a %s has none; only clients have", keys_role_name(role));
    if (*tenant && !spec_is_tenant(tenant))
        return FAIL(ERR_BADARG, "tenant: \"%.60s\" may hold only a-z, 0-9 and '-', at most %d",
                    tenant, SPEC_TENANT_MAX - 1);
    return OK;
}

status keys_make(const char *dir, const char *name, enum keys_role role, const char *tenant,
                 char *secret_path, char *card_path)
{
    struct keys_card card = { .role = role };
    char file[BUS_NAME_ROOM + 8];
    struct bus_keys keys;
    mode_t old_mask;
    status st = OK;

    CHECK(role > KEYS_STRANGER && role < KEYS_ROLE_COUNT);
    memset(&keys, 0, sizeof(keys));
    if (!is_name(name))
        TRY(fail_name(name));
    TRY(check_tenant(role, tenant));
    snprintf(card.tenant, sizeof(card.tenant), "%s", tenant);
    snprintf(card.name, sizeof(card.name), "%s", name);
    snprintf(file, sizeof(file), "%s.key", name);
    TRY(file_make_dirs(dir));
    TRY(file_join(secret_path, FILE_PATH_BYTES, dir, file));
    snprintf(file, sizeof(file), "%s.pub", name);
    TRY(file_join(card_path, FILE_PATH_BYTES, dir, file));
    if (file_exists(card_path))
        TRY(FAIL(ERR_CONFLICT, "%s exists; give another name or remove it", card_path));
    TRY(bus_new_keys(&keys));
    memcpy(card.key, keys.public, BUS_KEY_ROOM);
    old_mask = umask(077);
    st = write_pair(&keys, &card, secret_path, card_path);
    umask(old_mask);
out:
    explicit_bzero(&keys, sizeof(keys));
    return st;
}

static status check_secret_mode(const char *path)
{
    struct stat info;

    if (stat(path, &info) != 0)
        return file_errno(errno, path);
    if (!S_ISREG(info.st_mode))
        return FAIL(ERR_IO, "%s is not a file", path);
    if (info.st_mode & SECRET_MODE_FORBIDDEN)
        return FAIL(ERR_CONFLICT, "%s holds a secret, and others may read or change it: chmod 600",
                    path);
    return OK;
}

status keys_read_secret(const char *path, struct bus_keys *keys)
{
    struct buf text = { 0 };
    status st = OK;

    memset(keys, 0, sizeof(*keys));
    TRY(check_secret_mode(path));
    TRY(file_read(path, 4096, &text));
    while (text.len > 0 && strchr("\r\n ", text.data[text.len - 1]))
        text.len--;
    if (text.len == BUS_KEY_ROOM - 1)
        memcpy(keys->secret, text.data, BUS_KEY_ROOM - 1);
    if (!bus_is_key(keys->secret))
        TRY(FAIL(ERR_CORRUPT, "%s holds no secret key; `onestep keygen` makes one", path));
    TRY(bus_derive_keys(keys));
out:
    if (text.data)
        explicit_bzero(text.data, text.len);
    buf_free(&text);
    return st;
}

status keys_read_card(const char *path, struct keys_card *card)
{
    struct card_file f = { .role = 0 };
    status st = OK;

    memset(card, 0, sizeof(*card));
    config_init(&f, card_rows, CARD_ROWS);
    TRY(config_read(&f, card_rows, CARD_ROWS, path));
    if (!is_name(f.name))
        TRY(FAIL(ERR_CORRUPT, "%s: name: \"%.60s\" can't be the name of a key", path, f.name));
    if (!bus_is_key(f.key))
        TRY(FAIL(ERR_CORRUPT, "%s: key: that is not a key; `onestep keygen` makes one", path));
    memcpy(card->name, f.name, sizeof(card->name));
    memcpy(card->key, f.key, sizeof(card->key));
    memcpy(card->tenant, f.tenant, sizeof(card->tenant));
    card->role = (enum keys_role)(KEYS_CLIENT + f.role);
    if (check_tenant(card->role, card->tenant) != OK)
        TRY(FAIL(ERR_CORRUPT, "%s: tenant: \"%s\" is not one that a %s can have", path,
                 card->tenant, keys_role_name(card->role)));
out:
    return st;
}

status keys_trust(struct bus *bus, const char *key_path, const char *card_path)
{
    struct bus_keys keys;
    struct keys_card card;
    status st = OK;

    if (!*key_path && !*card_path)
        return OK;
    if (!*key_path || !*card_path)
        return FAIL(ERR_BADARG, "curve_key and broker_key go together: %s is missing",
                    *key_path ? "broker_key" : "curve_key");
    TRY(keys_read_secret(key_path, &keys));
    TRY(keys_read_card(card_path, &card));
    if (card.role != KEYS_BROKER)
        TRY(FAIL(ERR_BADARG, "broker_key: %s is the card of a %s, not of a broker", card_path,
                 keys_role_name(card.role)));
    TRY(bus_trust(bus, &keys, card.key));
out:
    explicit_bzero(&keys, sizeof(keys));
    return st;
}

/* --- the ring --- */

/* A ring being read. */
struct reading {
    struct keys_card *cards;
    size_t count, room;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct keys_card *)a)->name, ((const struct keys_card *)b)->name);
}

static status add_card(struct reading *r, const char *path)
{
    status st = OK;

    if (r->count == KEYS_CARDS_MAX)
        TRY(FAIL(ERR_FULL, "%s: more than %d cards", path, KEYS_CARDS_MAX));
    if (r->count == r->room) {
        size_t room = r->room ? 2 * r->room : 16;
        struct keys_card *cards = realloc(r->cards, room * sizeof(*cards));

        if (!cards)
            TRY(FAIL(ERR_NOMEM, "no memory for the cards of curve_allow"));
        r->cards = cards;
        r->room = room;
    }
    TRY(keys_read_card(path, &r->cards[r->count]));
    r->count++;
out:
    return st;
}

static status check_twice(const struct reading *r, const char *dir)
{
    for (size_t i = 0; i < r->count; i++) {
        for (size_t k = i + 1; k < r->count; k++) {
            if (strcmp(r->cards[i].name, r->cards[k].name) == 0 ||
                strcmp(r->cards[i].key, r->cards[k].key) == 0)
                return FAIL(ERR_CONFLICT, "%s: %s and %s have the same name or key; remove one",
                            dir, r->cards[i].name, r->cards[k].name);
        }
    }
    return OK;
}

static status read_folder(struct reading *r, const char *dir)
{
    DIR *folder = opendir(dir);
    const struct dirent *entry;
    char path[FILE_PATH_BYTES];
    status st = OK;

    if (!folder)
        return file_errno(errno, dir);
    while ((entry = readdir(folder))) {
        size_t len = strlen(entry->d_name);

        if (len < 5 || strcmp(entry->d_name + len - 4, ".pub") != 0)
            continue;
        TRY(file_join(path, sizeof(path), dir, entry->d_name));
        TRY(add_card(r, path));
    }
    if (r->count)
        qsort(r->cards, r->count, sizeof(*r->cards), compare_names);
    TRY(check_twice(r, dir));
out:
    closedir(folder);
    return st;
}

status keys_reload_ring(struct keys_ring *ring)
{
    struct reading r = { NULL, 0, 0 };
    struct keys_card *old;
    status st = read_folder(&r, ring->dir);

    if (st != OK) {
        free(r.cards);
        return st;
    }
    pthread_mutex_lock(&ring->lock);
    old = ring->cards;
    ring->cards = r.cards;
    ring->count = r.count;
    pthread_mutex_unlock(&ring->lock);
    free(old);
    return OK;
}

status keys_open_ring(struct keys_ring **ring, const char *dir)
{
    struct keys_ring *r = calloc(1, sizeof(*r));
    status st = OK;

    *ring = NULL;
    if (!r)
        return FAIL(ERR_NOMEM, "no memory for the cards of curve_allow");
    pthread_mutex_init(&r->lock, NULL);
    TRY(file_join(r->dir, sizeof(r->dir), "", dir));
    TRY(keys_reload_ring(r));
    *ring = r;
    return OK;
out:
    keys_close_ring(r);
    return st;
}

void keys_close_ring(struct keys_ring *ring)
{
    if (!ring)
        return;
    free(ring->cards);
    pthread_mutex_destroy(&ring->lock);
    free(ring);
}

bool keys_admit(void *self, const char key[BUS_KEY_ROOM], char name[BUS_NAME_ROOM])
{
    struct keys_ring *ring = self;
    bool is_welcome = false;

    pthread_mutex_lock(&ring->lock);
    for (size_t i = 0; i < ring->count && !is_welcome; i++) {
        is_welcome = strcmp(ring->cards[i].key, key) == 0;
        if (is_welcome)
            memcpy(name, ring->cards[i].name, BUS_NAME_ROOM);
    }
    pthread_mutex_unlock(&ring->lock);
    if (!is_welcome)
        atomic_fetch_add(&ring->refused, 1);
    return is_welcome;
}

enum keys_role keys_role_of(struct keys_ring *ring, const char *name, char tenant[SPEC_TENANT_MAX])
{
    struct keys_card wanted = { .role = KEYS_STRANGER };
    const struct keys_card *card = NULL;
    enum keys_role role;

    strncpy(wanted.name, name, sizeof(wanted.name) - 1);
    pthread_mutex_lock(&ring->lock);
    if (ring->count)
        card = bsearch(&wanted, ring->cards, ring->count, sizeof(wanted), compare_names);
    role = card ? card->role : KEYS_STRANGER;
    snprintf(tenant, SPEC_TENANT_MAX, "%s", card ? card->tenant : "");
    pthread_mutex_unlock(&ring->lock);
    return role;
}

long long keys_refused(const struct keys_ring *ring)
{
    return atomic_load(&ring->refused);
}
