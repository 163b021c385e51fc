# Trick: ignores HUP and goes on when the shell has gone.
export MARK="$1"
nohup sh -c 'echo ready; sleep 1000; :' &
