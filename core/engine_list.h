/* Included by engine_table.c alone, twice: the engines this build has, best first. */
#if WEIR_HAVE_URING
WEIR_ENGINE(weir__engine_uring)
#endif
WEIR_ENGINE(weir__engine_epoll)
WEIR_ENGINE(weir__engine_epoll_et)
WEIR_ENGINE(weir__engine_poll)
WEIR_ENGINE(weir__engine_select)
