/* What `onestep verify` says about results that are whole, changed, moved or gone. */
#include <stdio.h>
#include <string.h>

#include "client/cmd.h"
#include "common/base/file.h"
#include "common/digest.h"
#include "tests/tool/test.h"

static char dir[400];

static const char *in_dir(const char *name)
{
    static char path[4][512];
    static int next;

    next = (next + 1) % 4;
    snprintf(path[next], sizeof(path[next]), "%s/%s", dir, name);
    return path[next];
}

static void put(const char *name, const char *text)
{
    EXPECT_OK(file_write_atomic(in_dir(name), text, strlen(text)));
}

static const char *sha256_of(const char *text, char hex[DIGEST_HEX_ROOM])
{
    uint8_t sha256[DIGEST_BYTES];

    EXPECT_OK(digest_sha256(text, strlen(text), sha256));
    return digest_hex(sha256, hex);
}

/* A manifest of "video", "poster" and "photo". */
static void put_manifest(const char *name)
{
    char text[2000], v[DIGEST_HEX_ROOM], p[DIGEST_HEX_ROOM], i[DIGEST_HEX_ROOM];

    snprintf(
        text, sizeof(text),
        "{\"onestep_manifest\":1,\"input\":{\"url\":\"file://%s\",\"sha256\":\"%s\","
        "\"bytes\":5},\"outputs\":{\"video\":{\"key\":\"x/J/a1-0f/video.mp4\",\"url\":\"s3://b/k\","
        "\"bytes\":5,\"sha256\":\"%s\"},\"poster\":{\"key\":\"x/J/a1-0f/poster.png\","
        "\"url\":\"s3://b/p\",\"bytes\":6,\"sha256\":\"%s\"}}}",
        in_dir("photo.jpg"), sha256_of("photo", i), sha256_of("video", v), sha256_of("poster", p));
    put(name, text);
}

static status verify(const char *name)
{
    const char *path = in_dir(name);
    char *words[] = { (char *)(uintptr_t)path };
    struct command_line line = { .words = words, .word_count = 1 };

    return cmd_verify(&line);
}

static void set_up(void)
{
    snprintf(dir, sizeof(dir), "%s", test_tmpdir());
    put("photo.jpg", "photo");
}

TEST(storage_verify_finds_fetched_files)
{
    set_up();
    put_manifest("job.json");
    put("job.mp4", "video");
    put("job.png", "poster");
    EXPECT_OK(verify("job.json"));
    EXPECT_OK(verify("job.mp4"));
    EXPECT_OK(verify("job.png"));
    put("job.mp4", "vide0");
    EXPECT_STATUS(verify("job.json"), ERR_CORRUPT);
    put("job.mp4", "video");
    put("photo.jpg", "other");
    EXPECT_STATUS(verify("job.json"), ERR_CORRUPT);
    EXPECT_OK(file_remove(in_dir("photo.jpg"))); /* its owner may have moved it */
    EXPECT_OK(verify("job.json"));
    EXPECT_OK(file_remove(in_dir("job.png")));
    EXPECT_STATUS(verify("job.json"), ERR_NOTFOUND);
}

TEST(storage_verify_finds_stored_files)
{
    set_up();
    put_manifest("manifest.json");
    EXPECT_OK(file_make_dirs(in_dir("a1-0f")));
    put("a1-0f/video.mp4", "video");
    put("a1-0f/poster.png", "poster");
    EXPECT_OK(verify("manifest.json"));
    EXPECT_OK(verify("a1-0f/video.mp4"));
    EXPECT_STATUS(verify("nothing.mp4"), ERR_NOTFOUND);
    put("odd.json",
        "{\"onestep_manifest\":1,\"outputs\":{\"video\":{\"key\":\"../../etc/passwd\"}}}");
    EXPECT_STATUS(verify("odd.json"), ERR_BADARG);
    put("odd.json", "{\"onestep_manifest\":2}");
    EXPECT_STATUS(verify("odd.json"), ERR_CORRUPT);
    put("odd.json", "no");
    EXPECT_STATUS(verify("odd.json"), ERR_CORRUPT);
}
