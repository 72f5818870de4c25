"""Coroutines of Weir in gdb (11 or later), on a live process or a core file:

    (gdb) source .../share/weir/weir-gdb.py
    (gdb) info coroutines          # those of every pool of every thread
    (gdb) coroutine 3 bt           # the calls one is in; any command may stand for bt
    (gdb) coroutine all bt
    (gdb) coroutine 3              # up, down, info locals... are of that one, till...
    (gdb) coroutine off            # ...this, or until the program goes on

It reads Weir's structs, so Weir needs debug information (meson setup -Ddebug=true). No register is
written: an unwinder says that the thread's innermost frame, #0, was called by the coroutine, whose
own frames are therefore #1 and on. A core file made by gdb itself (gcore) lacks the stacks where
these have guards by madvise (Linux 6.13 and later): the kernel's has them.
"""

import gdb
import gdb.unwinder

CACHE_LINE = 64


def is_null(value):
    return int(value) == 0


def text_of(pointer):
    return "?" if is_null(pointer) else pointer.string(errors="replace")


# --- where a coroutine stands -------------------------------------------------------------------

def words_at(address, count):
    word = gdb.lookup_type("unsigned long")
    array = gdb.Value(address).cast(word.array(count - 1).pointer()).dereference()
    return [int(array[i]) for i in range(count)]


def registers_of_x86_64(context):
    kept = [int(context["registers"][i]) for i in range(6)]
    sp = int(context["sp"])
    return {"rip": words_at(sp, 1)[0], "rsp": sp + 8, "rbx": kept[0], "rbp": kept[1],
            "r12": kept[2], "r13": kept[3], "r14": kept[4], "r15": kept[5]}


def registers_of_aarch64(context):
    sp = int(context["sp"])
    frame = words_at(sp, 12)
    registers = {"x%d" % (19 + i): frame[i] for i in range(11)}
    registers.update({"pc": frame[11], "sp": sp + 160})
    return registers


def has_symbol(name):
    try:
        gdb.parse_and_eval("&" + name)
    except gdb.error:
        return False
    return True


def registers_of(context):
    """The registers a stack that was left will go on with, as coro/registers_*.c has it."""
    name = gdb.selected_inferior().architecture().name()
    if not has_symbol("weir__coro_start"):
        raise gdb.GdbError("coroutines switch by ucontext here: where they stand is not known")
    if "x86-64" in name:
        return registers_of_x86_64(context), "rip", "rsp"
    if name.startswith("aarch64"):
        return registers_of_aarch64(context), "pc", "sp"
    raise gdb.GdbError("unknown machine " + name)


class Standing(gdb.unwinder.Unwinder):
    """Puts a coroutine's frames behind frame 0 of one thread."""

    def __init__(self):
        super().__init__("weir-coroutine")
        self.context = self.thread = None

    def __call__(self, pending):
        if self.context is None or pending.level() != 0:
            return None
        if gdb.selected_thread().ptid != self.thread:
            return None
        registers, pc, sp = self.context
        frame_id = gdb_frame_id(registers[sp] - 16, registers[pc])
        unwound = pending.create_unwind_info(frame_id)
        for name, value in registers.items():
            kind = pending.read_register(name).type
            unwound.add_saved_register(name, gdb.Value(value).cast(kind))
        return unwound

    def at(self, context):
        self.context = None if context is None else registers_of(context)
        self.thread = gdb.selected_thread().ptid if gdb.selected_thread() else None
        gdb.invalidate_cached_frames()
        if self.context is not None:
            gdb.newest_frame().older().select()


class gdb_frame_id:  # what create_unwind_info() asks for
    """Further in than the coroutine's frames, or gdb calls the stack corrupt."""

    def __init__(self, sp, pc):
        self.sp, self.pc = gdb.Value(sp), gdb.Value(pc)


standing = Standing()
gdb.unwinder.register_unwinder(None, standing, True)
gdb.events.cont.connect(lambda event: setattr(standing, "context", None))


# --- finding them -------------------------------------------------------------------------------

class Coroutine:
    def __init__(self, pool, record):
        self.pool, self.record = pool, record
        self.address = int(record.address)

    def name(self):
        return text_of(self.record["name"])

    def place(self):
        return text_of(self.record["place"])

    def contexts(self):
        """Of the stacks it is on, the deepest first."""
        yield self.record["context"]
        deep = self.record["deep"]
        while not is_null(deep):
            surface = deep["data"].cast(gdb.lookup_type("struct weir__surface").pointer())
            yield surface["context"]
            deep = surface["below"]

    def runs(self):
        return is_null(self.record["context"]["sp"])

    def status(self):
        if self.runs():
            return "running, LWP %d" % int(self.pool["thread_id"])
        return "suspended"

    def task(self):
        """The struct weir_task that it runs, or None: a coroutine without the runtime."""
        block = gdb.block_for_pc(int(self.record["fn"]))
        if block is None or block.function is None or block.function.name != "task_main":
            return None
        return self.record["arg"].cast(gdb.lookup_type("struct weir_task").pointer())

    def waits(self):
        task = self.task()
        if task is None or is_null(task["wait"]):
            return ""
        name = text_of(task["wait"]["name"])
        if name != "for an op":
            return name
        op = task["object"].cast(gdb.lookup_type("struct weir__op").pointer())
        kinds = {f.enumval: f.name for f in gdb.lookup_type("enum weir__op_kind").fields()}
        kind = kinds.get(int(op["kind"]), "?").replace("WEIR__OP_", "").lower()
        return "for %s, fd %d" % (kind, int(op["fd"]))


