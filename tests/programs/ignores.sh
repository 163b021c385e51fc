# Trick: ignores TERM, INT and HUP, and so does its child.
export MARK="$1"
trap '' TERM INT HUP
echo ready
while :; do sleep 1000; done
