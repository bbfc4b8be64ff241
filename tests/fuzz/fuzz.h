/* fuzz.h - an entry for bytes from outside: fed by libFuzzer, or by the corpus in `make test`.
 *
 *   FUZZ(url, 2 << 10)
 *   {
 *       ... parse bytes[0..len-1]; CHECK what must hold of the answer ...
 *   }
 *
 * tests/fuzz/LAYER/fuzz_NAME.c holds FUZZ(NAME, ..) and links what its layer may use. Built by
 * `make fuzz` it is one libFuzzer program. In every other build it is one test, which feeds it each
 * file of tests/fuzz/corpus/NAME. bytes is a block of exactly len bytes, so that a sanitizer sees
 * one byte too far. An entry has no memory: the same bytes do the same. FUZZ_STORAGE is FUZZ for
 * what object stores and photographs are read by: `make test TFLAGS=storage` replays it too. */
#ifndef ONESTEP_TESTS_FUZZ_FUZZ_H
#define ONESTEP_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/check.h"
#include "common/base/file.h"
#include "tests/tool/test.h"

/* An entry. A broken promise is a CHECK; what it allocates is freed again. */
typedef void fuzz_entry(const uint8_t *bytes, size_t len);

/* Feed entry every file of tests/fuzz/corpus/target, and no bytes at all. Fails the running test
 * when there is no file, or one of more than bytes_max. */
void fuzz_replay(const char *target, size_t bytes_max, fuzz_entry *entry);

/* A NUL-ended copy of bytes; free it. A NUL inside makes the text end earlier. */
char *fuzz_text(const uint8_t *bytes, size_t len);

/* A directory for the files of this process, removed at its end. Short enough for unix sockets. */
const char *fuzz_tmpdir(void);

/* path = name below fuzz_tmpdir(), which may hold folders, made a file of these bytes. */
void fuzz_file(char path[FILE_PATH_BYTES], const char *name, const void *bytes, size_t len);

#ifdef ONESTEP_LIBFUZZER
/* The longest input of this program's entry. */
extern const size_t fuzz_bytes_max;

/* What libFuzzer calls, by the names that it wants. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Define the entry of a target whose inputs are of at most limit_bytes. */
#define FUZZ(target, limit_bytes)                                                                  \
    static fuzz_entry entry_of_##target;                                                           \
    const size_t fuzz_bytes_max = (limit_bytes);                                                   \
    int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)                                   \
    {                                                                                              \
        entry_of_##target(bytes, len);                                                             \
        return 0;                                                                                  \
    }                                                                                              \
    static void entry_of_##target(const uint8_t *bytes, size_t len)
#define FUZZ_STORAGE(target, limit_bytes) FUZZ(target, limit_bytes)
#else
/* Define the entry of a target whose inputs are of at most limit_bytes. */
#define FUZZ(target, limit_bytes) FUZZ_AS(replays_its_corpus, target, limit_bytes)
#define FUZZ_STORAGE(target, limit_bytes) FUZZ_AS(storage_replays, target, limit_bytes)
#define FUZZ_AS(test_name, target, limit_bytes)                                                    \
    static fuzz_entry entry_of_##target;                                                           \
    TEST(test_name)                                                                                \
    {                                                                                              \
        fuzz_replay(#target, (limit_bytes), entry_of_##target);                                    \
    }                                                                                              \
    static void entry_of_##target(const uint8_t *bytes, size_t len)
#endif

#endif
