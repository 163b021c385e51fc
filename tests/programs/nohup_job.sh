# Trick: ignores HUP and goes on after the shell has exited.
export MARK="$1"
nohup sh -c 'echo ready; sleep 1000; :' &
