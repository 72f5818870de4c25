/*
 * The public resume and yield for x86-64 where no sanitizer looks on: the plain case of each, from
 * the thread's own stack to a coroutine and back, in one piece; whatever else there is goes to
 * coro.c. Three things make them cheaper than a call of switch_in and switch_out (8.7 ns a pair
 * instead of 9.9, where jump_fcontext took 9.0): no address is passed, the address to go on at is
 * loaded before the registers are, and no `pop` waits for the one before it.
 */
    .text

#include "x86_64.inc"

/* struct weir__thread */
#define CURRENT         0
#define RESUMER_CONTEXT 8
#define CANARIES        24

    /* On another stack now, about to go on at %rcx: nothing of its caller's is ours to restore. */
    .macro on_the_other_stack
    .cfi_def_cfa %rsp, 0
    .cfi_register %rip, %rcx
    registers_restored
    .endm

/* void *weir_coro_resume(struct weir_coro *co, void *value) */
public_function weir_coro_resume
    movq    SP(%rdi), %r8
    testq   %r8, %r8
    je      .Lresume_otherwise
    movq    weir__thread@GOTTPOFF(%rip), %rdx
    cmpq    $0, %fs:CURRENT(%rdx)
    jne     .Lresume_otherwise
    .cfi_remember_state
    movq    %rdi, %fs:CURRENT(%rdx)
    movq    %rsi, %rax
    movq    (%r8), %rcx
    push_register %rbp /* the order is that of switch_in: switch_last pops them */
    push_register %rbx
    push_register %r12
    push_register %r13
    push_register %r14
    push_register %r15
    movq    %rsp, %fs:RESUMER_CONTEXT(%rdx)
    movq    RBX(%rdi), %rbx
    movq    RBP(%rdi), %rbp
    movq    R12(%rdi), %r12
    movq    R13(%rdi), %r13
    movq    R14(%rdi), %r14
    movq    R15(%rdi), %r15
    movq    $0, SP(%rdi)
    leaq    8(%r8), %rsp
    on_the_other_stack
    notrack jmp *%rcx
.Lresume_otherwise:
    .cfi_restore_state
    jmp     weir__coro_resume
end weir_coro_resume

/* void *weir_coro_yield(void *value) */
public_function weir_coro_yield
    movq    weir__thread@GOTTPOFF(%rip), %rdx
    movq    %fs:CURRENT(%rdx), %rsi
    testq   %rsi, %rsi
    je      .Lyield_otherwise
    cmpq    $0, %fs:CANARIES(%rdx)
    jne     .Lyield_otherwise
    .cfi_remember_state
    movq    %fs:RESUMER_CONTEXT(%rdx), %r8
    movq    $0, %fs:CURRENT(%rdx) /* resume_nested knows better, where there is one */
    movq    48(%r8), %rcx
    movq    %rdi, %rax
    save_context %rsi
    frame_of_resumer %r8
    movq    40(%r8), %rbp
    movq    32(%r8), %rbx
    movq    24(%r8), %r12
    movq    16(%r8), %r13
    movq    8(%r8), %r14
    movq    (%r8), %r15
    leaq    56(%r8), %rsp
    on_the_other_stack
    notrack jmp *%rcx
.Lyield_otherwise:
    .cfi_restore_state
    jmp     weir__coro_yield
end weir_coro_yield

    notes
