/* Weights that were kept are those that were loaded; a snapshot of anything else is refused. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/tool/test.h"
#include "tests/unit/model/fixture.h"
#include "worker/model/checkpoint.h"
#include "worker/model/snapshot.h"

#define UNET "unet/diffusion_pytorch_model.safetensors"

static const char *shelf(void)
{
    static char path[512];

    EXPECT_OK(file_join(path, sizeof(path), test_tmpdir(), "a/shelf"));
    return path;
}

/* The only snapshot there is; "" when there is none. */
static const char *only_one(void)
{
    static char path[1024];
    struct dirent *entry;
    DIR *dir = opendir(shelf());

    path[0] = '\0';
    EXPECT(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        EXPECT(path[0] == '\0');
        EXPECT(strstr(entry->d_name, ".weights") && !strstr(entry->d_name, ".tmp"));
        EXPECT_OK(file_join(path, sizeof(path), shelf(), entry->d_name));
    }
    closedir(dir);
    return path;
}

static void open_kept(struct checkpoint *c, bool is_mapped)
{
    EXPECT_OK(checkpoint_open_cached(c, fixture_path(""), shelf()));
    EXPECT_INT(c->snapshot.data != NULL, is_mapped);
}

enum { FRAMES = 2, SIDE = 4, FLOATS_MAX = 4096 };

/* What the UNet makes of some input. */
static void probe(const struct checkpoint *c, float out[FLOATS_MAX])
{
    const struct kern_config config = { .threads = 1 };
    static float in[FLOATS_MAX];
    struct dev dev;

    for (int i = 0; i < FLOATS_MAX; i++)
        in[i] = (float)(i % 13) / 7 - 1;
    memset(out, 0, FLOATS_MAX * sizeof(float));
    EXPECT_OK(dev_open(&dev, "cpu", &config, (size_t)64 << 20));
    EXPECT_OK(unet_forward(&dev, &c->unet,
                           &(struct unet_input){ .latents = in,
                                                 .image_latent = in + 1,
                                                 .embedding = in + 2,
                                                 .frames = FRAMES,
                                                 .h = SIDE,
                                                 .w = SIDE,
                                                 .timestep = 1 },
                           out));
    dev_close(&dev);
}

/* c is what the files say, whichever way it came. */
static void expect_right(const struct checkpoint *c)
{
    static float a[FLOATS_MAX], b[FLOATS_MAX];
    const size_t header = SNAPSHOT_HEADER_BYTES;
    struct checkpoint plain;

    EXPECT_OK(checkpoint_open(&plain, fixture_path("")));
    EXPECT_TEXT(c->hash, plain.hash);
    EXPECT_TEXT(c->name, plain.name);
    EXPECT_INT(c->values.used_bytes, plain.values.used_bytes);
    for (size_t i = header; i < plain.values.used_bytes; i += ARENA_ALIGN)
        EXPECT(memcmp(plain.values.base + i, c->values.base + i, sizeof(float)) == 0);
    probe(&plain, a);
    probe(c, b);
    EXPECT(memcmp(a, b, sizeof(a)) == 0);
    checkpoint_close(&plain);
}

static void keep_and_check(bool is_mapped)
{
    struct checkpoint c;

    open_kept(&c, is_mapped);
    expect_right(&c);
    checkpoint_close(&c);
}

TEST(kept_weights_are_the_loaded_ones)
{
    fixture_copy("tiny-a");
    keep_and_check(false);
    keep_and_check(true);
    EXPECT(only_one()[0] != '\0');
    fixture_copy("tiny-b");
    keep_and_check(false);
    keep_and_check(true);
}

/* One bit of any part: of the header, of the first value, of the last byte. */
TEST(a_damaged_snapshot_is_made_anew)
{
    static const long at[] = { 0, 24, 60, (long)SNAPSHOT_HEADER_BYTES, -1 };

    fixture_copy("tiny-b");
    keep_and_check(false);
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        FILE *f = fopen(only_one(), "r+b");
        int byte;

        EXPECT(f && fseek(f, at[i], at[i] < 0 ? SEEK_END : SEEK_SET) == 0);
        byte = fgetc(f);
        EXPECT(fseek(f, -1, SEEK_CUR) == 0 && fputc(byte ^ 4, f) != EOF && fclose(f) == 0);
        keep_and_check(false);
        keep_and_check(true);
    }
}

TEST(a_cut_snapshot_is_made_anew)
{
    static const long less[] = { 1, 5000 };
    struct stat info;

    fixture_copy("tiny-b");
    keep_and_check(false);
    for (size_t i = 0; i < sizeof(less) / sizeof(less[0]); i++) {
        EXPECT(stat(only_one(), &info) == 0);
        EXPECT(truncate(only_one(), info.st_size - less[i]) == 0);
        keep_and_check(false);
        keep_and_check(true);
    }
    EXPECT(truncate(only_one(), 200) == 0); /* less than the header's room */
    keep_and_check(false);
    EXPECT(truncate(only_one(), 0) == 0);
    keep_and_check(false);
}

/* Other weights, and a value that lies in a config. The old snapshot goes. */
TEST(a_changed_file_is_another_snapshot)
{
    struct buf b;
    char before[1024];

    fixture_copy("tiny-b");
    keep_and_check(false);
    snprintf(before, sizeof(before), "%s", only_one());
    b = fixture_read(UNET);
    b.data[b.len - 1] ^= 1;
    fixture_write(UNET, b.data, b.len);
    buf_free(&b);
    keep_and_check(false);
    EXPECT(strcmp(before, only_one()) != 0);
    keep_and_check(true);
    fixture_edit("vae/config.json", "\"scaling_factor\": 0.35", "\"scaling_factor\": 0.36");
    keep_and_check(false);
    EXPECT(only_one()[0] != '\0');
}

TEST(a_folder_that_takes_nothing_costs_time_only)
{
    struct checkpoint c;
    char file[1024];

    fixture_copy("tiny-b");
    snprintf(file, sizeof(file), "%s", fixture_path("model_index.json"));
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(checkpoint_open_cached(&c, fixture_path(""), file));
        EXPECT(!c.snapshot.data);
        expect_right(&c);
        checkpoint_close(&c);
    }
}

TEST(a_wrong_model_is_refused_with_a_snapshot_too)
{
    struct checkpoint c;

    fixture_copy("tiny-b");
    keep_and_check(false);
    EXPECT_OK(file_remove(fixture_path(UNET)));
    EXPECT_STATUS(checkpoint_open_cached(&c, fixture_path(""), shelf()), ERR_NOTFOUND);
    EXPECT_MESSAGE("no diffusion_pytorch_model.safetensors");
    EXPECT(!c.values.base && !c.snapshot.data);
}
