/*
 * The table of workloads. Adding one is a file here, a line in the table and a declaration in
 * workloads.h.
 */
#include "bench/workloads/workloads.h"

#include <stdio.h>
#include <string.h>

const struct weir_workload *const weir__workloads[] = {
    &weir__workload_echo, &weir__workload_frame, &weir__workload_sink, &weir__workload_source, NULL,
};

const struct weir_workload *weir__workload_find(const char *name)
{
    for (const struct weir_workload *const *w = weir__workloads; *w; w++) {
        if (strcmp((*w)->name, name) == 0)
            return *w;
    }
    return NULL;
}

void weir__workload_names(char *text, size_t capacity)
{
    size_t used = 0;
    text[0] = '\0';
    for (const struct weir_workload *const *w = weir__workloads; *w && used < capacity; w++) {
        int n = snprintf(text + used, capacity - used, "%s%s", used > 0 ? ", " : "", (*w)->name);
        used += (size_t)n;
    }
}
