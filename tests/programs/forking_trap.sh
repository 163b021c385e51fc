# Trick: answers TERM and INT with a new child and goes on; prints "caught" each time.
export MARK="$1"
trap 'echo caught; sleep 1000 &' TERM INT
echo ready
while :; do
    sleep 1000 &
    wait $!
done
