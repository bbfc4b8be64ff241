#include "kernels/op/op.h"

status dev_open(struct dev *dev, const char *name, const struct kern_config *config,
                size_t act_bytes)
{
    status st = OK;
    void *base = NULL;

    *dev = (struct dev){ 0 };
    dev->kern = kern_find(name);
    if (!dev->kern)
        TRY(FAIL(ERR_BADARG, "no compute device is called \"%s\"; use cpu, cuda or ref", name));
    TRY(dev->kern->open(&dev->ctx, config));
    if (dev->kern->memory) {
        TRY(dev->kern->memory(dev->ctx, &act_bytes, &base));
        arena_open_at(&dev->act, "activation memory", base, act_bytes);
    } else {
        TRY(arena_open(&dev->act, "activation memory", act_bytes));
    }
    return OK;
out:
    dev_close(dev);
    return st;
}

void dev_close(struct dev *dev)
{
    arena_close(&dev->act);
    if (dev->kern)
        dev->kern->close(dev->ctx);
    *dev = (struct dev){ 0 };
}
