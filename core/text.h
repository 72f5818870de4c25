/* Lines for people, gathered and handed on as whole lines. On a deep stack: it is large. */
#ifndef WEIR_CORE_TEXT_H
#define WEIR_CORE_TEXT_H

#include <weir/inspect.h>

struct weir__text {
    weir_dump_fn *fn;
    void *argument;
    size_t used;
    char bytes[16384];
};

/* As printf; what does not fit into a line of 1024 bytes is cut off. */
__attribute__((format(printf, 2, 3))) void weir__text_add(struct weir__text *text,
                                                          const char *format, ...);
/* Hands on what there is. */
void weir__text_flush(struct weir__text *text);

#endif
