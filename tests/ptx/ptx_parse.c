/* DESIGN: one pass over the text. What can be wrong in it is wrong with nvcc or with us, so that
 * every surprise is an error with its line. Labels are looked up when a body has ended. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/ptx_priv.h"

#define NAME_BYTES 160
#define OPERANDS_MAX 160
#define KERNELS_MAX 128
#define SYMBOLS_MAX 64
#define REGISTERS_MAX 64
#define DEPTH_MAX 8

/* Registers that one declaration made. */
struct registers {
    char prefix[32]; /* name, or what stands before the number */
    bool is_range;   /* prefix<count> */
    char kind;       /* 'w', 'd' or 'p' */
    uint32_t first, count;
    int depth; /* of the braces it is known in */
};

/* An address that has a name. */
struct symbol {
    char name[NAME_BYTES];
    uint32_t value;
};

struct label {
    const char *name;
    size_t bytes;
    uint32_t pc;
};

struct ptx_module {
    const char *name; /* for errors */
    struct ptx_kernel *kernels[KERNELS_MAX];
    int kernel_count;
};

/* Where the parser is, and what it knows. */
struct parser {
    struct ptx_module *module;
    const char *at, *end;
    int line;
    struct symbol symbols[SYMBOLS_MAX];
    int symbol_count, outer_symbols; /* outside kernels */
    struct ptx_kernel *k;            /* the one being read */
    struct registers registers[REGISTERS_MAX];
    int register_count, depth;
    struct label *labels;
    size_t label_count, label_room;
};

enum operand_kind { REGISTER, NUMBER, MEMORY, LABEL };

/* What was read where an operand stands. */
struct operand {
    enum operand_kind kind;
    bool is_in_braces; /* part of a vector */
    char width;        /* of a register or base: 'w', 'd', 'p'; 'x': none */
    uint32_t slot;     /* of a register or base */
    uint64_t value;    /* number, address without base, or offset */
    const char *name;  /* of a label, not ended */
    size_t name_bytes;
};

void ptx_grow(void *items, size_t *room, size_t count, size_t item_bytes)
{
    void **p = items;

    if (count < *room)
        return;
    *room = *room ? 2 * *room : 64;
    *p = realloc(*p, *room * item_bytes);
    CHECK(*p);
}

/* --- scanning --------------------------------------------------------------------------------- */

static status refuse(const struct parser *p, const char *what, const char *which)
{
    return FAIL(ERR_CORRUPT, "%s:%d: %s%s%s", p->module->name, p->line, what, *which ? ": " : "",
                which);
}

static void skip_space(struct parser *p)
{
    while (p->at < p->end) {
        if (*p->at == '\n')
            p->line++;
        else if (p->at[0] == '/' && p->at[1] == '/') {
            while (p->at < p->end && *p->at != '\n')
                p->at++;
            continue;
        } else if (!isspace((unsigned char)*p->at))
            return;
        p->at++;
    }
}

