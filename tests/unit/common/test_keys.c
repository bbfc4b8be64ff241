/* Key files and the list of those who may come in. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/keys.h"
#include "tests/tool/test.h"

static const char *path_of(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];

    EXPECT_OK(file_join(path, FILE_PATH_BYTES, test_tmpdir(), name));
    return path;
}

static void make(const char *name, enum keys_role role)
{
    char secret[FILE_PATH_BYTES], card[FILE_PATH_BYTES];

    EXPECT_OK(keys_make(test_tmpdir(), name, role, "", secret, card));
    EXPECT_TEXT(secret, path_of(strcat(strcpy((char[80]){ 0 }, name), ".key")));
}

static void write_text(const char *name, const char *text)
{
    EXPECT_OK(file_write_atomic(path_of(name), text, strlen(text)));
}

TEST(a_pair_is_made_once_and_read_back)
{
    char secret[FILE_PATH_BYTES], card_path[FILE_PATH_BYTES];
    struct keys_card card;
    struct bus_keys keys;
    struct stat info;

    make("gpu-7", KEYS_WORKER);
    EXPECT(stat(path_of("gpu-7.key"), &info) == 0 && (info.st_mode & 0777) == 0600);
    EXPECT_OK(keys_read_secret(path_of("gpu-7.key"), &keys));
    EXPECT_OK(keys_read_card(path_of("gpu-7.pub"), &card));
    EXPECT_TEXT(card.name, "gpu-7");
    EXPECT_INT(card.role, KEYS_WORKER);
    EXPECT_TEXT(card.key, keys.public);
    EXPECT_STATUS(keys_make(test_tmpdir(), "gpu-7", KEYS_ADMIN, "", secret, card_path),
                  ERR_CONFLICT);
    EXPECT_STATUS(keys_make(test_tmpdir(), "../x", KEYS_ADMIN, "", secret, card_path), ERR_BADARG);
    EXPECT_STATUS(keys_make(test_tmpdir(), "", KEYS_ADMIN, "", secret, card_path), ERR_BADARG);
}

TEST(a_secret_that_others_may_read_is_refused)
{
    struct bus_keys keys;

    make("a", KEYS_CLIENT);
    EXPECT(chmod(path_of("a.key"), 0644) == 0);
    EXPECT_STATUS(keys_read_secret(path_of("a.key"), &keys), ERR_CONFLICT);
    EXPECT_MESSAGE("chmod 600");
    EXPECT(chmod(path_of("a.key"), 0440) == 0); /* as a cluster mounts it */
    EXPECT_OK(keys_read_secret(path_of("a.key"), &keys));
    write_text("b.key", "my password is 12345\n");
    EXPECT(chmod(path_of("b.key"), 0600) == 0);
    EXPECT_STATUS(keys_read_secret(path_of("b.key"), &keys), ERR_CORRUPT);
    EXPECT(strstr(status_message(), "12345") == NULL);
    EXPECT_STATUS(keys_read_secret(path_of("none.key"), &keys), ERR_NOTFOUND);
    EXPECT_STATUS(keys_read_secret(test_tmpdir(), &keys), ERR_IO);
}

TEST(a_damaged_card_is_refused)
{
    static const char *const texts[] = {
        "",
        "name: a\n",
        "name: a\nkey: short\n",
        "name: ../a\nkey: 'Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID'\n",
        "name: a\nrole: king\nkey: 'Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID'\n",
    };
    struct keys_card card;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_text("a.pub", texts[i]);
        EXPECT(keys_read_card(path_of("a.pub"), &card) != OK);
        EXPECT_MESSAGE("a.pub");
    }
    write_text("a.pub", "name: a\nkey: 'Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID'\n");
    EXPECT_OK(keys_read_card(path_of("a.pub"), &card));
    EXPECT_INT(card.role, KEYS_CLIENT); /* the least */
}

