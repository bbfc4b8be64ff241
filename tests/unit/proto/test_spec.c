/* The table of job parameters: text in, bounds, text out. */
#include <string.h>
#include <strings.h>

#include "proto/onestep.pb-c.h"
#include "proto/spec.h"
#include "tests/tool/test.h"

static struct job_spec with_image(void)
{
    struct job_spec s;

    spec_init(&s);
    strcpy(s.image, "file:///a.jpg");
    return s;
}

/* Set name to text in a good spec and check it. */
static status try_set(const char *name, const char *text)
{
    struct job_spec s = with_image();
    const struct spec_param *p = spec_find(name);
    status st;

    EXPECT(p != NULL);
    st = spec_set(&s, p, text);
    return st == OK ? spec_check(&s) : st;
}

TEST(defaults_pass_the_check)
{
    struct job_spec s = with_image();

    EXPECT_OK(spec_check(&s));
    EXPECT_INT(s.attempts, 3);
    EXPECT_INT(s.timeout_s, 3600);
    EXPECT_TEXT(s.model, "default");
}

TEST(an_image_must_be_given)
{
    struct job_spec s;

    spec_init(&s);
    EXPECT_STATUS(spec_check(&s), ERR_BADARG);
    EXPECT_MESSAGE("image: must be given");
}

TEST(names_are_found_with_dash_and_underscore)
{
    EXPECT(spec_find("motion_bucket") == spec_find("motion-bucket"));
    EXPECT(spec_find("motion_bucket") != NULL);
    EXPECT(spec_find("motion") == NULL);
    EXPECT(spec_find("motion_bucket_id") == NULL);
    EXPECT(spec_find("") == NULL);
}

TEST(bounds_hold_at_both_ends)
{
    EXPECT_OK(try_set("fps", "1"));
    EXPECT_OK(try_set("fps", "120"));
    EXPECT_STATUS(try_set("fps", "0"), ERR_BADARG);
    EXPECT_MESSAGE("fps");
    EXPECT_STATUS(try_set("fps", "121"), ERR_BADARG);
    EXPECT_STATUS(try_set("fps", "7x"), ERR_BADARG);
    EXPECT_STATUS(try_set("fps", ""), ERR_BADARG);
    EXPECT_STATUS(try_set("fps", "99999999999999999999"), ERR_BADARG);
    EXPECT_STATUS(try_set("noise_aug", "nan"), ERR_BADARG);
    EXPECT_STATUS(try_set("noise_aug", "-0.1"), ERR_BADARG);
    EXPECT_OK(try_set("seed", "18446744073709551615"));
    EXPECT_STATUS(try_set("seed", "18446744073709551616"), ERR_BADARG);
    EXPECT_STATUS(try_set("seed", "-1"), ERR_BADARG);
    EXPECT_STATUS(try_set("sampler", "ddim"), ERR_BADARG);
    EXPECT_MESSAGE("tts_literal");
}

TEST(texts_that_reach_keys_are_narrow)
{
    EXPECT_OK(try_set("output", "a/b-c/d_1/"));
    EXPECT_STATUS(try_set("output", "../a"), ERR_BADARG);
    EXPECT_STATUS(try_set("output", "/a"), ERR_BADARG);
    EXPECT_STATUS(try_set("output", "a//b"), ERR_BADARG);
    EXPECT_STATUS(try_set("output", "a/.hidden"), ERR_BADARG);
    EXPECT_STATUS(try_set("model", "a b"), ERR_BADARG);
    EXPECT_STATUS(try_set("model", ""), ERR_BADARG);
    EXPECT_OK(try_set("labels", "a=b,c=d e"));
    EXPECT_STATUS(try_set("labels", "a"), ERR_BADARG);
    EXPECT_STATUS(try_set("labels", "a=b,"), ERR_BADARG);
    EXPECT_STATUS(try_set("labels", "=b"), ERR_BADARG);
    EXPECT_STATUS(try_set("image", "a\nb"), ERR_BADARG);
    EXPECT_STATUS(try_set("labels", "a=\x95"), ERR_BADARG);
    EXPECT_MESSAGE("UTF-8");
}

TEST(rules_between_parameters)
{
    struct job_spec s = with_image();

    s.width_px = 64;
    EXPECT_STATUS(spec_check(&s), ERR_BADARG);
    EXPECT_MESSAGE("both or neither");
    s.height_px = 64;
    EXPECT_OK(spec_check(&s));
    s.guidance_min = 2;
    s.guidance_max = 1.5;
    EXPECT_STATUS(spec_check(&s), ERR_BADARG);
}

TEST(choose_is_resolved_by_sampler)
{
    struct job_spec s = with_image();

    spec_resolve(&s);
    EXPECT_INT(s.steps, 1);
    EXPECT_NEAR(s.guidance_max, 1, 0); /* exact: copied */
    s = with_image();
    s.sampler = SPEC_EULER;
    spec_resolve(&s);
    EXPECT_INT(s.steps, 25);
    EXPECT_NEAR(s.guidance_max, 3, 0); /* exact: copied */
}

TEST(numbers_read_back_to_the_same_value)
{
    struct job_spec s = with_image(), back = with_image();
    const struct spec_param *p = spec_find("noise_aug");
    char text[64];

    for (int i = 0; i < 1000; i++) {
        s.noise_aug = test_uniform();
        EXPECT_OK(spec_set(&back, p, spec_get(&s, p, text, sizeof(text))));
        EXPECT(s.noise_aug == back.noise_aug);
    }
    s.noise_aug = 0.02;
    EXPECT_TEXT(spec_get(&s, p, text, sizeof(text)), "0.02");
}

/* A parameter's choices are the values of the enum on the wire, in the same order. */
static void expect_same_choices(const struct spec_param *p, const ProtobufCFieldDescriptor *f)
{
    const ProtobufCEnumDescriptor *values = f->descriptor;

    EXPECT_INT(f->type, PROTOBUF_C_TYPE_ENUM);
    for (unsigned i = 0; i < values->n_values; i++) {
        EXPECT(p->choices[i] != NULL);
        EXPECT_INT(values->values[i].value, i);
        EXPECT(strcasecmp(values->values[i].name, p->choices[i]) == 0);
    }
    EXPECT(p->choices[values->n_values] == NULL);
}

TEST(the_wire_has_a_field_for_every_parameter_and_no_other)
{
    EXPECT_INT(onestep__job_spec__descriptor.n_fields, spec_param_count);
    for (size_t i = 0; i < spec_param_count; i++) {
        const struct spec_param *p = &spec_params[i];
        const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(
            &onestep__job_spec__descriptor, p->name);

        EXPECT(f != NULL);
        if (p->type == SPEC_CHOICE)
            expect_same_choices(p, f);
        else if (p->type == SPEC_TEXT)
            EXPECT_INT(f->type, PROTOBUF_C_TYPE_BYTES);
        else if (p->type == SPEC_DOUBLE)
            EXPECT_INT(f->type, PROTOBUF_C_TYPE_DOUBLE);
        else if (p->type == SPEC_SEED)
            EXPECT_INT(f->type, PROTOBUF_C_TYPE_FIXED64);
        else
            EXPECT(f->type == PROTOBUF_C_TYPE_INT64 || f->type == PROTOBUF_C_TYPE_SINT64);
    }
}
