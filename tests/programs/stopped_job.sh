# Trick: a stopped job takes no signal but KILL until it is continued; HUP, which it gets as an orphan, it ignores.
export MARK="$1"
trap '' HUP
set -m
sleep 1000 &
kill -STOP "$!"
until grep -q '^State:.*T' "/proc/$!/status"; do :; done
echo ready
while :; do sleep 1000; done
