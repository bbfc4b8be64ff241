#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "tests/tool/test.h"
#include "worker/manifest.h"

static const struct manifest_maker maker = {
    .checkpoint = "tiny-a", .hash = "0123abcd", .device = "ref: plain", .build = "0.1.0-4-gabc"
};

/* An attempt as it looks when its clip is finished. */
static struct attempt *finished(void)
{
    struct attempt *a;
    struct job_spec spec;
    const struct lease lease = { .job = "00abcdefghjkmnpqrstvwxyz12",
                                 .attempt = 2,
                                 .nonce = 0x00ff00ff12345678 };

    spec_init(&spec);
    snprintf(spec.image, sizeof(spec.image), "https://h.example/a%%20b.jpg?X-Amz-Signature=secret");
    snprintf(spec.labels, sizeof(spec.labels), "who=me,take=1,take=2,empty=");
    snprintf(spec.output, sizeof(spec.output), "renders/today/");
    spec.seed = UINT64_MAX;
    spec.noise_aug = 0.1;
    EXPECT_OK(attempt_new(&a, &lease, &spec));
    a->spec = spec;
    a->spec.frames = 14;
    a->spec.width_px = 1024;
    a->spec.height_px = 576;
    spec_resolve(&a->spec);
    a->input.bytes = 1234;
    snprintf(a->input.sha256_hex, sizeof(a->input.sha256_hex), "%064d", 7);
    snprintf(a->image.format, sizeof(a->image.format), "jpeg");
    a->image.width_px = 640;
    a->image.height_px = 480;
    a->stages.seconds[STAGE_UNET] = 1.5;
    return a;
}

static struct manifest manifest_of(const struct attempt *a)
{
    struct manifest m = { .maker = &maker, .attempt = a, .encoder = "libx264" };

    snprintf(m.video.key, sizeof(m.video.key), "renders/today/j/a2-n/video.mp4");
    snprintf(m.video.url, sizeof(m.video.url), "file:///out/video.mp4");
    snprintf(m.video.sha256_hex, sizeof(m.video.sha256_hex), "%064d", 1);
    m.video.bytes = 99;
    snprintf(m.poster.key, sizeof(m.poster.key), "renders/today/j/a2-n/poster.png");
    snprintf(m.poster.url, sizeof(m.poster.url), "file:///out/poster.png");
    m.poster.bytes = 11;
    return m;
}

static void expect_text_at(const struct json_value *v, const char *key, const char *want)
{
    const char *got = NULL;

    EXPECT_OK(json_get_text(v, key, &got));
    EXPECT_TEXT(got, want);
}

static void expect_int_at(const struct json_value *v, const char *key, int64_t want)
{
    int64_t got = -1;

    EXPECT_OK(json_get_int(v, key, INT64_MIN, INT64_MAX, &got));
    EXPECT_INT(got, want);
}

static void expect_parameters(const struct json_value *root)
{
    struct json_value parameters = json_find(root, "parameters");
    double noise_aug = 0;

    EXPECT_INT(json_count(&parameters), spec_param_count);
    expect_text_at(&parameters, "image", "https://h.example/a%20b.jpg");
    expect_text_at(&parameters, "sampler", "consistency");
    expect_text_at(&parameters, "seed", "18446744073709551615");
    expect_int_at(&parameters, "steps", 1);
    expect_int_at(&parameters, "frames", 14);
    expect_int_at(&parameters, "width", 1024);
    EXPECT_OK(json_get_double(&parameters, "noise_aug", 0, 1, &noise_aug));
    EXPECT(noise_aug == 0.1);
}

TEST(storage_manifest_holds_what_it_promises)
{
    struct attempt *a = finished();
    struct manifest m = manifest_of(a);
    struct buf text = { 0 };
    struct json j = { 0 };
    struct json_value root, part;
    double seconds = 0;

    EXPECT_OK(manifest_write(&text, &m));
    EXPECT(strstr(text.data, "secret") == NULL);
    EXPECT_OK(json_parse(&j, "manifest", text.data, text.len));
    root = json_root(&j);
    expect_int_at(&root, "onestep_manifest", 1);
    expect_text_at(&root, "job", "00abcdefghjkmnpqrstvwxyz12");
    expect_int_at(&root, "attempt", 2);
    expect_text_at(&root, "lease", "00ff00ff12345678");
    expect_int_at(&root, "frames", 14);
    expect_int_at(&root, "height", 576);
    expect_text_at(&root, "device", maker.device);
    expect_text_at(&root, "build", maker.build);
    expect_text_at(&root, "encoder", "libx264");
    expect_parameters(&root);
    part = json_find(&root, "model");
    expect_text_at(&part, "name", "default");
    expect_text_at(&part, "hash", maker.hash);
    part = json_find(&root, "labels");
    EXPECT_INT(json_count(&part), 3);
    expect_text_at(&part, "take", "2");
    expect_text_at(&part, "empty", "");
    part = json_find(&root, "input");
    expect_int_at(&part, "bytes", 1234);
    expect_text_at(&part, "format", "jpeg");
    expect_int_at(&part, "width", 640);
    part = json_find(&root, "stage_seconds");
    EXPECT_INT(json_count(&part), STAGE_UPLOAD - 1);
    EXPECT_OK(json_get_double(&part, "unet", 0, 10, &seconds));
    EXPECT(seconds == 1.5);
    part = json_find(&root, "outputs");
    part = json_find(&part, "video");
    expect_text_at(&part, "key", m.video.key);
    expect_text_at(&part, "sha256", m.video.sha256_hex);
    expect_int_at(&part, "bytes", 99);
    json_free(&j);
    buf_free(&text);
    attempt_free(a);
}

TEST(storage_manifest_reads_back)
{
    struct attempt *a = finished();
    struct manifest m = manifest_of(a);
    struct buf text = { 0 };
    struct manifest_found found;
    char spec_hash[DIGEST_HEX_ROOM];

    EXPECT_OK(manifest_write(&text, &m));
    EXPECT_OK(manifest_read(&found, "manifest", &text));
    EXPECT_OK(attempt_spec_hash(a, spec_hash));
    EXPECT_TEXT(found.spec_hash, spec_hash);
    EXPECT_TEXT(found.video.url, m.video.url);
    EXPECT_TEXT(found.poster.url, m.poster.url);
    EXPECT_INT(found.attempt, 2);
    buf_free(&text);
    attempt_free(a);
}

TEST(storage_manifest_that_is_none_is_refused)
{
    static const char *const texts[] = { "", "{}", "[]", "{\"onestep_manifest\": 2}",
                                         "{\"onestep_manifest\": 1, \"attempt\": 1, "
                                         "\"spec_hash\": 5}" };
    struct manifest_found found;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct buf text = { 0 };

        EXPECT_OK(buf_append_text(&text, texts[i]));
        EXPECT_STATUS(manifest_read(&found, "x/manifest.json", &text), ERR_CORRUPT);
        EXPECT_MESSAGE("x/manifest.json");
        buf_free(&text);
    }
}

TEST(storage_spec_hash_is_about_the_result_only)
{
    struct attempt *a = finished();
    char one[DIGEST_HEX_ROOM], other[DIGEST_HEX_ROOM];

    EXPECT_OK(attempt_spec_hash(a, one));
    a->asked.priority = 7;
    a->asked.labels[0] = '\0';
    EXPECT_OK(attempt_spec_hash(a, other));
    EXPECT_TEXT(other, one);
    a->asked.seed = 5;
    EXPECT_OK(attempt_spec_hash(a, other));
    EXPECT(strcmp(other, one) != 0);
    attempt_free(a);
}
