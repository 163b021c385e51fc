#!/bin/sh
# Starts Python for pgtimeout: without the user's settings and without Python's site module, which would take a third of
# the time until the command runs. Python ignores SIGPIPE from its start on, so what was ignored before is told to it.

self=$0
while [ -h "$self" ]; do
    target=$(readlink "$self")
    case $target in
        /*) self=$target ;;
        *) self=${self%/*}/$target ;;
    esac
done
bin=${self%/*}

# The 33rd field of proc_pid_stat(5), the 31st after the name: a shell reads byte by byte, and the file status is longer.
ignored=
note_ignored() {
    shift 30
    ignored=$1
}
if [ -r /proc/self/stat ] && read -r stat </proc/self/stat; then
    note_ignored ${stat##*) }
fi

# The package is in the directory of one Python beside the one that this script is in: lib/python3.12/site-packages.
for main in "$bin"/../lib/python3*/*-packages/ipython_pgtimeout/__main__.py; do
    python=$bin/python3
    if [ ! -x "$python" ]; then
        python=${main#"$bin"/../lib/}
        python=${python%%/*}
    fi
    if [ -e "$main" ]; then
        exec "$python" -I -S -X "pgtimeout_name=${0##*/}" -X "pgtimeout_ignored=$ignored" "$main" "$@"
    fi
done
# It is somewhere else, for example where an editable installation says.
exec "$bin/python3" -I -X "pgtimeout_name=${0##*/}" -X "pgtimeout_ignored=$ignored" -m ipython_pgtimeout "$@"
