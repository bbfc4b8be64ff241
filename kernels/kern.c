#include "kernels/kern.h"

#include <string.h>

#include "kernels/kern_ctx.h"

static const struct kern_table *const tables[] = { &kern_ref, &kern_cpu, &kern_plan };

const struct kern_table *kern_find(const char *name)
{
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (strcmp(name, tables[i]->name) == 0)
            return tables[i];
    }
    return NULL;
}

void kern_exact(struct kern_ctx *ctx, bool is_exact)
{
    ctx->is_exact = is_exact;
}

const char *kern_describe(const struct kern_ctx *ctx)
{
    return ctx->description;
}
