#!/usr/bin/env python3
"""Exits with 0 if this process may call io_uring_setup, with 1 if that is refused (seccomp, sysctl,
an old kernel). ci/test asks it whether the suites of the proactor are to run."""

import ctypes
import errno
import sys

IO_URING_SETUP = 425  # the same on every architecture

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(IO_URING_SETUP, 0, None)
# No entries and no parameters: EINVAL or EFAULT from a kernel that looked at them.
sys.exit(1 if ctypes.get_errno() in (errno.EPERM, errno.EACCES, errno.ENOSYS) else 0)
