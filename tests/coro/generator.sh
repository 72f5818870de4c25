#!/bin/sh
# The example coro/examples/generator.c prints what its comment says. The arguments run it.
set -eu
got=$(echo to be or not to be that is the question | "$@")
want='2 be
1 is
1 not
1 or
1 question
1 that
1 the
2 to'
if [ "$got" = "$want" ]; then
    echo "ok 1 - the generator yields every word once, in order"
else
    echo "not ok 1 - the generator yields every word once, in order"
    echo "$got" | sed 's/^/# /'
fi
echo "1..1"
