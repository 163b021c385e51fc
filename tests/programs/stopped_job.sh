# Trick: a stopped job acts on no signal but KILL until it is continued. It ignores HUP, which the system sends to a
# stopped process group that becomes orphaned.
export MARK="$1"
trap '' HUP
set -m
sleep 1000 &
kill -STOP "$!"
until grep -q '^State:.*T' "/proc/$!/status"; do :; done
echo ready
while :; do sleep 1000; done
