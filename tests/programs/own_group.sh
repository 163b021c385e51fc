# Trick: job control puts the job into a process group of its own.
export MARK="$1"
set -m
sleep 1000 &
echo ready
wait