static bool accept(struct parser *p, char c)
{
    skip_space(p);
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

static status expect(struct parser *p, char c)
{
    const char what[] = { c, '\0' };

    return accept(p, c) ? OK : refuse(p, "this character is missing here", what);
}

static bool is_word(const char *c)
{
    return isalnum((unsigned char)*c) || (*c != '\0' && strchr("_.$%", *c)) ||
           (c[0] == ':' && (c[1] == ':' || c[-1] == ':'));
}

/* The next word; empty where none stands. */
static void word(struct parser *p, char *dst)
{
    size_t n = 0;

    skip_space(p);
    while (p->at < p->end && is_word(p->at) && n + 1 < NAME_BYTES)
        dst[n++] = *p->at++;
    dst[n] = '\0';
}

static bool accept_word(struct parser *p, const char *want)
{
    const struct parser before = { .at = p->at, .line = p->line };
    char got[NAME_BYTES];

    word(p, got);
    if (strcmp(got, want) == 0)
        return true;
    p->at = before.at;
    p->line = before.line;
    return false;
}

/* A whole number, or a float as its bits. */
static status number(struct parser *p, uint64_t *value)
{
    const bool is_negative = accept(p, '-');
    char text[NAME_BYTES], *end = text;

    word(p, text);
    if (text[0] == '0' && (text[1] == 'f' || text[1] == 'F'))
        *value = strtoull(text + 2, &end, 16);
    else if (isdigit((unsigned char)text[0])) {
        *value = strtoull(text, &end, 0);
        if (*end == 'U')
            end++;
    }
    if (end == text || *end != '\0')
        return refuse(p, "not a number", text);
    if (is_negative)
        *value = 0 - *value;
    return OK;
}

static status small(struct parser *p, uint32_t *value)
{
    uint64_t wide = 0;
    status st = OK;

    TRY(number(p, &wide));
    if (wide > 1 << 20)
        TRY(refuse(p, "too large a number", ""));
    *value = (uint32_t)wide;
out:
    return st;
}

/* --- registers and constants ------------------------------------------------------------------ */

static uint32_t take_slots(struct ptx_kernel *k, char kind, uint32_t count)
{
    const uint32_t first = k->slot_count;

    k->slot_count += count * (kind == 'd' ? 2 : 1);
    return first;
}

/* The slot of a constant. */
static uint32_t constant(struct ptx_kernel *k, uint64_t value, bool is_wide, bool is_special)
{
    struct ptx_constant *c;

    for (size_t i = 0; i < k->constant_count; i++) {
        c = &k->constants[i];
        if (c->value == value && c->is_wide == is_wide && c->is_special == is_special)
            return c->slot;
    }
    ptx_grow(&k->constants, &k->constant_room, k->constant_count, sizeof(*c));
    c = &k->constants[k->constant_count++];
    *c = (struct ptx_constant){ value, take_slots(k, is_wide ? 'd' : 'w', 1), is_wide, is_special };
    return c->slot;
}

static status add_symbol(struct parser *p, const char *name, uint32_t value)
{
    struct symbol *s = &p->symbols[p->symbol_count];

    if (p->symbol_count == SYMBOLS_MAX)
        return refuse(p, "too many symbols", name);
    snprintf(s->name, sizeof(s->name), "%s", name);
    s->value = value;
    p->symbol_count++;
    return OK;
}

/* Behind ".reg": TYPE NAME<COUNT>, ... ; */
static status declare(struct parser *p)
{
    char type[NAME_BYTES], name[NAME_BYTES];
    struct registers *r;
    status st = OK;

    word(p, type);
    do {
        word(p, name);
        if (p->register_count == REGISTERS_MAX || strlen(name) >= sizeof(r->prefix))
            TRY(refuse(p, "no room for registers", name));
        r = &p->registers[p->register_count];
        *r = (struct registers){ .count = 1, .depth = p->depth };
        snprintf(r->prefix, sizeof(r->prefix), "%.31s", name);
        r->kind = strcmp(type, ".pred") == 0 ? 'p' : strstr(type, "64") ? 'd' : 'w';
        if (accept(p, '<')) {
            r->is_range = true;
            TRY(small(p, &r->count));
            TRY(expect(p, '>'));
        }
        r->first = take_slots(p->k, r->kind, r->count);
        p->register_count++;
    } while (accept(p, ','));
    TRY(expect(p, ';'));
out:
    return st;
}

/* *o = the register called name. */
static bool find_register(const struct parser *p, const char *name, struct operand *o)
{
    for (int i = p->register_count - 1; i >= 0; i--) {
        const struct registers *r = &p->registers[i];
        const size_t n = strlen(r->prefix);
        unsigned long index = 0;
        char *end;

        if (strncmp(name, r->prefix, n) != 0)
            continue;
        if (!r->is_range && name[n] != '\0')
            continue;
        if (r->is_range) {
            if (!isdigit((unsigned char)name[n]))
                continue;
            index = strtoul(name + n, &end, 10);
            if (*end != '\0' || index >= r->count)
                continue;
        }
        o->kind = REGISTER;
        o->width = r->kind;
        o->slot = r->first + (uint32_t)index * (r->kind == 'd' ? 2 : 1);
        return true;
    }
    return false;
}

static bool find_special(struct parser *p, const char *name, struct operand *o)
{
    static const struct {
        const char *name;
        enum ptx_special first;
    } specials[] = {
        { "%tid.", PTX_TID },
        { "%ntid.", PTX_NTID },
        { "%ctaid.", PTX_CTAID },
        { "%nctaid.", PTX_NCTAID },
    };

    for (size_t i = 0; i < sizeof(specials) / sizeof(specials[0]); i++) {
        const size_t n = strlen(specials[i].name);

        if (strncmp(name, specials[i].name, n) == 0 && name[n] >= 'x' && name[n] <= 'z') {
            o->kind = REGISTER;
            o->width = 'w';
            o->slot = constant(p->k, (uint64_t)specials[i].first + (uint64_t)(name[n] - 'x'), false,
                               true);
            return true;
        }
    }
    return false;
}

static bool find_symbol(const struct parser *p, const char *name, struct operand *o)
{
    for (int i = p->symbol_count - 1; i >= 0; i--) {
        if (strcmp(p->symbols[i].name, name) == 0) {
            o->kind = NUMBER;
            o->value = p->symbols[i].value;
            return true;
        }
    }
    return false;
}

/* --- instructions ----------------------------------------------------------------------------- */

static bool starts_number(const char *c)
{
    return isdigit((unsigned char)*c) || *c == '-';
}

/* A register, number, symbol or label. */
static status simple(struct parser *p, struct operand *o)
{
    char name[NAME_BYTES];
    const char *start;

    *o = (struct operand){ .kind = NUMBER, .width = 'x' };
    skip_space(p);
    start = p->at;
    if (starts_number(start))
        return number(p, &o->value);
    word(p, name);
    if (!*name)
        return refuse(p, "an operand is missing", "");
    if (find_register(p, name, o) || find_special(p, name, o) || find_symbol(p, name, o))
        return OK;
    if (name[0] != '$')
        return refuse(p, "an unknown name", name);
    *o = (struct operand){ .kind = LABEL, .width = 'x', .name = start, .name_bytes = strlen(name) };
    return OK;
}

/* Behind '['. */
static status memory(struct parser *p, struct operand *o)
{
    uint64_t offset = 0;
    status st = OK;

    TRY(simple(p, o));
    if (accept(p, '+'))
        TRY(number(p, &offset));
    TRY(expect(p, ']'));
    o->kind = MEMORY;
    o->value += offset;
out:
    return st;
}

static status operands(struct parser *p, struct operand *list, int *count)
{
    bool is_in_braces = false;
    status st = OK;

    *count = 0;
    while (!accept(p, ';')) {
        if (*count == OPERANDS_MAX)
            TRY(refuse(p, "too many operands", ""));
        if (accept(p, ',') || accept(p, '|'))
            continue;
        if (accept(p, '{') || accept(p, '}')) {
            is_in_braces = p->at[-1] == '{';
            continue;
        }
        if (accept(p, '['))
            TRY(memory(p, &list[*count]));
        else
            TRY(simple(p, &list[*count]));
        list[(*count)++].is_in_braces = is_in_braces;
    }
out:
    return st;
}

static void add_slot(struct ptx_kernel *k, uint32_t slot)
{
    ptx_grow(&k->pool, &k->pool_room, k->pool_count, sizeof(*k->pool));
    k->pool[k->pool_count++] = slot;
}

/* Does the operand fit the letter of a form? w, d, p: a register of 32 bits, 64 bits, one bit, or
 * for an operand that is read a number; v: a w of a vector; m, M: memory whose base has 32 or 64
 * bits; i: a number that the form wants itself; l: a label. */
static bool fits(const struct operand *o, char letter, bool is_read)
{
    switch (letter) {
    case 'v':
        return o->is_in_braces && fits(o, 'w', is_read);
    case 'w':
    case 'd':
    case 'p':
        return o->kind == REGISTER ? o->width == letter : o->kind == NUMBER && is_read;
    case 'm':
        return o->kind == MEMORY && o->width != 'd';
    case 'M':
        return o->kind == MEMORY && o->width != 'w';
    case 'i':
        return o->kind == NUMBER;
    default:
        return o->kind == LABEL;
    }
}

/* The letters of a form, "w*64<dd" written out, without the '<'. *dst_count: those before it. */
static int letters_of(const char *operands, char *letters, int *dst_count)
{
    int n = 0;

    *dst_count = 0;
    for (; *operands; operands++) {
        if (*operands == '<') {
            *dst_count = n;
        } else if (*operands == '*') {
            const long repeat = strtol(operands + 1, (char **)&operands, 10);

            CHECK(n > 0 && n + repeat <= OPERANDS_MAX);
            for (long i = 1; i < repeat; i++, n++)
                letters[n] = letters[n - 1];
            operands--;
        } else {
            letters[n++] = *operands;
        }
    }
    return n;
}

static bool match(struct parser *p, const struct ptx_form *form, const struct operand *list,
                  int count)
{
    char letters[OPERANDS_MAX];
    int dst_count, imm = 0;
    const int n = letters_of(form->operands, letters, &dst_count);
    struct ptx_op *op = &p->k->ops[p->k->op_count];

    if (n != count)
        return false;
    for (int i = 0; i < n; i++) {
        if (!fits(&list[i], letters[i], i >= dst_count))
            return false;
    }
    op->form = form;
    op->dst_count = (uint16_t)dst_count;
    op->src_count = 0;
    op->first = (uint32_t)p->k->pool_count;
    for (int i = 0; i < n; i++) {
        const struct operand *o = &list[i];

        if (letters[i] == 'i') {
            op->imm[imm++ % 4] = (int64_t)o->value;
        } else if (o->kind != LABEL && o->width != 'x') {
            add_slot(p->k, o->slot);
            op->offset += o->kind == MEMORY ? (int64_t)o->value : 0;
        } else if (o->kind != LABEL) {
            const bool is_wide = letters[i] == 'd' || letters[i] == 'M';
            const uint64_t value = letters[i] == 'p' ? (o->value ? PTX_ALL : 0) : o->value;

            add_slot(p->k, constant(p->k, is_wide ? value : (uint32_t)value, is_wide, false));
        }
        op->src_count += i >= dst_count && letters[i] != 'i' && letters[i] != 'l';
    }
    return true;
}

static bool find_form(struct parser *p, const char *name, const struct operand *list, int count)
{
    static const struct ptx_form *const tables[] = { ptx_forms_number, ptx_forms_memory,
                                                     ptx_forms_matrix };

    for (size_t t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct ptx_form *f = tables[t]; f->name; f++) {
            if (strcmp(f->name, name) == 0 && match(p, f, list, count))
                return true;
        }
    }
    return false;
}

