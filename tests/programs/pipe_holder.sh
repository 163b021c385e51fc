# Trick: the shell has exited, and a job still holds the write ends of its pipes.
export MARK="$1"
sleep 1000 &
echo ready
