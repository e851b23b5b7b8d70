# A hundred lines for busybox: its applets, by its own shell. What they print, and what files they leave behind, is the
# same on the host and in a VM.
set -u
B=busybox
mkdir -p a/b/c && cd a
# Text.
seq 1 20 >numbers
printf 'pear 3\napple 1\nfig 2\napple 7\n' >fruit
$B sort fruit; $B sort -k2 -n fruit; $B sort -u -k1,1 fruit
$B uniq -c numbers | $B head -n 3
$B cut -d' ' -f2 fruit | $B paste -s -d+
$B grep -c apple fruit; $B grep -n 'f.g' fruit; $B grep -v apple fruit; echo "$?"
$B sed -n '2,3p;s/pear/PEAR/p' fruit
$B awk '{ sum += $2 } END { printf "%d %.2f\n", sum, sum / NR }' fruit
$B tr a-z A-Z <fruit | $B rev | $B tac
$B tail -n 2 numbers; $B tail -c 5 numbers | $B od -c
$B wc numbers fruit
$B nl fruit; $B fold -w 3 fruit | $B head -n 2
$B expr 6 '*' 7; $B expr length abcde; $B factor 360
$B comm -12 numbers numbers | $B wc -l
$B diff fruit numbers | $B head -n 4
$B printf '%05d|%-5s|%x\n' 42 ab 255
echo 'one two three' | $B xargs -n 1 echo -
$B yes no | $B head -n 2
$B strings /bin/busybox | $B grep -c BusyBox >/dev/null; echo "$?"
$B hexdump -C fruit | $B head -n 2
$B xxd fruit | $B head -n 1
echo aGVsbG8K | $B base64 -d; $B base64 fruit
$B bc <<X
2^64
X
echo '3 4 * p' | $B dc
# Sums.
$B md5sum fruit; $B sha1sum fruit; $B sha256sum fruit; $B sha512sum fruit; $B cksum fruit; $B crc32 fruit
# Files.
$B touch -d '2020-01-02 03:04:05' old; $B stat -c '%n %s %a %F %Y' old fruit | $B sed 's/ [0-9]*$//'
$B date -u -r old
$B cp -a fruit copy; $B cmp fruit copy; echo "$?"
$B mv copy b/moved; $B ln b/moved hard; $B ln -s b/moved soft; $B readlink soft; $B readlink -f soft | $B sed 's|.*/a/|a/|'
$B stat -c %h hard
$B chmod 640 hard; $B stat -c %a b/moved
$B dd if=/dev/zero of=zeroes bs=1k count=64 2>/dev/null; $B ls -s zeroes | $B wc -l
$B truncate -s 100 zeroes; $B wc -c <zeroes
$B find . -type f -size -2 | $B sort; $B find . -name 'm*' -exec echo found {} ';'
$B du -a b/moved | $B wc -l
$B mkfifo pipe; (echo through >pipe) & $B cat pipe; wait
$B mktemp -d ./tmp.XXXXXX | $B wc -c; rmdir tmp.*
$B test -L soft && echo link; $B test -d b && echo directory; [ fruit -nt old ] && echo newer
$B rm -r b/c; $B ls -a b; $B rmdir b 2>/dev/null; echo "$?"
$B basename /x/y.txt .txt; $B dirname /x/y.txt; $B realpath . | $B sed 's|.*/||'
cat nothing; echo "$?"
# Archives.
$B tar cf all.tar fruit b numbers; $B tar tf all.tar; mkdir out; $B tar xf all.tar -C out; $B ls -R out
$B gzip -k fruit; $B zcat fruit.gz | $B cmp - fruit; $B bzip2 -k numbers; $B bzcat numbers.bz2 | $B tail -n 1
$B gunzip -c fruit.gz | $B sha1sum; $B xz -dc /dev/null 2>/dev/null; echo fruit | $B cpio -o -H newc 2>/dev/null | $B cpio -t 2>/dev/null
rm -f fruit.gz numbers.bz2 all.tar
# Processes.
$B sh -c 'exit 3'; echo "$?"
$B sh -c 'kill -TERM $$'; echo "$?"
$B timeout 1 $B sleep 10; echo "$?"
$B nice -n 5 $B nice; $B nohup echo nohup 2>/dev/null; $B env -i A=b $B env; $B setsid echo session
$B sleep 0.1 & wait $!; echo "$?"
(sleep 5 & kill $!; wait $!; echo "$?") 2>/dev/null
trap 'echo trapped' USR1; kill -USR1 $$
$B time -f '' true; echo "$?"
$B id -u; $B whoami; $B pwd | $B sed 's|.*/||'; $B nproc | $B grep -c .; $B arch; $B uname -s; $B tty; $B printenv HOME
$B ps | $B grep -c . >/dev/null; $B free | $B head -n 1 | $B wc -w; $B uptime >/dev/null; echo "$?"
$B which sh | $B wc -l; $B seq 3 -1 1; $B usleep 1000; $B cal 2 2000 | $B head -n 1; $B pidof nothing-such; echo "$?"
# The shell itself.
f() { local x=$1; [ "$x" -le 1 ] && { echo 1; return; }; echo $((x * $(f $((x - 1))))); }
f 6
i=0; while [ $i -lt 100 ]; do i=$((i + 1)); done; echo $i
case abc in a*) echo starts ;; *) echo not ;; esac
x=abcdef; echo "${x#ab} ${x%ef} ${#x} ${y:-unset} ${x:2:2}"
for w in "$(echo a; echo b)"; do echo "[$w]"; done
cat <<X | while read -r line; do echo "<$line>"; done
here $i
document
X
(set -e; false; echo not reached); echo "$?"
echo a b c | { read -r one rest; echo "$rest $one"; }
exec 5>five; echo to five >&5; exec 5>&-; cat five
umask 027; touch masked; $B stat -c %a masked
set -- x y z; shift; echo "$# $*"; eval 'echo "$1"'; exit 42
