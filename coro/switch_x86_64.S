/*
 * The switch for x86-64, System V ABI. See switch.h.
 *
 * - Only what the ABI makes a callee save, less MXCSR and the x87 control word (see <weir/coro.h>).
 * - It leaves by an indirect jump. A `ret` would be predicted by the return stack, which holds
 *   the calls of the stack just left, and so would always miss.
 * - CET: `notrack`, for a return address is no endbr64. The shadow stack is not switched, so this
 *   file does not claim SHSTK in its GNU property and the linker clears it for the whole image.
 */
    .text

/* void *weir__switch(void **save, void *load, void *value) */
    .p2align 5
    .globl  weir__switch
    .hidden weir__switch
    .type   weir__switch, @function
weir__switch:
    .cfi_startproc
    endbr64
    pushq   %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq   %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq   %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq   %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq   %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq   %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    movq    %rsp, (%rdi)
    /* From here on another stack with the same layout: the CFI above holds for both. */
    movq    %rsi, %rsp
    popq    %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq    %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq    %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq    %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq    %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq    %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    popq    %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    movq    %rdx, %rax
    notrack jmp *%rcx
    .cfi_endproc
    .size   weir__switch, . - weir__switch

/* _Noreturn void weir__switch_last(void *load, void *value) */
    .p2align 5
    .globl  weir__switch_last
    .hidden weir__switch_last
    .type   weir__switch_last, @function
weir__switch_last:
    .cfi_startproc
    endbr64
    movq    %rdi, %rsp
    .cfi_def_cfa %rsp, 56
    .cfi_rel_offset %r15, 0
    .cfi_rel_offset %r14, 8
    .cfi_rel_offset %r13, 16
    .cfi_rel_offset %r12, 24
    .cfi_rel_offset %rbx, 32
    .cfi_rel_offset %rbp, 40
    popq    %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq    %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq    %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq    %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq    %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq    %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    popq    %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    movq    %rsi, %rax
    notrack jmp *%rcx
    .cfi_endproc
    .size   weir__switch_last, . - weir__switch_last

/*
 * void *weir__switch_prepare(void *low, void *top, void (*entry)(void *), void *arg)
 * The frame weir__switch pops: r15 r14 r13 r12 rbx rbp rip. rbx carries `entry`, r12 `arg`; the
 * others may hold anything.
 */
    .p2align 5
    .globl  weir__switch_prepare
    .hidden weir__switch_prepare
    .type   weir__switch_prepare, @function
weir__switch_prepare:
    .cfi_startproc
    endbr64
    leaq    -72(%rsi), %rax
    movq    %rcx, 24(%rax)
    movq    %rdx, 32(%rax)
    leaq    weir__coro_start(%rip), %rcx
    movq    %rcx, 48(%rax)
    ret
    .cfi_endproc
    .size   weir__switch_prepare, . - weir__switch_prepare

/* The outermost frame of every coroutine: an unwinder stops here, by rip and by a zero rbp. */
    .p2align 4
    .globl  weir__coro_start
    .hidden weir__coro_start
    .type   weir__coro_start, @function
weir__coro_start:
    .cfi_startproc
    .cfi_undefined %rip
    endbr64
    xorl    %ebp, %ebp
    movq    %r12, %rdi
    call    *%rbx
    ud2
    .cfi_endproc
    .size   weir__coro_start, . - weir__coro_start

/* const size_t weir__switch_stack_bytes: a frame of registers is not worth counting. */
    .section .rodata
    .p2align 3
    .globl  weir__switch_stack_bytes
    .hidden weir__switch_stack_bytes
    .type   weir__switch_stack_bytes, @object
weir__switch_stack_bytes:
    .quad   0
    .size   weir__switch_stack_bytes, 8

    .section .note.GNU-stack, "", @progbits

/* GNU property: IBT yes, SHSTK no. */
    .section .note.gnu.property, "a"
    .p2align 3
    .long   4, 16, 5
    .asciz  "GNU"
    .long   0xc0000002, 4, 1, 0