def pools():
    try:
        pool = gdb.parse_and_eval("weir__coro_pools")
        gdb.lookup_type("struct weir_coro_pool").fields()
    except gdb.error as error:
        raise gdb.GdbError("no pools to be seen; Weir without debug information? (%s)" % error)
    while not is_null(pool):
        yield pool.dereference()
        pool = pool["all_next"]


def records_of(stacks, colours):
    """The addresses of the records of all slots, as record_of() of coro/pool.c has them."""
    size = gdb.lookup_type("struct weir_coro").sizeof
    slot_bytes = int(stacks["slot_bytes"])
    for k in range(int(stacks["n_slabs"])):
        slab = stacks["slabs"][k]
        base = int(slab["base"])
        for i in range(int(slab["carved"])):
            end = base + (i + 1) * slot_bytes - i % colours * CACHE_LINE
            yield (end - size) & -CACHE_LINE


def coroutines():
    """Every one that has not ended. What lies in the stock of its pool has; a stack that was given
    back to the system is not even to be read."""
    kind = gdb.lookup_type("struct weir_coro").pointer()
    for pool in pools():
        colours = int(pool["options"]["colours"])
        for n in range(int(pool["n_sizes"])):
            stacks = pool["sizes"][n]
            spare = {int(stacks["spare"][i]) for i in range(int(stacks["n_spare"]))}
            for address in records_of(stacks, colours):
                if address in spare:
                    continue
                record = gdb.Value(address).cast(kind).dereference()
                if not is_null(record["fn"]) and not record["borrowed"]:
                    yield Coroutine(pool, record)


# --- commands -----------------------------------------------------------------------------------

class InfoCoroutines(gdb.Command):
    """Lists all coroutines: number, name, where spawned, status, and what it waits for."""

    def __init__(self):
        super().__init__("info coroutines", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        found = 0
        for found, one in enumerate(coroutines(), 1):
            waits = one.waits()
            print("%4d  %s (%s) %s%s" % (found, one.name(), one.place(), one.status(),
                                         "; waits " + waits if waits else ""))
        if not found:
            print("no coroutines")


def thread_of(one):
    for thread in gdb.selected_inferior().threads():
        if thread.ptid[1] == int(one.pool["thread_id"]):
            return thread
    return None


def without_frame_0(text):
    lines = text.splitlines(True)
    for i, line in enumerate(lines):
        if line.startswith("#1 "):
            return "".join(lines[i:])
    return "".join(line for line in lines if not line.startswith("#0 "))


def run_in(one, command, from_tty):
    """Runs a command of gdb as if the thread stood where the coroutine does."""
    for depth, context in enumerate(one.contexts()):
        if depth:
            print("on the stack below, from which this was called deep:")
        if is_null(context["sp"]):
            thread = thread_of(one)
            if thread:
                thread.switch()
            print("it runs in this thread:")
            gdb.execute(command, from_tty)
            continue
        standing.at(context)
        text = gdb.execute(command, from_tty, True)
        is_trace = command.split()[0] in ("bt", "backtrace", "where")
        print(without_frame_0(text) if is_trace else text, end="")


class CoroutineCommand(gdb.Command):
    """coroutine N [COMMAND]: runs a command, as `bt`, in coroutine N of `info coroutines`, or
selects it. `coroutine all COMMAND`, `coroutine off`. Its frames begin with #1."""

    def __init__(self):
        super().__init__("coroutine", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        which, _, command = argument.strip().partition(" ")
        command = command.strip()
        if which == "off":
            standing.at(None)
            return
        listed = list(coroutines())
        if which != "all" and not (which.isdigit() and 1 <= int(which) <= len(listed)):
            raise gdb.GdbError("which coroutine? 1 to %d, all, or off" % len(listed))
        if which != "all" and not command:
            self.select(listed[int(which) - 1])
            return
        thread = gdb.selected_thread()
        try:
            for number, one in enumerate(listed, 1):
                if which in ("all", str(number)):
                    print("coroutine %d %s (%s)" % (number, one.name(), one.place()))
                    run_in(one, command or "bt", from_tty)
                    standing.at(None)
        finally:
            standing.at(None)
            thread.switch()

    @staticmethod
    def select(one):
        if one.runs():
            raise gdb.GdbError("it runs: see the thread with LWP %d" % int(one.pool["thread_id"]))
        standing.at(one.record["context"])
        gdb.execute("frame")


InfoCoroutines()
CoroutineCommand()
