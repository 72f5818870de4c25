/*
 * The switch for AArch64, AAPCS64. See switch.h.
 *
 * - x19..x30, the low halves of v8..v15 and sp; FPCR stays with the thread (see <weir/coro.h>).
 * - It leaves by `ret`, although that is mispredicted: `br` to a return address faults when the
 *   caller's pages are BTI-guarded, and one cannot know how the caller was built.
 * - PAC: callers sign their own return addresses with their own sp, which a switch preserves. x30
 *   is kept unsigned on the stack here, so the GNU property claims BTI and not PAC.
 */
    .arch armv8-a
    .text

#define FRAME 160 /* x19..x28 at 0, x29 x30 at 80, d8..d15 at 96 */

    .macro restore_registers
    ldp     x19, x20, [sp, 0]
    ldp     x21, x22, [sp, 16]
    ldp     x23, x24, [sp, 32]
    ldp     x25, x26, [sp, 48]
    ldp     x27, x28, [sp, 64]
    ldp     x29, x30, [sp, 80]
    ldp     d8, d9, [sp, 96]
    ldp     d10, d11, [sp, 112]
    ldp     d12, d13, [sp, 128]
    ldp     d14, d15, [sp, 144]
    add     sp, sp, FRAME
    .cfi_adjust_cfa_offset -FRAME
    .irp reg, x19, x20, x21, x22, x23, x24, x25, x26, x27, x28, x29, x30
    .cfi_restore \reg
    .endr
    .endm

    /* Where a frame of ours holds the caller's registers, from sp. */
    .macro describe_frame
    .cfi_rel_offset x19, 0
    .cfi_rel_offset x20, 8
    .cfi_rel_offset x21, 16
    .cfi_rel_offset x22, 24
    .cfi_rel_offset x23, 32
    .cfi_rel_offset x24, 40
    .cfi_rel_offset x25, 48
    .cfi_rel_offset x26, 56
    .cfi_rel_offset x27, 64
    .cfi_rel_offset x28, 72
    .cfi_rel_offset x29, 80
    .cfi_rel_offset x30, 88
    .endm

/* void *weir__switch(void **save, void *load, void *value) */
    .p2align 5
    .globl  weir__switch
    .hidden weir__switch
    .type   weir__switch, %function
weir__switch:
    .cfi_startproc
    hint    34 /* bti c */
    sub     sp, sp, FRAME
    .cfi_adjust_cfa_offset FRAME
    stp     x19, x20, [sp, 0]
    stp     x21, x22, [sp, 16]
    stp     x23, x24, [sp, 32]
    stp     x25, x26, [sp, 48]
    stp     x27, x28, [sp, 64]
    stp     x29, x30, [sp, 80]
    stp     d8, d9, [sp, 96]
    stp     d10, d11, [sp, 112]
    stp     d12, d13, [sp, 128]
    stp     d14, d15, [sp, 144]
    describe_frame
    mov     x9, sp
    str     x9, [x0]
    /* From here on another stack with the same layout: the CFI above holds for both. */
    mov     sp, x1
    mov     x0, x2
    restore_registers
    ret
    .cfi_endproc
    .size   weir__switch, . - weir__switch

/* _Noreturn void weir__switch_last(void *load, void *value) */
    .p2align 5
    .globl  weir__switch_last
    .hidden weir__switch_last
    .type   weir__switch_last, %function
weir__switch_last:
    .cfi_startproc
    hint    34 /* bti c */
    mov     sp, x0
    .cfi_def_cfa sp, FRAME
    describe_frame
    mov     x0, x1
    restore_registers
    ret
    .cfi_endproc
    .size   weir__switch_last, . - weir__switch_last

/*
 * void *weir__switch_prepare(void *low, void *top, void (*entry)(void *), void *arg)
 * The frame weir__switch restores: x19 carries `entry`, x20 `arg`; the others may hold anything.
 */
    .p2align 5
    .globl  weir__switch_prepare
    .hidden weir__switch_prepare
    .type   weir__switch_prepare, %function
weir__switch_prepare:
    .cfi_startproc
    hint    34 /* bti c */
    sub     x0, x1, FRAME
    stp     x2, x3, [x0, 0]
    adr     x9, weir__coro_start
    str     x9, [x0, 88]
    ret
    .cfi_endproc
    .size   weir__switch_prepare, . - weir__switch_prepare

/* The outermost frame of every coroutine: an unwinder stops here, by x30 and by a zero x29. */
    .p2align 4
    .globl  weir__coro_start
    .hidden weir__coro_start
    .type   weir__coro_start, %function
weir__coro_start:
    .cfi_startproc
    .cfi_undefined x30
    mov     x29, 0
    mov     x30, 0
    mov     x0, x20
    blr     x19
    brk     1
    .cfi_endproc
    .size   weir__coro_start, . - weir__coro_start

/* const size_t weir__switch_stack_bytes: a frame of registers is not worth counting. */
    .section .rodata
    .p2align 3
    .globl  weir__switch_stack_bytes
    .hidden weir__switch_stack_bytes
    .type   weir__switch_stack_bytes, %object
weir__switch_stack_bytes:
    .quad   0
    .size   weir__switch_stack_bytes, 8

    .section .note.GNU-stack, "", %progbits

/* GNU property: BTI yes, PAC no. */
    .section .note.gnu.property, "a"
    .p2align 3
    .long   4, 16, 5
    .asciz  "GNU"
    .long   0xc0000000, 4, 1, 0
