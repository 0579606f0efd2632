/* Is it UTF-8? By RFC 3629: nothing longer than it needs to be, no surrogates, nothing above
 * U+10FFFF. Pure. */
#ifndef CORE_BASE_UTF8_H
#define CORE_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* The bytes of the character that begins at p, 1 to 4; 0: none does, or it is cut off. A text that
 * ends with NUL may be looked at with any len: a NUL cuts a character off. */
size_t utf8_character(const char *p, size_t len);
bool utf8_check(const char *text, size_t len);

#endif
