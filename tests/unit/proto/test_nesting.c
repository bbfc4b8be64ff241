/* No message of ours contains itself: protobuf-c decodes by recursion without a limit, so a type
 * that did would let 60 KB from outside overflow the stack. */
#include "proto/onestep.pb-c.h"
#include "tests/tool/test.h"

#define DEPTH_MAX 4

static int depth_of(const ProtobufCMessageDescriptor *d, int above)
{
    int deepest = above + 1;

    if (above >= DEPTH_MAX)
        test_fail(__FILE__, __LINE__, "%s lies more than %d messages deep", d->name, DEPTH_MAX);
    for (unsigned i = 0; i < d->n_fields; i++) {
        int depth = 0;

        if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
            depth = depth_of(d->fields[i].descriptor, above + 1);
        if (depth > deepest)
            deepest = depth;
    }
    return deepest;
}

TEST(nesting_of_every_message_is_bounded)
{
    static const ProtobufCMessageDescriptor *const bodies[] = {
        &onestep__submit__descriptor,        &onestep__job_verdicts__descriptor,
        &onestep__ids__descriptor,           &onestep__list__descriptor,
        &onestep__statuses__descriptor,      &onestep__pong__descriptor,
        &onestep__error__descriptor,         &onestep__hello__descriptor,
        &onestep__welcome__descriptor,       &onestep__credit__descriptor,
        &onestep__job__descriptor,           &onestep__heartbeat__descriptor,
        &onestep__heartbeat_ack__descriptor, &onestep__done__descriptor,
        &onestep__fail__descriptor,          &onestep__release__descriptor,
        &onestep__lease_verdict__descriptor, &onestep__empty__descriptor,
        &onestep__ask__descriptor,           &onestep__rule__descriptor,
        &onestep__rows__descriptor,
    };

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        EXPECT(depth_of(bodies[i], 0) <= DEPTH_MAX);
    EXPECT_INT(depth_of(&onestep__submit__descriptor, 0), 3); /* Submit, SubmitItem, JobSpec */
}
