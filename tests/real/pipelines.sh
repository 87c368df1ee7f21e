# Pipelines, subshells, substitutions, here-documents.
echo one two three | tr ' ' '\n' | sort -r | sed 's/^/- /'
seq 1 1000 | grep 7 | wc -l
(cd / && pwd; exit 3); echo "subshell: $?"
outer=$(echo "$(echo nested $(echo deeply)) substitution")
echo "$outer"
cat <<END | while read -r line; do echo "read: $line"; done
first $((6 * 7))
second
END
cat <<'END'
as it $is
END
false | true; echo "pipeline: $?"
{ echo to a file; echo to another >&3; } > a 3> b
cat a b
for i in 1 2 3; do echo "$i" & wait $!; done
(sleep 0.05; echo late) & echo early; wait; echo "waited: $?"
yes | head -n 2
echo "$(seq 1 5 | paste -s -d +)" | { read -r sum; echo $(($sum)); }
exit 5
