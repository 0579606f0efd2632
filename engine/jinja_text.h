/* UTF-8 text as Python's str sees it: counted, cut and compared by code point. Every input is valid
 * UTF-8; nothing here checks again, except jinja_text_valid(). */
#ifndef ENGINE_JINJA_TEXT_H
#define ENGINE_JINJA_TEXT_H

#include "core/base/mem.h"

bool jinja_text_valid(const char *s, size_t len);

/* The code point at s, its size in *ret_bytes. len > 0. */
uint32_t jinja_text_decode(const char *s, size_t len, size_t *ret_bytes);
/* Writes cp to out (room for 4 bytes); gives the size. */
size_t jinja_text_encode(uint32_t cp, char *out);

size_t jinja_text_count(const char *s, size_t len); /* code points */
/* Byte offset of code point `index`; len when there are fewer. */
size_t jinja_text_offset(const char *s, size_t len, size_t index);

bool jinja_text_is_space(uint32_t cp);  /* str.isspace() of one character */
bool jinja_text_is_letter(uint32_t cp); /* str.isalpha() */
bool jinja_text_is_digit(uint32_t cp);  /* str.isdecimal() */
bool jinja_text_is_word(uint32_t cp);   /* \w of Python's re */
bool jinja_text_is_printable(uint32_t cp);

/* First (last) occurrence of needle; NULL if there is none. */
const char *jinja_text_find(const char *s, size_t len, const char *needle, size_t needle_len);
const char *jinja_text_rfind(const char *s, size_t len, const char *needle, size_t needle_len);

/* Bytes of white space at the start (end) of s. */
size_t jinja_text_space_prefix(const char *s, size_t len);
size_t jinja_text_space_suffix(const char *s, size_t len);

#endif
