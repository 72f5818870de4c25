/*
 * coro_peer.h through Boost.Context: the bare jump_fcontext for the switch, and for creation its
 * fiber on a pooled_fixedsize_stack, the cheapest that Boost offers for each.
 *
 * Both load MXCSR on every switch. Where the two sides' exception flags differ (one of them once
 * rounded a double) such a load takes some hundred nanoseconds. To measure the switch and not
 * that, the flags are cleared first: the contexts started with none.
 */
#include "coro_peer.h"

#include <boost/context/detail/fcontext.hpp>
#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cfenv>
#include <vector>

namespace context = boost::context;
using context::detail::fcontext_t;
using context::detail::jump_fcontext;
using context::detail::make_fcontext;
using context::detail::transfer_t;

namespace
{

const std::size_t stack_bytes = 8192;

struct peer {
    std::vector<context::stack_context> stacks;
    std::vector<fcontext_t> contexts;
    std::size_t next;
};

void switch_back(transfer_t from)
{
    for (;;)
        from = jump_fcontext(from.fctx, from.data);
}

} // namespace

bool peer_exists(void)
{
    return true;
}

void *peer_switch_new(std::size_t n)
{
    context::fixedsize_stack allocator(stack_bytes);
    peer *p = new peer();
    for (std::size_t i = 0; i < n; i++) {
        p->stacks.push_back(allocator.allocate());
        p->contexts.push_back(make_fcontext(p->stacks[i].sp, p->stacks[i].size, switch_back));
    }
    return p;
}

void peer_switch_run(void *opaque, std::size_t pairs)
{
    peer *p = static_cast<peer *>(opaque);
    const std::size_t n = p->contexts.size();
    std::size_t at = p->next;
    std::feclearexcept(FE_ALL_EXCEPT);
    for (std::size_t i = 0; i < pairs; i++) {
        p->contexts[at] = jump_fcontext(p->contexts[at], nullptr).fctx;
        if (++at == n)
            at = 0;
    }
    p->next = at;
}

void peer_switch_free(void *opaque)
{
    peer *p = static_cast<peer *>(opaque);
    context::fixedsize_stack allocator(stack_bytes);
    for (std::size_t i = 0; i < p->stacks.size(); i++)
        allocator.deallocate(p->stacks[i]);
    delete p;
}

void peer_create_run(std::size_t fibers)
{
    static context::pooled_fixedsize_stack allocator(stack_bytes);
    std::feclearexcept(FE_ALL_EXCEPT);
    for (std::size_t i = 0; i < fibers; i++) {
        context::fiber f(std::allocator_arg, allocator,
                         [](context::fiber &&back) { return std::move(back); });
        f = std::move(f).resume();
    }
}
