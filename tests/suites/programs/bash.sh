# bash: what scripts use of it, jobs included.
shopt -s extglob nullglob
declare -A map=([one]=1 [two]=2); for k in one two; do echo "$k=${map[$k]}"; done
list=(a "b c" d); echo "${#list[@]} ${list[1]} ${list[@]: -1}"; printf '<%s>' "${list[@]}"; echo
[[ foobar =~ ^(foo)(b.*)$ ]] && echo "${BASH_REMATCH[2]}"
echo {1..5} {a..c}x; echo $((2 ** 40)) $((0x1f & 7)) $((5 > 3 ? 1 : 0))
cat <(echo substituted) <(echo twice); diff <(seq 3) <(seq 2 4)
echo to | tee >(cat >copied) >/dev/null; until [ -s copied ]; do sleep 0.05; done
while read -r line; do echo "line $line"; done < <(printf 'x\ny\n')
mapfile -t lines < <(seq 3); echo "${lines[*]}"
coproc CAT { cat; }; echo through >&"${CAT[1]}"; read -r back <&"${CAT[0]}"; echo "$back"; kill "$CAT_PID"; wait "$CAT_PID" 2>/dev/null; echo "coproc $?"
trap 'echo usr1' USR1; kill -USR1 $BASHPID; trap 'echo err' ERR; false; trap - ERR
sleep 30 & job=$!; kill -STOP $job; sleep 0.1; kill -CONT $job; kill $job; wait $job; echo "job $?"
(exit 9) & wait $!; echo "status $?"
{ sleep 0.2; echo late; } & { echo early; } & wait
set -o pipefail; false | true; echo "pipefail $?"; echo a | tr a b | tee copy | cat; cat copy; echo "${PIPESTATUS[@]}"
set -m; sleep 30 & fg_pid=$!; jobs -r | wc -l; kill %sleep; wait "$fg_pid" 2>/dev/null; echo "$?"; set +m
x=$(yes | head -n 20000 | wc -l); echo "$x"
printf -v stamp '%(%Y)T' 0; echo "$stamp"; read -r -t 0.1 nothing < <(sleep 1); echo "timeout $((($?) > 128))"
f() { local -n ref=$1; ref=changed; }; v=old; f v; echo "$v"; caller; type -t f; command -v cd
ulimit -n >/dev/null; echo "umask $(umask)"; exec 3<>file; echo data >&3; exec 3>&-; cat file
for i in {1..20}; do (echo "$i" >>many) & done; wait; sort -n many | tail -n 1; wc -l <many; rm many
kill -l TERM; { (kill -SEGV $BASHPID); echo "segv $?"; } 2>/dev/null; (ulimit -t 1 2>/dev/null; exit 0); echo "$?"
help_text=$(help cd | head -n 1); echo "${help_text%%:*}"; echo "${v@Q} ${v^^} ${v/ch/CH}"; echo "$BASH_SUBSHELL $(echo "$BASH_SUBSHELL")"
trap 'echo exit trap' EXIT
exit 17
