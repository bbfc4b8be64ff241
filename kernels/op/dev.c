#include "kernels/op/op.h"

status dev_open(struct dev *dev, const char *name, const struct kern_config *config,
                size_t act_bytes)
{
    status st = OK;

    *dev = (struct dev){ 0 };
    dev->kern = kern_find(name);
    if (!dev->kern)
        TRY(FAIL(ERR_BADARG, "no compute device is called \"%s\"; use cpu or ref", name));
    TRY(dev->kern->open(&dev->ctx, config));
    TRY(arena_open(&dev->act, "activation memory", act_bytes));
    return OK;
out:
    dev_close(dev);
    return st;
}

void dev_close(struct dev *dev)
{
    if (dev->kern)
        dev->kern->close(dev->ctx);
    arena_close(&dev->act);
    *dev = (struct dev){ 0 };
}