TEST(a_ring_knows_its_cards_until_they_are_taken_out)
{
    struct keys_ring *ring;
    struct keys_card anna, gpu;
    char tenant[SPEC_TENANT_MAX];
    char name[BUS_NAME_ROOM];

    make("anna", KEYS_ADMIN);
    make("gpu-7", KEYS_WORKER);
    EXPECT_OK(keys_read_card(path_of("anna.pub"), &anna));
    EXPECT_OK(keys_read_card(path_of("gpu-7.pub"), &gpu));
    EXPECT_OK(keys_open_ring(&ring, test_tmpdir()));
    EXPECT(keys_admit(ring, anna.key, name));
    EXPECT_TEXT(name, "anna");
    EXPECT_INT(keys_role_of(ring, "anna", tenant), KEYS_ADMIN);
    EXPECT_INT(keys_role_of(ring, "gpu-7", tenant), KEYS_WORKER);
    EXPECT_INT(keys_role_of(ring, "gpu-8", tenant), KEYS_STRANGER);
    EXPECT_INT(keys_role_of(ring, "", tenant), KEYS_STRANGER);
    EXPECT_INT(keys_refused(ring), 0);
    EXPECT(unlink(path_of("gpu-7.pub")) == 0);
    EXPECT_OK(keys_reload_ring(ring));
    EXPECT(!keys_admit(ring, gpu.key, name));
    EXPECT_INT(keys_refused(ring), 1);
    EXPECT_INT(keys_role_of(ring, "gpu-7", tenant), KEYS_STRANGER);
    write_text("bad.pub", "name: x\n"); /* then everything stays as it is */
    EXPECT_STATUS(keys_reload_ring(ring), ERR_CORRUPT);
    EXPECT(keys_admit(ring, anna.key, name));
    keys_close_ring(ring);
    EXPECT_STATUS(keys_open_ring(&ring, path_of("nowhere")), ERR_NOTFOUND);
}

/* A client's card may name its tenant; nobody else's can. */
TEST(a_card_has_the_tenant_of_its_owner)
{
    char secret[FILE_PATH_BYTES], path[FILE_PATH_BYTES], tenant[SPEC_TENANT_MAX];
    struct keys_ring *ring;
    struct keys_card card;
    struct bus_keys keys;
    struct buf text = { 0 };

    EXPECT_OK(keys_make(test_tmpdir(), "anna", KEYS_CLIENT, "birds", secret, path));
    EXPECT_OK(keys_read_card(path, &card));
    EXPECT_TEXT(card.tenant, "birds");
    EXPECT_STATUS(keys_make(test_tmpdir(), "x", KEYS_WORKER, "birds", secret, path), ERR_BADARG);
    EXPECT_MESSAGE("a worker has none");
    EXPECT_STATUS(keys_make(test_tmpdir(), "x", KEYS_CLIENT, "Birds", secret, path), ERR_BADARG);
    EXPECT_OK(keys_open_ring(&ring, test_tmpdir()));
    EXPECT_INT(keys_role_of(ring, "anna", tenant), KEYS_CLIENT);
    EXPECT_TEXT(tenant, "birds");
    EXPECT_INT(keys_role_of(ring, "eve", tenant), KEYS_STRANGER);
    EXPECT_TEXT(tenant, "");
    keys_close_ring(ring);
    EXPECT_OK(bus_new_keys(&keys));
    EXPECT_OK(buf_printf(&text, "name: b\nrole: admin\ntenant: birds\nkey: \"%s\"\n", keys.public));
    EXPECT_OK(file_write_new(path_of("b.pub"), text.data, text.len));
    EXPECT_STATUS(keys_read_card(path_of("b.pub"), &card), ERR_CORRUPT);
    EXPECT_MESSAGE("is not one that a admin can have");
    buf_free(&text);
}

TEST(one_key_has_one_card)
{
    struct keys_ring *ring;
    struct buf text = { 0 };

    make("anna", KEYS_ADMIN);
    EXPECT_OK(file_read(path_of("anna.pub"), 4096, &text));
    EXPECT_OK(file_write_atomic(path_of("copy.pub"), text.data, text.len));
    EXPECT_STATUS(keys_open_ring(&ring, test_tmpdir()), ERR_CONFLICT);
    buf_free(&text);
}
