/* xml.h - what a server of S3's kind answers: elements and text, strictly, without the rest of XML.
 *
 * Attributes are skipped. A document type, an entity other than the five and numbers, more than
 * XML_DEPTH_MAX levels, or names and texts beyond their limits are refused.
 * Thread: any. */
#ifndef ONESTEP_COMMON_XML_H
#define ONESTEP_COMMON_XML_H

#include <stddef.h>

#include "common/base/status.h"

#define XML_DEPTH_MAX 8
#define XML_PATH_ROOM 256
#define XML_TEXT_ROOM 4096

/* An element has ended. path: "ListBucketResult/Contents/Key"; text: what it holds, or NULL when it
 * holds elements. Both are borrowed for the call. */
typedef status (*xml_element)(void *self, const char *path, const char *text);

/* Go through len bytes and report each element at its end. Stops at the first status that is not OK
 * and returns it. Errors: ERR_CORRUPT. */
MUST_USE status xml_walk(const char *bytes, size_t len, xml_element on_end, void *self);

/* The text of the first element with this path, "" when there is none or the bytes are not XML; cut
 * at room. Returns dst. */
const char *xml_find(const char *bytes, size_t len, const char *path, char *dst, size_t room);

#endif
