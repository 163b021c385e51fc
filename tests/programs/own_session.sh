# Trick: setsid(1) moves a job into a session of its own.
export MARK="$1"
setsid sh -c 'echo ready; sleep 1000; :' &
wait
