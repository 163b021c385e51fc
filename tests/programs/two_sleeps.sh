# Trick: none; a job in the background and one in the foreground.
export MARK="$1"
sleep 1000 &
echo ready
sleep 1000