/* An instruction whose guard, if any, and name were read. */
static status instruction(struct parser *p, const char *name, const struct ptx_op *start)
{
    struct operand list[OPERANDS_MAX];
    struct ptx_kernel *k = p->k;
    int count;
    status st = OK;

    ptx_grow(&k->ops, &k->op_room, k->op_count, sizeof(*k->ops));
    k->ops[k->op_count] = *start;
    TRY(operands(p, list, &count));
    if (!find_form(p, name, list, count))
        TRY(refuse(p, "an instruction that the interpreter does not know", name));
    if (k->ops[k->op_count].form->flow == PTX_BRANCH) {
        k->ops[k->op_count].imm[0] = list[0].name - k->ops[k->op_count].text;
        k->ops[k->op_count].imm[1] = (int64_t)list[0].name_bytes;
    }
    if (strncmp(name, "st.shared.", 10) == 0 && (strstr(name, "16") || strstr(name, "8")))
        k->shared_grain_bits = 1;
    k->op_count++;
out:
    return st;
}

static status guarded(struct parser *p, struct ptx_op *op)
{
    struct operand o;
    status st = OK;

    op->is_guard_not = accept(p, '!');
    TRY(simple(p, &o));
    if (o.width != 'p')
        TRY(refuse(p, "a guard that is no predicate", ""));
    op->guard = o.slot;
out:
    return st;
}

