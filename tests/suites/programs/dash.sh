# dash: POSIX shell, pipes and signals.
i=0; while [ $i -lt 30 ]; do i=$((i + 1)); echo $i | cat >/dev/null || echo wrong; done; echo $i
trap 'echo term' TERM; kill -TERM $$; trap - TERM
(trap 'echo int; exit 5' INT; kill -INT "$(sh -c 'echo $PPID')"; sleep 1); echo $?
for i in 1 2 3; do echo $i; done | (read x; echo "$x"; exit 4); echo $?
seq 100000 | wc -l; seq 100000 | head -n 1
a=$(printf 'x\n\n\n'); echo "[$a]"
sleep 10 & kill -9 $!; wait $!; echo $?
echo "$(cat <<X
nested $(echo here)
X
)"
set -- "a b" c; for w; do echo "<$w>"; done; IFS=:; x=1:2:3; set -- $x; echo $#
: >made; [ -e made ] && echo made; cd / && pwd && cd - >/dev/null
readonly r=1; (r=2) 2>/dev/null; echo $?; command -v sh; umask; getopts ab: o -b v; echo "$o $OPTARG"
exec sh -c 'echo replaced; exit 6'
