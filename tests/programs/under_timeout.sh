# Trick: timeout(1) makes a process group of its own for what it runs.
export MARK="$1"
timeout 1000 sh -c 'echo ready; sleep 1000; :' &
wait
