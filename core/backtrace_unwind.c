/* Back-traces by libunwind, which is told the registers that a stack will go on with. */
#define UNW_LOCAL_ONLY

#include "core/backtrace.h"

#include <errno.h>
#include <link.h>
#include <string.h>

#include WEIR_UNWIND_CONTEXT

const char *const weir__backtrace_lacks = NULL;

struct module {
    uintptr_t pc;
    const char *name;
    uintptr_t loaded_at; /* less than its addresses in the file */
};

static int is_of_module(struct dl_phdr_info *info, size_t bytes, void *argument)
{
    struct module *module = argument;

    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD ||
            module->pc - info->dlpi_addr - part->p_vaddr >= part->p_memsz)
            continue;
        module->name = info->dlpi_name;
        module->loaded_at = info->dlpi_addr;
        return 1;
    }
    return 0;
}

/* "libweir.so.0+0x1234": what was loaded, and the address in its file. */
static void add_module(struct weir__text *text, uintptr_t pc)
{
    struct module module = {.pc = pc, .name = "?"};

    dl_iterate_phdr(is_of_module, &module);
    const char *slash = strrchr(module.name, '/');
    const char *name = slash ? slash + 1 : module.name;
    if (!*name) /* the program itself */
        name = program_invocation_short_name;
    weir__text_add(text, " (%s+0x%zx)\n", name, (size_t)(pc - module.loaded_at));
}

static void add_frame(struct weir__text *text, unw_cursor_t *cursor, unsigned number)
{
    char name[256];
    unw_word_t pc = 0, offset = 0;

    unw_get_reg(cursor, UNW_REG_IP, &pc);
    if (unw_get_proc_name(cursor, name, sizeof name, &offset) < 0)
        strcpy(name, "?");
    weir__text_add(text, "    #%u %s", number, name);
    add_module(text, pc - 1); /* of the call, and not of what comes after it */
}

static unsigned add_stack(struct weir__text *text, const struct weir_coro_registers *registers,
                          unsigned number)
{
    unw_context_t context;
    unw_cursor_t cursor;

    memset(&context, 0, sizeof context);
    weir__unwind_context(&context, registers);
    if (unw_init_local(&cursor, &context) < 0)
        return number;
    do
        add_frame(text, &cursor, number++);
    while (number < WEIR__FRAMES_MOST && unw_step(&cursor) > 0);
    return number;
}

/* The stacks that it is on, the deepest first. One that runs there has its registers in the
 * processor: those frames are left out. */
void weir__backtrace(const struct weir_coro *co, struct weir__text *text)
{
    struct weir_coro_registers registers;
    unsigned number = 0;
    int res = weir_coro_registers(co, 0, &registers);

    if (res == 0 && registers.sp == (uintptr_t)co) {
        weir__text_add(text, "    it has not begun\n");
        return;
    }
    for (unsigned depth = 0; (res = weir_coro_registers(co, depth, &registers)) != -ENOENT; depth++)
        if (res == 0)
            number = add_stack(text, &registers, number);
    if (number == 0)
        weir__text_add(text, "    no back-trace: %s\n",
                       weir_coro_registers(co, 0, &registers) == -EBUSY
                           ? "it runs"
                           : "coro_switch=ucontext keeps the registers to itself");
}

unsigned weir__backtrace_here(void *context, uintptr_t *pcs, unsigned most)
{
    unw_cursor_t cursor;
    unw_word_t pc;
    unsigned count = 0;

    if (unw_init_local2(&cursor, context, UNW_INIT_SIGNAL_FRAME) < 0)
        return 0;
    do {
        unw_get_reg(&cursor, UNW_REG_IP, &pc);
        pcs[count++] = pc;
    } while (count < most && unw_step(&cursor) > 0);
    return count;
}

void weir__backtrace_names(const uintptr_t *pcs, unsigned count, struct weir__text *text)
{
    for (unsigned i = 0; i < count; i++) {
        /* The first is where it was, the others are where calls return to. */
        const struct weir_coro_registers registers = {.pc = pcs[i] + (i == 0)};
        unw_context_t context;
        unw_cursor_t cursor;
        memset(&context, 0, sizeof context);
        weir__unwind_context(&context, &registers);
        if (unw_init_local(&cursor, &context) >= 0)
            add_frame(text, &cursor, i);
    }
}