/* .shared .align N .b8 NAME[BYTES]; inside a kernel, or outside without BYTES. */
static status shared(struct parser *p, bool is_extern)
{
    uint32_t align = 1, bytes = 0;
    char name[NAME_BYTES];
    status st = OK;

    if (accept_word(p, ".align"))
        TRY(small(p, &align));
    if (!accept_word(p, ".b8"))
        TRY(refuse(p, "shared memory that is no array of bytes", ""));
    word(p, name);
    TRY(expect(p, '['));
    if (!is_extern) {
        TRY(small(p, &bytes));
        p->k->static_bytes = (p->k->static_bytes + align - 1) / align * align;
    }
    TRY(expect(p, ']'));
    TRY(expect(p, ';'));
    /* The dynamic part is the whole of a kernel's; see end_kernel. */
    TRY(add_symbol(p, name, PTX_SHARED_BASE + (is_extern ? 0 : p->k->static_bytes)));
    if (!is_extern)
        p->k->static_bytes += bytes;
    if (PTX_SHARED_BASE % align != 0)
        TRY(refuse(p, "shared memory with too large an alignment", name));
out:
    return st;
}

static void leave(struct parser *p)
{
    p->depth--;
    while (p->register_count > 0 && p->registers[p->register_count - 1].depth > p->depth)
        p->register_count--;
}

