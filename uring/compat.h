/*
 * What newer kernels have and the installed liburing header may lack: liburing 2.3 (Debian 12)
 * describes Linux 6.1. Values are the kernel's UAPI and never change. Constants that both liburing
 * and the kernel declare as enumerators get a name of ours, for no header can be asked about those.
 *
 * Included by uring/ alone. Nothing here decides anything: uring/setup.c asks the running kernel.
 */
#ifndef WEIR_URING_COMPAT_H
#define WEIR_URING_COMPAT_H

#include <liburing.h>

/* Linux 6.6. liburing before 2.5 writes to the index array that this flag removes, so the flag is
 * used only where the header knows it; 0 means "not with this liburing". */
#ifdef IORING_SETUP_NO_SQARRAY
#define WEIR__SETUP_NO_SQARRAY IORING_SETUP_NO_SQARRAY
#else
#define WEIR__SETUP_NO_SQARRAY 0u
#endif

/* Linux 6.12: the timeout of io_uring_enter is a point in time: no clock to read for each wait. */
#define WEIR__ENTER_ABS_TIMER (1u << 5)
/* Linux 6.15: a server waiting for requests is idle, not waiting for a disk. */
#define WEIR__ENTER_NO_IOWAIT (1u << 7)
#define WEIR__FEAT_NO_IOWAIT  (1u << 17)
/* Linux 6.12: a wait for many completions that settles for fewer after a while; how long stands in
 * what liburing 2.3 calls the padding of struct io_uring_getevents_arg. */
#define WEIR__FEAT_MIN_TIMEOUT (1u << 15)
#define WEIR__MIN_WAIT_USEC    pad
/* Linux 6.13: MSG_RING to a ring from a thread that has none. */
#define WEIR__REGISTER_SEND_MSG_RING 31u

/* Opcodes that tell a kernel's age, and with it abilities that have no probe of their own. */
#define WEIR__OP_SOCKET_OPCODE     45u /* Linux 5.19: multishot accept, buffer rings */
#define WEIR__OP_SEND_ZC_OPCODE    47u /* Linux 6.0: multishot recv */
#define WEIR__OP_SENDMSG_ZC_OPCODE 48u /* Linux 6.1 */

/* Linux 6.8: a descriptor of the process for one of the ring's table. */
#define WEIR__OP_FIXED_FD_INSTALL_OPCODE 54u
/* Linux 6.9: ftruncate(2) as a request. */
#define WEIR__OP_FTRUNCATE_OPCODE 55u
/* Linux 6.7: setsockopt(2) as a request (IORING_OP_URING_CMD). */
#define WEIR__SOCKET_SETSOCKOPT 3u

#endif
