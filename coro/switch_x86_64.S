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

#include "x86_64.inc"

    .macro pop_register name
    popq    \name
    .cfi_adjust_cfa_offset -8
    .cfi_restore \name
    .endm

    .macro leave_to_return_address
    popq    %rcx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rcx
    notrack jmp *%rcx
    .endm

    /* The stack pointer comes last: until then the CFI of the old stack holds. */
    .macro continue_context from
    movq    RBX(\from), %rbx
    movq    RBP(\from), %rbp
    movq    R12(\from), %r12
    movq    R13(\from), %r13
    movq    R14(\from), %r14
    movq    R15(\from), %r15
    movq    SP(\from), %rsp
    .cfi_def_cfa %rsp, 8
    .cfi_offset %rip, -8
    registers_restored
    movq    $0, SP(\from)
    leave_to_return_address
    .endm

    /* Continues what switch_in pushed at \at. */
    .macro continue_resumer at
    movq    \at, %rsp
    frame_of_resumer %rsp
    pop_register %r15
    pop_register %r14
    pop_register %r13
    pop_register %r12
    pop_register %rbx
    pop_register %rbp
    leave_to_return_address
    .endm

/* void *weir__switch_in(struct weir__context *to, void *value, void **resumer) */
function weir__switch_in
    movq    %rsi, %rax
    push_register %rbp
    push_register %rbx
    push_register %r12
    push_register %r13
    push_register %r14
    push_register %r15
    movq    %rsp, (%rdx)
    continue_context %rdi
end weir__switch_in

/* void *weir__switch_out(struct weir__context *from, void *value, void *resumer) */
function weir__switch_out
    movq    %rsi, %rax
    save_context %rdi
    continue_resumer %rdx
end weir__switch_out

/* _Noreturn void weir__switch_last(void *value, void *resumer) */
function weir__switch_last
    movq    %rdi, %rax
    continue_resumer %rsi
end weir__switch_last

/* void *weir__switch_over(struct weir__context *from, struct weir__context *to, void *value) */
function weir__switch_over
    save_context %rdi
    movq    %rdx, %rax
    continue_context %rsi
end weir__switch_over

/* _Noreturn void weir__switch_to(struct weir__context *to, void *value) */
function weir__switch_to
    movq    %rsi, %rax
    continue_context %rdi
end weir__switch_to

/* void weir__switch_prepare(struct weir__context *context, void *low, void *top,
 *                           void (*entry)(void *arg), void *arg) */
function weir__switch_prepare
    leaq    weir__coro_start(%rip), %rax
    movq    %rax, -8(%rdx)
    leaq    -8(%rdx), %rax
    movq    %rax, SP(%rdi)
    movq    %rcx, RBX(%rdi)
    movq    %r8, R12(%rdi)
    ret
end weir__switch_prepare

/* The outermost frame of every coroutine: an unwinder stops here, by rip and by a zero rbp. */
function weir__coro_start
    .cfi_undefined %rip
    xorl    %ebp, %ebp
    movq    %r12, %rdi
    call    *%rbx
    call    weir__coro_exit
    ud2
end weir__coro_start

/* const size_t weir__switch_stack_bytes: a frame of registers is not worth counting. */
    .section .rodata
    .p2align 3
    .globl  weir__switch_stack_bytes
    .hidden weir__switch_stack_bytes
    .type   weir__switch_stack_bytes, @object
weir__switch_stack_bytes:
    .quad   0
    .size   weir__switch_stack_bytes, 8

    notes