/* One statement. */
static status statement(struct parser *p)
{
    struct ptx_op op = { 0 };
    char name[NAME_BYTES];
    status st = OK;

    skip_space(p);
    op.text = p->at;
    op.line = p->line;
    if (accept(p, '{')) {
        if (++p->depth > DEPTH_MAX)
            TRY(refuse(p, "braces that are nested too deep", ""));
        return OK;
    }
    if (accept(p, '}')) {
        leave(p);
        return OK;
    }
    if (accept(p, '@'))
        TRY(guarded(p, &op));
    word(p, name);
    if (strcmp(name, ".reg") == 0) {
        TRY(declare(p));
    } else if (strcmp(name, ".shared") == 0) {
        TRY(shared(p, false));
    } else if (strcmp(name, ".pragma") == 0) {
        while (p->at < p->end && !accept(p, ';'))
            p->at++;
    } else if (name[0] == '$' && accept(p, ':')) {
        ptx_grow(&p->labels, &p->label_room, p->label_count, sizeof(*p->labels));
        p->labels[p->label_count++] =
            (struct label){ op.text, strlen(name), (uint32_t)p->k->op_count };
    } else {
        TRY(instruction(p, name, &op));
    }
out:
    return st;
}

/* --- kernels ---------------------------------------------------------------------------------- */

static status resolve_branch(struct parser *p, struct ptx_op *op)
{
    const char *name = op->text + op->imm[0];
    const size_t bytes = (size_t)op->imm[1];

    for (size_t i = 0; i < p->label_count; i++) {
        if (p->labels[i].bytes == bytes && memcmp(p->labels[i].name, name, bytes) == 0) {
            op->offset = p->labels[i].pc;
            return OK;
        }
    }
    p->line = op->line;
    return refuse(p, "a branch to where there is no label", "");
}

static status end_kernel(struct parser *p)
{
    struct ptx_kernel *k = p->k;
    bool has_dynamic = p->outer_symbols > 0;
    status st = OK;

    for (size_t i = 0; i < k->op_count; i++) {
        k->ops[i].o = k->pool + k->ops[i].first;
        if (k->ops[i].form->flow == PTX_BRANCH)
            TRY(resolve_branch(p, &k->ops[i]));
    }
    if (k->op_count == 0 || k->ops[k->op_count - 1].form->flow == PTX_PLAIN)
        TRY(refuse(p, "a kernel that does not end", k->name));
    if (has_dynamic && k->static_bytes > 0)
        TRY(refuse(p, "shared memory of both kinds", k->name));
out:
    return st;
}

/* ( .param .align A .b8 NAME[BYTES] ) and directives. */
static status head(struct parser *p)
{
    char name[NAME_BYTES];
    uint32_t ignored, factor;
    status st = OK;

    TRY(expect(p, '('));
    if (!accept_word(p, ".param") || !accept_word(p, ".align"))
        TRY(refuse(p, "a kernel's one parameter has to be a struct", p->k->name));
    TRY(small(p, &ignored));
    if (!accept_word(p, ".b8"))
        TRY(refuse(p, "a kernel's one parameter has to be a struct", p->k->name));
    word(p, name);
    TRY(add_symbol(p, name, 0));
    TRY(expect(p, '['));
    TRY(small(p, &p->k->param_bytes));
    TRY(expect(p, ']'));
    TRY(expect(p, ')'));
    while (!accept(p, '{')) {
        word(p, name);
        if (strcmp(name, ".maxntid") == 0) {
            p->k->threads_max = 1;
            do {
                TRY(small(p, &factor));
                p->k->threads_max *= factor;
            } while (accept(p, ','));
        } else if (strcmp(name, ".minnctapersm") == 0) {
            TRY(small(p, &ignored));
        } else {
            TRY(refuse(p, "an unknown directive", name));
        }
    }
out:
    return st;
}

