# Trick: 40 loops of the shell, each of which makes one orphan after the other.
for loop in {1..40}; do
    (while :; do (true &); done) &
done
wait
