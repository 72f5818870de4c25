/* Between servers.c and servers_text.c only. */
#ifndef WEIR_BENCH_SERVERS_TEXT_H
#define WEIR_BENCH_SERVERS_TEXT_H

#include "bench/servers.h"

/* Writes to `how` what the wait status says, and the server's last words. */
void weir__server_describe_death(struct server *server, int status, bool was_starting);

#endif