static status entry(struct parser *p)
{
    char name[NAME_BYTES];
    status st = OK;

    word(p, name);
    if (p->module->kernel_count == KERNELS_MAX)
        TRY(refuse(p, "too many kernels", name));
    p->k = calloc(1, sizeof(*p->k));
    CHECK(p->k);
    p->module->kernels[p->module->kernel_count++] = p->k;
    p->k->name = strdup(name);
    CHECK(p->k->name);
    p->k->file = p->module->name;
    p->k->shared_grain_bits = 2;
    p->k->slot_count = 1; /* slot 0 is no register */
    p->symbol_count = p->outer_symbols;
    p->register_count = 0;
    p->label_count = 0;
    TRY(head(p));
    p->depth = 1;
    while (p->depth > 0) {
        if (p->at >= p->end)
            TRY(refuse(p, "the text ends inside a kernel", name));
        TRY(statement(p));
    }
    TRY(end_kernel(p));
out:
    return st;
}

static status top(struct parser *p)
{
    char name[NAME_BYTES];
    status st = OK;

    word(p, name);
    if (strcmp(name, ".version") == 0 || strcmp(name, ".target") == 0 ||
        strcmp(name, ".address_size") == 0) {
        word(p, name);
    } else if (strcmp(name, ".extern") == 0 && accept_word(p, ".shared")) {
        TRY(shared(p, true));
        p->outer_symbols = p->symbol_count;
    } else if (strcmp(name, ".visible") == 0 && accept_word(p, ".entry")) {
        TRY(entry(p));
    } else {
        TRY(refuse(p, "an unknown directive", name));
    }
out:
    return st;
}

status ptx_parse(struct ptx_module **module, const char *name, const char *text, size_t bytes)
{
    struct parser *p = calloc(1, sizeof(*p));
    status st = OK;

    CHECK(p);
    p->module = calloc(1, sizeof(*p->module));
    CHECK(p->module);
    p->module->name = name;
    p->at = text;
    p->end = text + bytes;
    p->line = 1;
    skip_space(p);
    while (p->at < p->end) {
        TRY(top(p));
        skip_space(p);
    }
    *module = p->module;
    p->module = NULL;
out:
    ptx_free(p->module);
    free(p->labels);
    free(p);
    return st;
}

void ptx_free(struct ptx_module *module)
{
    if (!module)
        return;
    for (int i = 0; i < module->kernel_count; i++) {
        struct ptx_kernel *k = module->kernels[i];

        free(k->name);
        free(k->ops);
        free(k->pool);
        free(k->constants);
        free(k);
    }
    free(module);
}

struct ptx_kernel *ptx_find(struct ptx_module *module, const char *name)
{
    for (int i = 0; i < module->kernel_count; i++) {
        if (strcmp(module->kernels[i]->name, name) == 0)
            return module->kernels[i];
    }
    return NULL;
}

struct ptx_kernel *ptx_kernel_at(struct ptx_module *module, int i)
{
    return i < module->kernel_count ? module->kernels[i] : NULL;
}

const char *ptx_name(const struct ptx_kernel *kernel)
{
    return kernel->name;
}

struct ptx_counts ptx_counts(const struct ptx_kernel *kernel)
{
    return kernel->counts;
}

bool ptx_drop(struct ptx_kernel *kernel, const char *opcode, int index)
{
    for (size_t i = 0; i < kernel->op_count; i++) {
        struct ptx_op *op = &kernel->ops[i];

        if (strncmp(op->form->name, opcode, strlen(opcode)) == 0 && index-- == 0) {
            op->is_dropped = true;
            return true;
        }
    }
    return false;
}
