#include "worker/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"

status plan_parse(struct job_spec *spec, const char *text)
{
    static const char *const names[] = { "frames", "width", "height" };
    char number[3][24];
    char rest;
    status st = OK;

    if (sscanf(text, "%23[0-9]x%23[0-9]x%23[0-9]%c", number[0], number[1], number[2], &rest) != 3)
        TRY(FAIL(ERR_BADARG, "plan: \"%.40s\" is not FRAMESxWIDTHxHEIGHT, such as 14x1024x576",
                 text));
    for (int i = 0; i < 3; i++) {
        if (strtoull(number[i], NULL, 10) == 0)
            TRY(FAIL(ERR_BADARG, "plan: %s is 0", names[i]));
        TRY(spec_set(spec, spec_find(names[i]), number[i]));
    }
out:
    return st;
}

/* The lines of a plan: what people read, and the key in JSON. */
struct line {
    const char *label;
    const char *key;
    size_t bytes;
};

static status write_json(struct buf *out, const struct job_spec *spec, const struct line *lines,
                         size_t count, bool fits)
{
    struct json_writer w = { .out = out };

    json_write_object(&w);
    json_write_key(&w, "frames");
    json_write_int(&w, spec->frames);
    json_write_key(&w, "width");
    json_write_int(&w, spec->width_px);
    json_write_key(&w, "height");
    json_write_int(&w, spec->height_px);
    for (size_t i = 0; i < count; i++) {
        json_write_key(&w, lines[i].key);
        json_write_int(&w, (int64_t)lines[i].bytes);
    }
    json_write_key(&w, "fits");
    json_write_bool(&w, fits);
    json_write_end(&w);
    return json_write_finish(&w);
}

static status write_text(struct buf *out, const struct job_spec *spec, const struct line *lines,
                         size_t count, bool fits)
{
    status st = OK;

    TRY(buf_printf(out, "memory for %lld frames of %lldx%lld, MiB\n", (long long)spec->frames,
                   (long long)spec->width_px, (long long)spec->height_px));
    for (size_t i = 0; i < count; i++)
        TRY(buf_printf(out, "  %-42s %10.1f\n", lines[i].label,
                       (double)lines[i].bytes / (1 << 20)));
    TRY(buf_append_text(out, fits ? "it fits\n" : "it does not fit\n"));
out:
    return st;
}

status plan_write(struct buf *out, const struct pipeline *p, const char *text, bool as_json,
                  bool *fits)
{
    status st = OK;
    struct job_spec spec;
    struct pipeline_need need;

    spec_init(&spec);
    TRY(plan_parse(&spec, text));
    TRY(pipeline_resolve(p, &spec, spec.width_px, spec.height_px));
    TRY(pipeline_plan(p, &spec, spec.width_px, spec.height_px, &need));
    *fits = need.total_bytes <= need.limit_bytes;
    {
        const struct line lines[] = {
            { "weights", "weight_bytes", need.model.weight_bytes },
            { "activations, the largest of", "activation_bytes", need.model.act_bytes },
            { "  CLIP", "clip_bytes", need.model.clip_bytes },
            { "  VAE encoder", "vae_encode_bytes", need.model.encode_bytes },
            { "  UNet", "unet_bytes", need.model.unet_bytes },
            { "  VAE decoder", "vae_decode_bytes", need.model.decode_bytes },
            { "photograph, noise, latents", "host_bytes", need.host_bytes },
            { "finished frames, of this clip and the last", "frame_bytes", need.frame_bytes },
            { "total", "total_bytes", need.total_bytes },
            { "limit (memory_max_bytes)", "limit_bytes", need.limit_bytes },
        };
        const size_t count = sizeof(lines) / sizeof(lines[0]);

        if (as_json)
            TRY(write_json(out, &spec, lines, count, *fits));
        else
            TRY(write_text(out, &spec, lines, count, *fits));
    }
out:
    return st;
}
