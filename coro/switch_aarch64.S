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

#define FRAME   160 /* x19..x28 at 0, x29 x30 at 80, d8..d15 at 96 */

    .macro function name
    .p2align 5
    .globl  \name
    .hidden \name
    .type   \name, %function
\name:
    .cfi_startproc
    hint    34 /* bti c */
    .endm

    .macro end name
    .cfi_endproc
    .size   \name, . - \name
    .endm

    /* Where a frame holds the caller's registers, from sp. */
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

    .macro push_frame
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
    .endm

    /* Returns from the frame at sp. The CFI of one frame is that of every other. */
    .macro return_to_frame
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
    ret
    .endm

    /* Continues the context in \from. */
    .macro continue_context from
    ldr     x9, [\from]
    mov     sp, x9
    .cfi_def_cfa sp, FRAME
    describe_frame
    str     xzr, [\from]
    return_to_frame
    .endm

    /* Continues what switch_in pushed at \at. */
    .macro continue_resumer at
    mov     sp, \at
    .cfi_def_cfa sp, FRAME
    describe_frame
    return_to_frame
    .endm

/* void *weir__switch_in(struct weir__context *to, void *value, void **resumer) */
function weir__switch_in
    push_frame
    mov     x9, sp
    str     x9, [x2]
    mov     x12, x0
    mov     x0, x1
    continue_context x12
end weir__switch_in

/* void *weir__switch_out(struct weir__context *from, void *value, void *resumer) */
function weir__switch_out
    push_frame
    mov     x9, sp
    str     x9, [x0]
    mov     x0, x1
    continue_resumer x2
end weir__switch_out

/* _Noreturn void weir__switch_last(void *value, void *resumer) */
function weir__switch_last
    continue_resumer x1
end weir__switch_last

/* void *weir__switch_over(struct weir__context *from, struct weir__context *to, void *value) */
function weir__switch_over
    push_frame
    mov     x9, sp
    str     x9, [x0]
    mov     x0, x2
    continue_context x1
end weir__switch_over

/* _Noreturn void weir__switch_to(struct weir__context *to, void *value) */
function weir__switch_to
    mov     x12, x0
    mov     x0, x1
    continue_context x12
end weir__switch_to

/* void weir__switch_prepare(struct weir__context *context, void *low, void *top,
 *                           void (*entry)(void *arg), void *arg) */
function weir__switch_prepare
    sub     x9, x2, FRAME
    stp     x3, x4, [x9, 0]
    adr     x10, weir__coro_start
    str     x10, [x9, 88]
    str     x9, [x0]
    ret
end weir__switch_prepare

/* The outermost frame of every coroutine: an unwinder stops here, by x30 and by a zero x29. */
function weir__coro_start
    .cfi_undefined x30
    mov     x29, 0
    mov     x30, 0
    mov     x0, x20
    blr     x19
    bl      weir__coro_exit
    brk     1
end weir__coro_start

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
